/**
 * Loads the config anew when it is asked to, or when a file of it has changed, and puts it in force. Promises: one load at a time; requests
 * that come meanwhile share the next one; a config that is not taken is told once and tried again every few seconds, so that what is mended
 * elsewhere (a missing file, a port) needs no second push; in a drain nothing happens. Leaves to others: what a config is (config/), what
 * putting it in force means (gateway.ts), signals.
 */
import type { Clock, Timer } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { FileWatch } from "../base/watch.ts";
import type { InForce } from "../config/config.ts";
import type { LoadedConfig } from "../config/load.ts";
import type { Gateway } from "../gateway.ts";

export type Outcome = { readonly ok: true; readonly summary: string } | { readonly ok: false; readonly lines: readonly string[] };

export interface ReloaderOptions {
  readonly gateway: Pick<Gateway, "state" | "inForce" | "reload" | "reloadFailed">;
  readonly clock: Clock;
  load(inForce: InForce): Promise<LoadedConfig>;
  /** Watches the files, and calls `changed` when they have. */
  watch(files: readonly string[], changed: () => void): FileWatch;
}

const RETRY_MS = 5_000;

export class Reloader {
  readonly #options: ReloaderOptions;
  readonly #watch: FileWatch;
  #files: readonly string[];
  #running: Promise<Outcome> | undefined;
  #next: Promise<Outcome> | undefined;
  #retry: Timer | undefined;
  #stopped = false;

  /** `files`: those that the config in force was made of. */
  constructor(files: readonly string[], options: ReloaderOptions) {
    this.#options = options;
    this.#files = files;
    this.#watch = options.watch(files, () => void this.request());
    void this.request(); // these were read before they were watched
  }

  /** Never rejects. */
  request(): Promise<Outcome> {
    if (this.#running === undefined) return (this.#running = this.#run().finally(() => (this.#running = undefined)));
    return (this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      return this.request();
    }));
  }

  async #run(): Promise<Outcome> {
    const { gateway, clock, load } = this.#options;
    this.#retry?.cancel();
    const { state } = gateway;
    if (this.#stopped || state !== "ready") return { ok: false, lines: [`the gateway is ${state}: it takes no other config now`] };
    try {
      await this.#watch.watch(this.#files); // what changes from now on is another change
      const config = await load(gateway.inForce);
      const { version, changes } = await gateway.reload(config);
      if (!this.#stopped) await this.#follow(config.files);
      return { ok: true, summary: `version ${version}: ${changes.length === 0 ? "nothing has changed" : changes.join(", ")}` };
    } catch (error) {
      const lines = linesOf(error);
      if (gateway.state === "ready") {
        gateway.reloadFailed(lines);
        if (!this.#stopped) this.#retry = clock.after(RETRY_MS, () => void this.request());
      }
      return { ok: false, lines };
    }
  }

  /**
   * Files that are named for the first time were read before they were watched: they are read once more. The others keep what was
   * acknowledged before the load, so that what changed during it is another change.
   */
  async #follow(files: readonly string[]): Promise<void> {
    const known = new Set(this.#files);
    const added = files.filter((file) => !known.has(file));
    this.#files = files;
    if (added.length === 0) return;
    await this.#watch.extend(added);
    void this.request();
  }

  stop(): void {
    this.#stopped = true;
    this.#retry?.cancel();
    this.#watch.stop();
  }
}

function linesOf(error: unknown): readonly string[] {
  if (!(error instanceof PipegateError)) return [error instanceof Error ? (error.stack ?? error.message) : String(error)];
  if (error.details.length > 0) return error.details;
  return [error.next === undefined ? error.message : `${error.message}; ${error.next}`];
}
