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
  /** The end is no whole line: the line before it, which what was cut off no longer names. */
  readonly cut: Head | undefined;
}

/** What a file ends with. `before`: the last line of the file before it. */
export async function readTail(handle: FileHandle, { file, before }: { readonly file: string; readonly before: Head }): Promise<Tail> {
  const { size } = await handle.stat();
  if (size === 0) return { head: before, cut: undefined };
  const from = Math.max(0, size - 2 * MAX_LINE_BYTES - 2);
  const bytes = await readAt(handle, { from, to: size });
  const { line, rest } = lastWhole(bytes);
  const earlier = line ?? (from === 0 ? before : undefined);
  if (earlier === undefined) throw foreign(file);
  if (rest.length === 0) return { head: earlier, cut: undefined };
  const unended = rest.subarray(rest.lastIndexOf(10) + 1);
  const whole = headOf(unended);
  if (whole !== undefined) return { head: whole, cut: whole }; // it lacks its newline alone
  // More than one: what tells of the first was cut, too.
  const cuts = rest.toString("latin1").split("\n");
  const alone = cuts.length === 1 && line !== undefined;
  if (cuts[0] === "" || !(alone || cuts.every(isBegun))) throw foreign(file);
  const numbered = cuts.map((text) => seqOfCut(Buffer.from(text, "latin1"))).findLast((seq) => seq !== undefined);
  return { head: { seq: numbered ?? earlier.seq + 1, hash: hashOf(rest) }, cut: earlier };
}

/** The last line that is whole, and what follows it. */
function lastWhole(bytes: Buffer): { readonly line: Head | undefined; readonly rest: Buffer } {
  for (let end = bytes.lastIndexOf(10); end >= 0;) {
    const before = end === 0 ? -1 : bytes.lastIndexOf(10, end - 1);
    const line = headOf(bytes.subarray(before + 1, end));
    if (line !== undefined) return { line, rest: bytes.subarray(end + 1) };
    end = before;
  }
  return { line: undefined, rest: bytes };
}

/** Whether it may be what is left of a line; a power cut can leave zeros. */
function isBegun(text: string): boolean {
  if (/^\0+$/.test(text)) return true;
  return text.length < BEGIN.length ? BEGIN.startsWith(text) : text.startsWith(BEGIN);
}

const BEGIN = '{"seq":';

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

/** Undefined: it is no whole line. */
function headOf(line: Buffer): Head | undefined {
  const read = readLine(line);
  return read && { seq: read.seq, hash: hashOf(line) };
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
