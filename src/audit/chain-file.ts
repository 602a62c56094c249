/**
 * The end of the audit log's chain, and the file that it stands in. Promises: a batch of lines is appended whole, or what stays of it is cut
 * off before the next; a file that was taken away is begun anew, one that is full is put aside, and the chain goes on in both.
 * Leaves to others: what the lines say and when (audit.ts), what a file may be (file.ts).
 */
import { Buffer } from "node:buffer";
import { lstat, rename, rm } from "node:fs/promises";
import { firstSeq, fullFiles, fullName, lastOfFull, openFile, readTail, type OpenFile } from "./file.ts";
import { chain, type Head } from "./line.ts";
import { takeLock, type Lock } from "./lock.ts";

export interface ChainFileOptions {
  readonly file: string;
  readonly maxBytes: number;
  /** Full files that are kept beside the current one. */
  readonly keep: number;
}

interface Start {
  readonly lock: Lock;
  readonly open: OpenFile;
  readonly head: Head;
  readonly first: number | undefined;
}

/** Takes its lock. Rejects with a PipegateError (`config`), or the system's error; `cut`: the file ends in a cut line, and this is the one before. */
export async function openChainFile(options: ChainFileOptions): Promise<{ readonly file: ChainFile; readonly cut: Head | undefined }> {
  const lock = await takeLock(options.file);
  let open: OpenFile | undefined;
  try {
    open = await openFile(options.file);
    const { head, cut } = await readTail(open.handle, { file: options.file, before: await lastOfFull(options.file) });
    const file = new ChainFile(options, { lock, open, head, first: await firstSeq(open.handle) });
    file.isCut = cut !== undefined;
    return { file, cut };
  } catch (error) {
    await open?.handle.close();
    await lock.release();
    throw error;
  }
}

export class ChainFile {
  /** A cut line stands at the end of the file: the next append ends it. */
  isCut = false;
  readonly #options: ChainFileOptions;
  readonly #lock: Lock;
  #open: OpenFile | undefined;
  /** Bytes of the file that are ours for sure. */
  #size: number;
  /** The number of the file's first line. */
  #first: number | undefined;
  #head: Head;

  constructor(options: ChainFileOptions, { lock, open, head, first }: Start) {
    this.#options = options;
    this.#lock = lock;
    this.#open = open;
    this.#size = open.size;
    this.#head = head;
    this.#first = first;
  }

  /** The last line written. */
  get head(): Head {
    return this.#head;
  }

  /** Bytes until it is full. */
  get room(): number {
    return this.#options.maxBytes - this.#size;
  }

  /**
   * Makes it fit to be appended to: `look`: whether it is still the one of that name, and ours; `failed`: the last append did, so what it
   * left is cut off. Put aside when it is full.
   */
  async prepare({ look, failed }: { readonly look: boolean; readonly failed: boolean }): Promise<void> {
    if (look && this.#open !== undefined) await this.#look(this.#open);
    const { handle } = (this.#open ??= await this.#begin());
    if (failed && (await handle.stat()).size > this.#size) await handle.truncate(this.#size);
    if (this.room > 0 || this.#first === undefined || this.isCut) return;
    await this.#rotate(this.#first);
    this.#open = await this.#begin();
  }

  /** Lines with what these bodies say, in their order: all of them, or nothing that stays. After `prepare`. */
  async append(bodies: readonly string[]): Promise<void> {
    let head = this.#head;
    let text = this.isCut ? "\n" : "";
    for (const body of bodies) {
      const next = chain(body, head);
      text += `${next.line}\n`;
      head = next.head;
    }
    const bytes = Buffer.from(text);
    const { handle } = this.#open!;
    for (let written = 0; written < bytes.length;) {
      const { bytesWritten } = await handle.write(bytes, written, bytes.length - written, null);
      if (bytesWritten === 0) throw Object.assign(new Error("nothing was written"), { code: "ENOSPC" });
      written += bytesWritten;
    }
    this.#size += bytes.length;
    this.#first ??= this.#head.seq + 1;
    this.#head = head;
    this.isCut = false;
  }

  /** What the disk could not say by now, the next start reads from the file. Never rejects. */
  async close(): Promise<void> {
    await this.#open?.handle.datasync().catch(() => {});
    await this.#open?.handle.close().catch(() => {});
    await this.#lock.release().catch(() => {});
  }

  async #look({ ino }: OpenFile): Promise<void> {
    await this.#lock.keep();
    const found = await lstat(this.#options.file).catch((error: NodeJS.ErrnoException) =>
      error.code === "ENOENT" ? undefined : Promise.reject(error),
    );
    if (found?.ino !== ino) await this.#leave();
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
      this.isCut = cut !== undefined;
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
}
