/**
 * The audit log for who must go on without it: when the disk is full at the start, lines are counted instead, and opening is tried again
 * until it succeeds. Promises: what is wrong otherwise (a folder, another writer, no permission) rejects with a sentence; what was lost
 * meanwhile is the first line. Leaves to others: writing (audit.ts).
 */
import { systemClock, type Timer } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { LogFields } from "../base/log.ts";
import { openAudit, type Audit, type AuditOptions } from "./audit.ts";
import { GENESIS } from "./line.ts";

/** What passes by itself. */
const passing: ReadonlyMap<unknown, string> = new Map([
  ["ENOSPC", "the disk is full"],
  ["EDQUOT", "the disk is full"],
  ["EIO", "the disk fails"],
]);
const RETRY_MS = 5_000;

/** Opens it now, or rejects with a PipegateError (`config`). `mayWait`: a disk that is full is waited for. */
export async function beginAudit(options: AuditOptions, { mayWait }: { readonly mayWait: boolean }): Promise<Audit> {
  try {
    return await openAudit(options);
  } catch (error) {
    if (error instanceof PipegateError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const failing = passing.get(code);
    if (failing !== undefined && mayWait) return new WaitingAudit(options, failing);
    throw new PipegateError("config", `the audit log ${options.file} cannot be opened: ${failing ?? message}`, {
      next: "make its folder, for this user to write in, or make room there",
      cause: error,
    });
  }
}

class WaitingAudit implements Audit {
  readonly #options: AuditOptions;
  #audit: Audit | undefined;
  #failing: string;
  #lost = 0;
  #timer: Timer | undefined;
  #trying: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: AuditOptions, failing: string) {
    this.#options = options;
    this.#failing = failing;
    options.onTrouble(`${options.file}: ${failing}`);
    this.#arm();
  }

  get failing(): string | undefined {
    return this.#audit === undefined ? this.#failing : this.#audit.failing;
  }
  get head(): Audit["head"] {
    return this.#audit?.head ?? { ...GENESIS, file: this.#options.file };
  }
  get lost(): number {
    return this.#lost + (this.#audit?.lost ?? 0);
  }

  record(fields: LogFields): void {
    if (this.#audit === undefined) this.#lost++;
    else this.#audit.record(fields);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#trying;
    await this.#audit?.close();
  }

  #arm(): void {
    this.#timer = (this.#options.clock ?? systemClock).after(RETRY_MS, () => {
      this.#trying = this.#try();
    });
  }

  async #try(): Promise<void> {
    try {
      const audit = await openAudit(this.#options);
      if (this.#lost > 0) audit.record({ event: "audit gap", lost: this.#lost });
      this.#audit = audit;
      this.#options.onWell();
    } catch (error) {
      this.#failing = passing.get((error as NodeJS.ErrnoException).code) ?? (error as Error).message;
      if (!this.#closed) this.#arm();
    }
  }
}
