/**
 * Checks the files of an audit log in their order: that each line follows the one before. Promises: bounded memory, and time in proportion
 * to the files, whatever they hold; a removed, added, changed, swapped or doubled line is told with its file and line. Cannot see: lines
 * cut off at the very end, or a chain that was made anew from its first line; only a head that was noted elsewhere shows that.
 */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Buffer } from "node:buffer";
import { currentName, fullFiles, numberOf } from "./file.ts";
import { GENESIS, hashOf, type Head, type Line, MAX_LINE_BYTES, readLine, RunningHash } from "./line.ts";

export interface Fault {
  readonly file: string;
  readonly line: number;
  readonly says: string;
}

export interface Verified {
  readonly files: readonly string[];
  readonly lines: number;
  /** Lines that a crash cut, as the log itself says. */
  readonly cut: number;
  /** The number of the first line; 1 unless older files were removed. */
  readonly firstSeq: number | undefined;
  readonly firstTime: string | undefined;
  readonly lastTime: string | undefined;
  readonly head: Head;
  /** At most `MAX_FAULTS`. */
  readonly faults: readonly Fault[];
  /** Whether a line has the hash that was asked for; undefined: none was. */
  readonly headFound: boolean | undefined;
}

const MAX_FAULTS = 20;
const newline = Buffer.from("\n");

/** Rejects with the system's error when a file cannot be read. A rotation meanwhile is no fault. */
export async function verifyAudit(file: string, { head }: { readonly head?: string } = {}): Promise<Verified> {
  for (let tries = 0; ; tries++) {
    const files = await filesOf(file);
    const verified = await verifyFiles(files, head).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" && tries < 3) return undefined;
      throw error;
    });
    const after = await filesOf(file);
    if (verified !== undefined && (tries === 3 || files.join("\n") === after.join("\n"))) return verified;
  }
}

async function filesOf(file: string): Promise<string[]> {
  const current = currentName(file);
  const full = await fullFiles(current);
  const there = await stat(current).then(
    () => true,
    (error: NodeJS.ErrnoException) => (error.code === "ENOENT" && full.length > 0 ? false : Promise.reject(error)),
  );
  return there ? [...full, current] : full;
}

async function verifyFiles(files: readonly string[], head: string | undefined): Promise<Verified> {
  const check = new Check(head);
  for (const file of files) await check.file(file);
  return check.result(files);
}

/** Begins with the line at its place. */
interface Pending extends Place {
  /** Of the lines, with the newlines between them. */
  readonly hash: RunningHash;
  size: number;
  lines: number;
  /** A newline ends the last one: nobody is writing it any more. */
  ended: boolean;
}

interface Place {
  readonly file: string;
  readonly line: number;
}

class Check {
  readonly #wanted: string | undefined;
  #found = false;
  #lines = 0;
  #cuts = 0;
  #firstSeq: number | undefined;
  #firstTime: string | undefined;
  #lastTime: string | undefined;
  #head: Head | undefined;
  /** Lines that cannot be read: cut by crashes, one after the other, when the next line says so. */
  #pending: Pending | undefined;
  readonly #faults: Fault[] = [];

  constructor(wanted: string | undefined) {
    this.#wanted = wanted;
  }

  async file(file: string): Promise<void> {
    let line = 0;
    let rest: Buffer = Buffer.alloc(0);
    for await (const chunk of createReadStream(file, { highWaterMark: 256 << 10 }) as AsyncIterable<Buffer>) {
      let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10)) {
        this.#line(bytes.subarray(0, end), { file, line: ++line });
        bytes = bytes.subarray(end + 1);
      }
      // Of a line beyond the bound only its beginning is kept: it is none of ours, whatever its end.
      rest = Buffer.from(bytes.subarray(0, MAX_LINE_BYTES + 1));
    }
    if (rest.length > 0) this.#unended(rest, { file, line: line + 1 });
  }

  /** The file's last line has no end: its writer is at it, or was cut off. */
  #unended(bytes: Buffer, place: Place): void {
    this.#unread(bytes, { ...place, ended: false });
  }

  #unread(bytes: Buffer, { ended, ...place }: Place & { readonly ended: boolean }): void {
    let pending = this.#pending;
    if (pending === undefined || pending.file !== place.file || pending.size + bytes.length > 2 * MAX_LINE_BYTES) {
      this.#settle();
      pending = this.#pending = { ...place, hash: new RunningHash(), size: 0, lines: 0, ended };
    } else {
      pending.hash.add(newline);
      pending.size += newline.length;
    }
    pending.hash.add(bytes);
    pending.size += bytes.length;
    pending.lines++;
    pending.ended = ended;
  }

  #line(bytes: Buffer, place: Place): void {
    const read = bytes.length > MAX_LINE_BYTES ? undefined : readLine(bytes);
    if (read === undefined) return this.#unread(bytes, { ...place, ended: true });
    const cut = this.#pending;
    const cuts = cut !== undefined && read.event === "audit recovered" && read.prev === cut.hash.digest() ? cut.lines : 0;
    if (cuts > 0) {
      this.#pending = undefined;
      this.#cuts += cuts;
    } else this.#settle();
    this.#follow(read, { ...place, cuts });
    this.#head = { seq: read.seq, hash: hashOf(bytes) };
    this.#found ||= this.#head.hash === this.#wanted;
    this.#lines++;
    this.#firstSeq ??= read.seq;
    this.#firstTime ??= read.time;
    this.#lastTime = read.time;
  }

  #follow({ seq, prev, after }: Pick<Line, "seq" | "prev" | "after">, { cuts, ...place }: Place & { readonly cuts: number }): void {
    const before = this.#head;
    if (before === undefined) {
      const first = numberOf(place.file) ?? 1;
      if (seq === 1 && prev !== GENESIS.hash) this.#fault(place, "the log's first line does not begin a chain: it was changed");
      // Full files are removed from the oldest on, so only they may begin later than the log.
      if (first < seq - cuts || first > seq) this.#fault(place, `the lines before it are missing: it has number ${seq}`);
      return;
    }
    // A line that was cut before its number has none.
    const least = before.seq + (cuts > 0 ? 2 : 1);
    const expected = Math.max(least, Math.min(seq, before.seq + 1 + cuts));
    if (seq > expected) this.#fault(place, `${seq - expected} lines are missing before it: number ${seq} follows ${before.seq}`);
    else if (seq < expected) this.#fault(place, `it is doubled, added or out of its order: number ${seq} follows ${before.seq}`);
    else if ((cuts > 0 ? after : prev) !== before.hash)
      this.#fault(place, "it does not follow from the line before: one of the two was changed");
  }

  /** What could not be read is no cut line: nothing says that it was. */
  #settle(): void {
    const { file, line } = this.#pending ?? {};
    if (file !== undefined && line !== undefined) this.#fault({ file, line }, "it is no line of an audit log: it was changed or added");
    this.#pending = undefined;
  }

  #fault(place: Place, says: string): void {
    if (this.#faults.length < MAX_FAULTS) this.#faults.push({ file: place.file, line: place.line, says });
  }

  result(files: readonly string[]): Verified {
    const last = this.#pending;
    const unended = last !== undefined && !last.ended && last.file === files.at(-1);
    if (!unended) this.#settle();
    return {
      files,
      lines: this.#lines,
      cut: this.#cuts + (unended ? 1 : 0),
      firstSeq: this.#firstSeq,
      firstTime: this.#firstTime,
      lastTime: this.#lastTime,
      head: this.#head ?? GENESIS,
      faults: this.#faults,
      headFound: this.#wanted === undefined ? undefined : this.#found,
    };
  }
}
