/**
 * The audit log: each event is one line of a hash chain, appended in the background. Promises: `record` never blocks or throws; at most
 * `MAX_WAITING` characters wait, what is over is lost and counted, and the chain says how many; a batch that could not be written is
 * tried anew. Leaves to others: what is recorded, what follows from `failing`, the file (chain-file.ts). It does not sync each line: a
 * power cut can take the last ones.
 */
import { systemClock, type Clock, type Timer } from "../base/clock.ts";
import type { LogFields } from "../base/log.ts";
import { openChainFile, type ChainFile, type ChainFileOptions } from "./chain-file.ts";
import { lineBody, type Head } from "./line.ts";

export interface AuditOptions extends ChainFileOptions {
  readonly clock?: Clock;
  /** It cannot be written: said at once, then at most once a minute. */
  onTrouble(detail: string): void;
  /** It is written again, after a trouble that was said. */
  onWell(): void;
}

export interface Audit {
  record(fields: LogFields): void;
  /** Why it cannot be written now. */
  readonly failing: string | undefined;
  /** The last line written. */
  readonly head: Head & { readonly file: string };
  /** Lines that never will be written. */
  readonly lost: number;
  /** Writes what waits, once; closes the file. */
  close(): Promise<void>;
}

const BATCH_MS = 20;
const MAX_BATCH = 256 << 10;
const MAX_WAITING = 8 << 20;
const LOOK_MS = 1_000;
const TROUBLE_MS = 60_000;
/** A write that takes longer is one that fails: the disk, or whoever serves it, hangs. */
const STUCK_MS = 5_000;
const RETRY_MS = { first: 250, longest: 10_000 } as const;

/** Rejects with a PipegateError (`config`), or the system's error, when it cannot be had. */
export async function openAudit(options: AuditOptions): Promise<Audit> {
  const { file, cut } = await openChainFile(options);
  const writer = new Writer(options, file);
  // It ends what a crash cut; what that no longer says, which line is before it, is said again.
  if (cut !== undefined) writer.record({ event: "audit recovered", after: cut.hash });
  return writer;
}

class Writer implements Audit {
  readonly #options: AuditOptions;
  readonly #clock: Clock;
  readonly #file: ChainFile;
  #failing: string | undefined;
  #lost = 0;
  #untold = 0;
  #waiting: string[] = [];
  #characters = 0;
  #timer: Timer | undefined;
  #writing: Promise<void> | undefined;
  #retryMs: number = RETRY_MS.first;
  /** When something was written last, or begun. */
  #movedAt = 0;
  #lookedAt: number;
  #troubledAt = -Infinity;
  /** Whether the trouble that is now was told. */
  #said = false;
  #closed = false;

  constructor(options: AuditOptions, file: ChainFile) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#file = file;
    this.#lookedAt = this.#clock.now();
  }

  get failing(): string | undefined {
    if (this.#failing !== undefined || this.#writing === undefined) return this.#failing;
    return this.#clock.now() - this.#movedAt > STUCK_MS ? "the disk does not answer" : undefined;
  }
  get head(): Head & { readonly file: string } {
    return { ...this.#file.head, file: this.#options.file };
  }
  get lost(): number {
    return this.#lost;
  }

  record(fields: LogFields): void {
    try {
      const body = lineBody(fields, this.#clock.wall());
      if (this.#closed || this.#characters + body.length > MAX_WAITING) return this.#lose();
      this.#waiting.push(body);
      this.#characters += body.length;
      if (this.#writing === undefined) this.#timer ??= this.#clock.after(BATCH_MS, () => this.#start());
    } catch {
      this.#lose(); // a field that throws when it is read
    }
  }

  #lose(): void {
    this.#lost++;
    this.#untold++;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    await this.#writing;
    this.#timer?.cancel();
    await this.#drain();
    this.#lost += this.#waiting.length;
    await this.#file.close();
  }

  #start(): void {
    this.#timer = undefined;
    this.#movedAt = this.#clock.now();
    this.#writing = this.#drain().finally(() => {
      this.#writing = undefined;
      if (this.#closed || (this.#waiting.length === 0 && this.#failing === undefined)) return;
      this.#timer = this.#clock.after(this.#failing === undefined ? BATCH_MS : this.#retryMs, () => this.#start());
    });
  }

  /** Writes all that waits, or sets `failing`. Never rejects. */
  async #drain(): Promise<void> {
    try {
      do await this.#writeBatch();
      while (this.#waiting.length > 0);
      this.#well();
    } catch (error) {
      this.#trouble(error as NodeJS.ErrnoException);
    }
  }

  async #writeBatch(): Promise<void> {
    const file = this.#file;
    const failed = this.#failing !== undefined;
    const now = this.#clock.now();
    const look = failed || now - this.#lookedAt >= LOOK_MS;
    if (look) this.#lookedAt = now;
    await file.prepare({ look, failed });
    // What ends a cut line must follow it: a gap is told in the next batch.
    const gap = file.isCut ? 0 : this.#untold;
    const bodies = gap > 0 ? [lineBody({ event: "audit gap", lost: gap }, this.#clock.wall())] : [];
    const room = Math.min(MAX_BATCH, file.room);
    let [taken, characters] = [0, 0];
    for (const body of this.#waiting) {
      if (characters + body.length > room && taken > 0) break;
      bodies.push(body);
      characters += body.length;
      taken++;
    }
    if (bodies.length === 0) return;
    await file.append(bodies);
    this.#movedAt = this.#clock.now();
    this.#untold -= gap;
    for (const body of this.#waiting.splice(0, taken)) this.#characters -= body.length;
  }

  #well(): void {
    if (this.#failing === undefined) return;
    this.#failing = undefined;
    this.#retryMs = RETRY_MS.first;
    if (!this.#said) return;
    this.#said = false;
    tell(() => this.#options.onWell());
  }

  #trouble(error: NodeJS.ErrnoException): void {
    const again = this.#failing !== undefined;
    this.#failing = troubleText(error);
    this.#retryMs = again ? Math.min(this.#retryMs * 2, RETRY_MS.longest) : RETRY_MS.first;
    const now = this.#clock.now();
    if (now - this.#troubledAt < TROUBLE_MS) return;
    this.#troubledAt = now;
    this.#said = true;
    const detail = this.#failing;
    tell(() => this.#options.onTrouble(detail));
  }
}

/** What a listener throws must not end the writing. */
function tell(act: () => void): void {
  try {
    act();
  } catch {
    // there is nobody to tell
  }
}

function troubleText(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "ENOSPC":
    case "EDQUOT":
      return "the disk is full";
    case "EFBIG":
      return "the file may not grow any more (a limit of the process)";
    case "ENOENT":
      return "its folder is gone";
    case "EACCES":
    case "EPERM":
      return "it may not be written by this process";
    default:
      return error.message;
  }
}
