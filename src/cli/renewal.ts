/**
 * Our certificate, its key and the CAs, read again when their files change. Promises: only a whole set that fits is ever taken; what does
 * not is said once and the old one stays; what the shell handed over as a pipe is read once and never again.
 * Leaves to others: connecting with them.
 */
import type { Clock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import { type FileWatch, watchFiles } from "../base/watch.ts";
import { checkCredentials, type ClientCredentials } from "../client/credentials.ts";
import { momentText } from "./connection.ts";
import { readAgain, type Settings } from "./settings.ts";
import { complain } from "./terminal.ts";

export class RenewedCredentials {
  /** The last ones that fitted. */
  newest: ClientCredentials;
  readonly #settings: Settings;
  readonly #clock: Clock;
  #watch: FileWatch | undefined;
  #complaint: string | undefined;
  #reading: Promise<unknown> = Promise.resolve();

  constructor(settings: Settings, { clock }: { readonly clock: Clock }) {
    const { certificate, key, ca } = settings.connect;
    this.newest = { certificate, key, ca };
    this.#settings = settings;
    this.#clock = clock;
  }

  /** From now on tells when `newest` is another one, until `stop`. */
  watch(renewed: () => void): void {
    const files = Object.values(this.#settings.files);
    if (files.some((file) => /^\/(?:dev|proc)\//u.test(file))) return;
    const changed = async (): Promise<void> => {
      if (await this.refresh()) renewed();
    };
    this.#watch = watchFiles([], { clock: this.#clock, changed: () => void changed() });
    void this.#watch.watch(files).then(changed); // they may have changed since they were read
  }
  stop(): void {
    this.#watch?.stop();
  }

  /** Reads the files now; whether `newest` is another one since. */
  refresh(): Promise<boolean> {
    const before = this.newest;
    const read = this.#reading.then(async () => {
      await this.#read();
      return this.newest !== before;
    });
    this.#reading = read;
    return read;
  }

  async #read(): Promise<void> {
    try {
      const next = await readAgain(this.#settings);
      const { certificate, key, ca } = this.newest;
      if (next.certificate === certificate && next.key === key && next.ca === ca) return void (this.#complaint = undefined);
      this.#judge(next);
      this.newest = next;
      this.#complaint = undefined;
    } catch (error) {
      const line = `pipegate: ${error instanceof PipegateError ? error.message : String(error)}; the old certificate stays in use`;
      if (line !== this.#complaint) complain(line);
      this.#complaint = line;
    }
  }
  #judge(next: ClientCredentials): void {
    const { files } = this.#settings;
    const { notAfter } = checkCredentials(next, files).own;
    if (notAfter <= this.#clock.wall()) {
      throw new PipegateError("cert_expired", `the certificate in ${files.certificate} expired ${momentText(new Date(notAfter))}`);
    }
  }
}

/** What a person is told of credentials that took the place of others. */
export function renewalText(next: ClientCredentials, before: ClientCredentials): string {
  if (next.certificate === before.certificate) return "pipegate: the key or the CAs were read again";
  const { notAfter } = checkCredentials(next).own;
  return `pipegate: the certificate was renewed: until ${momentText(new Date(notAfter))}`;
}
