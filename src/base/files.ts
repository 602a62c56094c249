/**
 * Reads the files that a config or a command names. Promises: bounded in size, whatever it is; a gateway takes regular files only (a pipe
 * never blocks its start), and none that others on this host may change, or a private key that others may read. Judged on the open file,
 * so that nobody can exchange it in between. Every fault is a sentence that follows the file's name.
 */
import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { Buffer } from "node:buffer";

export interface ReadOptions {
  /** Bytes. */
  readonly largest: number;
  /** A private key: nobody but its owner may read it. */
  readonly secret?: boolean;
  /** Named by who runs a command: what the shell hands over is read as well (`--cert <(...)`), and who else may change it is theirs to know. */
  readonly byHand?: boolean;
}

export type Read = { readonly ok: true; readonly bytes: Buffer } | { readonly ok: false; readonly says: string; readonly missing: boolean };

export async function readBounded(path: string, options: ReadOptions): Promise<Read> {
  let handle: FileHandle | undefined;
  try {
    // Opening a pipe that nobody writes to would wait for ever; one from the shell is open already.
    const waits = options.byHand === true && fromShell.test(path);
    handle = await open(path, constants.O_RDONLY | (waits ? 0 : constants.O_NONBLOCK));
    const fault = await judgeFile(handle, { path, ...options });
    if (fault !== undefined) return { ok: false, says: fault, missing: false };
    const bytes = await readAll(handle, options.largest);
    return bytes === undefined ? { ok: false, says: tooLarge(options.largest), missing: false } : { ok: true, bytes };
  } catch (error) {
    const says = openFault(error);
    return { ok: false, says, missing: says === MISSING };
  } finally {
    await handle?.close();
  }
}

const fromShell = /^\/(?:dev|proc\/self)\/fd\/\d+$/;

async function judgeFile(
  handle: FileHandle,
  { path, largest, secret = false, byHand = false }: ReadOptions & { readonly path: string },
): Promise<string | undefined> {
  const { size, mode, uid } = await handle.stat();
  const kind = mode & constants.S_IFMT;
  if (kind === constants.S_IFDIR) return "is a folder, not a file; name a file in it";
  if (kind !== constants.S_IFREG && !(byHand && kind === constants.S_IFIFO && fromShell.test(path))) return "is not a regular file";
  if (size > largest) return tooLarge(largest);
  if (process.platform === "win32" || byHand) return undefined; // no such modes there
  const octal = (mode & 0o777).toString(8).padStart(3, "0");
  if (secret) return secretFault({ mode, uid, octal, path });
  return (mode & 0o002) === 0 ? undefined : `may be changed by everyone on this host (mode ${octal}); chmod o-w ${path}`;
}

interface Owned {
  readonly mode: number;
  readonly uid: number;
  readonly octal: string;
  readonly path: string;
}

/** As PostgreSQL judges: ours and for us alone, or root's and readable by a group that root chose. */
function secretFault({ mode, uid, octal, path }: Owned): string | undefined {
  const own = process.geteuid?.() ?? uid;
  if (uid !== own && uid !== 0) return `belongs to another user (uid ${uid}); make it ours: chown ${own} ${path}`;
  const forbidden = uid === 0 && own !== 0 ? 0o027 : 0o077;
  return (mode & forbidden) === 0 ? undefined : `may be read or changed by others on this host (mode ${octal}); chmod 600 ${path}`;
}

/** Undefined: it is larger than it may be. */
async function readAll(handle: FileHandle, largest: number): Promise<Buffer | undefined> {
  const parts: Buffer[] = [];
  let size = 0;
  for (;;) {
    const part = Buffer.alloc(64 << 10);
    const { bytesRead } = await handle.read(part, 0, part.length, null);
    if (bytesRead === 0) return Buffer.concat(parts, size);
    size += bytesRead;
    if (size > largest) return undefined;
    parts.push(part.subarray(0, bytesRead));
  }
}

const MISSING = "does not exist";

function tooLarge(largest: number): string {
  return `is larger than ${largest >> 20} MiB; look whether it is the right file`;
}

function openFault(error: unknown): string {
  const { code } = error as { readonly code?: unknown };
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return MISSING;
    case "EACCES":
    case "EPERM":
    case "NotCapable":
      return "may not be read by this process; look at its owner and mode, and those of its folders";
    case "ELOOP":
      return "is a ring of links";
    default:
      return `cannot be read (${typeof code === "string" ? code : String(error)})`;
  }
}
