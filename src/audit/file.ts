/**
 * The audit log's files: the current one, and full ones beside it, named by the number of their first line, so that a rotation is one
 * rename and their order is that of their names. Promises: a file is for its owner alone from birth; a link, a pipe, a device, a
 * folder, a file of another owner, with a second name, or that others may change is refused. Leaves to others: the lock, the chain.
 */
import { constants, type Stats } from "node:fs";
import { lstat, open, readdir, type FileHandle } from "node:fs/promises";
import { Buffer } from "node:buffer";
import { basename, dirname, join } from "node:path";
import { PipegateError } from "../base/error.ts";
import { GENESIS, hashOf, type Head, MAX_LINE_BYTES, readLine, seqOfCut } from "./line.ts";

const NUMBER = /\.(\d{16})$/;

/** Where a full file goes whose first line has the number `seq`. */
export function fullName(file: string, seq: number): string {
  return `${file}.${String(seq).padStart(16, "0")}`;
}

/** The current file that `file`, which may be a full one, belongs to. */
export function currentName(file: string): string {
  return file.replace(NUMBER, "");
}

/** The number of the first line of a full file, by its name. */
export function numberOf(file: string): number | undefined {
  const digits = NUMBER.exec(file)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The full files beside `file`, oldest first. */
export async function fullFiles(file: string): Promise<string[]> {
  const [folder, name] = [dirname(file), basename(file)];
  const names = await readdir(folder);
  return names
    .filter((other) => NUMBER.test(other) && other.replace(NUMBER, "") === name)
    .sort()
    .map((other) => join(folder, other));
}

export interface OpenFile {
  readonly handle: FileHandle;
  readonly ino: number;
  readonly size: number;
}

/** Opens it to append, making it when it is missing. Rejects with a PipegateError (`config`) or the system's error. */
export async function openFile(file: string): Promise<OpenFile> {
  const before = await lstat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (before !== undefined && !before.isFile()) throw refusal(file, "is not a regular file");
  const { O_RDWR, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = constants;
  const born = before === undefined ? O_CREAT | O_EXCL : 0;
  const handle = await open(file, O_RDWR | O_APPEND | born | O_NOFOLLOW | O_NONBLOCK, 0o600);
  try {
    const found = await handle.stat();
    const fault = faultOf(found, before?.ino);
    if (fault !== undefined) throw refusal(file, fault);
    return { handle, ino: found.ino, size: found.size };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

type Found = Pick<Stats, "isFile" | "ino" | "nlink" | "uid" | "mode">;

function faultOf(found: Found, ino: number | undefined): string | undefined {
  if (!found.isFile()) return "is not a regular file";
  if (ino !== undefined && found.ino !== ino) return "was exchanged while it was opened";
  if (process.platform === "win32") return undefined; // no such modes there
  if (found.nlink !== 1) return "has a second name (a hard link)";
  if (found.uid !== (process.geteuid?.() ?? found.uid)) return `belongs to another user (uid ${found.uid})`;
  if ((found.mode & 0o022) !== 0) return "may be changed by others on this host; chmod 600 it";
  return undefined;
}

function refusal(file: string, says: string): PipegateError {
  return new PipegateError("config", `the audit log ${file} ${says}`, {
    next: "name a file of its own, in a folder of the gateway's user",
  });
}

export interface Tail {
  readonly head: Head;
  /** The last line lacks its end, and with it the hash of this line before it. */
  readonly cut: Head | undefined;
}

/** What a file ends with. `before`: the last line of the file before it. */
export async function readTail(handle: FileHandle, { file, before }: { readonly file: string; readonly before: Head }): Promise<Tail> {
  const { size } = await handle.stat();
  if (size === 0) return { head: before, cut: undefined };
  // The last line, the newline before it, and the line before that.
  const bytes = await readAt(handle, { from: Math.max(0, size - 2 * MAX_LINE_BYTES - 2), to: size });
  const cut = bytes.at(-1) !== 10;
  const ends = cut ? bytes.length : bytes.length - 1;
  const begins = ends === 0 ? 0 : bytes.lastIndexOf(10, ends - 1) + 1;
  const last = bytes.subarray(begins, ends);
  if (!cut) return { head: wholeHead(last, file), cut: undefined };
  const earlier = begins === 0 ? before : wholeHead(bytes.subarray(bytes.lastIndexOf(10, begins - 2) + 1, begins - 1), file);
  if (begins === 0 && seqOfCut(last) === undefined && !'{"seq":'.startsWith(last.subarray(0, 7).toString("latin1"))) throw foreign(file);
  return { head: { seq: seqOfCut(last) ?? earlier.seq + 1, hash: hashOf(last) }, cut: earlier };
}

/** The number of the first line of a file that has one. */
export async function firstSeq(handle: FileHandle): Promise<number | undefined> {
  const { size } = await handle.stat();
  return seqOfCut(await readAt(handle, { from: 0, to: Math.min(size, 64) }));
}

/** The last line of the newest full file. */
export async function lastOfFull(file: string): Promise<Head> {
  const newest = (await fullFiles(file)).at(-1);
  if (newest === undefined) return GENESIS;
  const handle = await open(newest, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    if (!(await handle.stat()).isFile()) throw refusal(newest, "is not a regular file");
    return (await readTail(handle, { file: newest, before: GENESIS })).head;
  } finally {
    await handle.close();
  }
}

function wholeHead(line: Buffer, file: string): Head {
  const read = readLine(line);
  if (read === undefined) throw foreign(file);
  return { seq: read.seq, hash: hashOf(line) };
}

function foreign(file: string): PipegateError {
  return new PipegateError("config", `${file} does not end as an audit log does`, {
    next: "look what wrote to it, and move it away: a new one begins",
  });
}

async function readAt(handle: FileHandle, { from, to }: { readonly from: number; readonly to: number }): Promise<Buffer> {
  const bytes = Buffer.alloc(to - from);
  let filled = 0;
  while (filled < bytes.length) {
    const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, from + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}
