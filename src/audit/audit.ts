/**
 * The audit log: each event is one line of a hash chain, appended in the background. Promises: `record` never blocks or throws; at most
 * `MAX_WAITING` characters wait, what is over is lost and counted, and the chain says how many; a batch that could not be written is
 * cut off again and tried anew, so the chain stays whole; a file that was taken away is begun anew, with the chain kept.
 * Leaves to others: what is recorded, and what follows from `failing`. It does not sync each line: a power cut can take the last ones.
 */
import { lstat, rename, rm } from "node:fs/promises";
import { Buffer } from "node:buffer";
import { systemClock, type Clock, type Timer } from "../base/clock.ts";
import type { LogFields } from "../base/log.ts";
import { firstSeq, fullFiles, fullName, lastOfFull, openFile, readTail, type OpenFile } from "./file.ts";
import { chain, lineBody, type Head } from "./line.ts";
import { takeLock, type Lock } from "./lock.ts";

export interface AuditOptions {
  readonly file: string;
  readonly maxBytes: number;
  /** Full files that are kept beside the current one. */
  readonly keep: number;
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
  const lock = await takeLock(options.file);
  let open: OpenFile | undefined;
  try {
    open = await openFile(options.file);
    const { head, cut } = await readTail(open.handle, { file: options.file, before: await lastOfFull(options.file) });
    const writer = new Writer(options, { lock, open, head, first: await firstSeq(open.handle) });
    if (cut !== undefined) writer.recover(cut);
    return writer;
  } catch (error) {
    await open?.handle.close();
    await lock.release();
    throw error;
  }
}

interface Start {
  readonly lock: Lock;
  readonly open: OpenFile;
  readonly head: Head;
  readonly first: number | undefined;
}

class Writer implements Audit {
  readonly #options: AuditOptions;
  readonly #clock: Clock;
  readonly #lock: Lock;
  #open: OpenFile | undefined;
  /** Bytes of the file that are ours for sure. */
  #size: number;
  /** The number of the file's first line. */
  #first: number | undefined;
  #head: Head;
  #failing: string | undefined;
  #lost = 0;
  #untold = 0;
  #waiting: string[] = [];
  #characters = 0;
  /** A cut line that stands at the end of the file: the next write ends it. */
  #cut = false;
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

  constructor(options: AuditOptions, { lock, open, head, first }: Start) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#lock = lock;
    this.#open = open;
    this.#size = open.size;
    this.#head = head;
    this.#first = first;
    this.#lookedAt = this.#clock.now();
  }

  get failing(): string | undefined {
    if (this.#failing !== undefined || this.#writing === undefined) return this.#failing;
    return this.#clock.now() - this.#movedAt > STUCK_MS ? "the disk does not answer" : undefined;
  }
  get head(): Head & { readonly file: string } {
    return { ...this.#head, file: this.#options.file };
  }
  get lost(): number {
    return this.#lost;
  }

  /** Ends a line that a crash cut, and says so; what the cut line no longer says, which line is `before` it, is said again. */
  recover(before: Head): void {
    this.#cut = true;
    this.record({ event: "audit recovered", after: before.hash });
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
    await this.#open?.handle.datasync().catch(() => {}); // what it could say, the next start reads from the file
    await this.#open?.handle.close().catch(() => {});
    await this.#lock.release().catch(() => {});
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
    const open = await this.#prepare();
    const gap = this.#untold;
    const bodies = gap > 0 ? [lineBody({ event: "audit gap", lost: gap }, this.#clock.wall())] : [];
    const told = bodies.length;
    let [taken, characters] = [0, 0];
    // What ends a cut line must follow it: a gap is told in the next batch.
    if (this.#cut) bodies.length = 0;
    const room = Math.min(MAX_BATCH, this.#options.maxBytes - this.#size);
    for (const body of this.#waiting) {
      if (characters + body.length > room && taken > 0) break;
      bodies.push(body);
      characters += body.length;
      taken++;
    }
    if (bodies.length === 0) return;
    let head = this.#head;
    let text = this.#cut ? "\n" : "";
    for (const body of bodies) {
      const next = chain(body, head);
      text += `${next.line}\n`;
      head = next.head;
    }
    await this.#append(open, Buffer.from(text));
    this.#movedAt = this.#clock.now();
    this.#first ??= this.#head.seq + 1;
    this.#head = head;
    if (!this.#cut) this.#untold -= told === 0 ? 0 : gap;
    this.#cut = false;
    for (const body of this.#waiting.splice(0, taken)) this.#characters -= body.length;
  }

  /** All of it, or nothing that stays: the next try cuts off what a failed one left. */
  async #append({ handle }: OpenFile, bytes: Buffer): Promise<void> {
    let written = 0;
    while (written < bytes.length) {
      const { bytesWritten } = await handle.write(bytes, written, bytes.length - written, null);
      if (bytesWritten === 0) throw Object.assign(new Error("nothing was written"), { code: "ENOSPC" });
      written += bytesWritten;
    }
    this.#size += bytes.length;
  }

  /** The file to write to: looked at, cut to what is ours, put aside when it is full. */
  async #prepare(): Promise<OpenFile> {
    const { file, maxBytes } = this.#options;
    const now = this.#clock.now();
    if (this.#open !== undefined && (now - this.#lookedAt >= LOOK_MS || this.#failing !== undefined)) {
      this.#lookedAt = now;
      await this.#lock.keep();
      const { ino } = this.#open;
      const found = await lstat(file).catch((error: NodeJS.ErrnoException) =>
        error.code === "ENOENT" ? undefined : Promise.reject(error),
      );
      if (found?.ino !== ino) await this.#leave();
    }
    const open = (this.#open ??= await this.#begin());
    if (this.#failing !== undefined && (await open.handle.stat()).size > this.#size) await open.handle.truncate(this.#size);
    if (this.#size < maxBytes || this.#first === undefined || this.#cut) return open;
    await this.#rotate(this.#first);
    return (this.#open = await this.#begin());
  }

  async #leave(): Promise<void> {
    const left = this.#open;
    this.#open = undefined;
    await left?.handle.close();
  }

  /** A file that somebody put there meanwhile is appended to, as it is. */
  async #begin(): Promise<OpenFile> {
    const open = await openFile(this.#options.file);
    try {
      const { cut } = await readTail(open.handle, { file: this.#options.file, before: this.#head });
      this.#first = await firstSeq(open.handle);
      this.#size = open.size;
      this.#cut = cut !== undefined;
      return open;
    } catch (error) {
      await open.handle.close();
      throw error;
    }
  }

  async #rotate(first: number): Promise<void> {
    const { file, keep } = this.#options;
    const full = fullName(file, first);
    const there = await lstat(full).catch(() => undefined);
    if (there !== undefined) throw new Error(`${full} is in the way of the full file; look what it is, and move it away`);
    await rename(file, full);
    await this.#leave();
    const all = await fullFiles(file);
    for (const old of all.slice(0, Math.max(0, all.length - keep))) await rm(old, { force: true });
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
