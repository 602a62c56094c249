/**
 * Files of the CA's folder: written whole beside their place and then put there in one step, so that nobody ever sees half a file,
 * and private ones are 0600 before their first byte. Promises: nothing is overwritten unless `replace` is asked for, not even by two
 * at once; errors name the path (PipegateError `config`; `usage` for a file that is in the way).
 */
import { randomBytes } from "node:crypto";
import { constants, link, lstat, open, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { PipegateError } from "../base/error.ts";
import { readBounded } from "../base/files.ts";

export interface PlaceOptions {
  /** Only its owner may read it. */
  readonly secret: boolean;
  /** Puts it in the place of what is there. */
  readonly replace: boolean;
}

export async function placeFile(
  path: string,
  { content, secret, replace }: PlaceOptions & { readonly content: string | Uint8Array },
): Promise<void> {
  const mode = secret ? 0o600 : 0o644;
  const beside = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.new`);
  try {
    await writeNew(beside, content, mode);
    if (replace) await rename(beside, path);
    else await linkOrWrite(beside, path, { content, mode });
  } catch (cause) {
    throw writeFault(path, cause);
  } finally {
    await rm(beside, { force: true });
  }
}

async function writeNew(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const handle = await open(path, "wx", mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A link fails where something is already; a file system without links gets the file written in place, and there only when it is new. */
async function linkOrWrite(
  from: string,
  to: string,
  { content, mode }: { readonly content: string | Uint8Array; readonly mode: number },
): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(codeOf(error))) throw error;
    await writeNew(to, content, mode);
  }
}

function writeFault(path: string, cause: unknown): PipegateError {
  const code = codeOf(cause);
  if (code === "EEXIST") return inTheWay(path, cause);
  if (code === "ENOENT") return new PipegateError("config", `the folder of ${path} does not exist`, { next: "make it first", cause });
  if (code === "EISDIR") return new PipegateError("config", `${path} is a folder`, { next: "choose another name", cause });
  const why =
    code === "EACCES" || code === "EROFS"
      ? "may not be written"
      : code === "ENOSPC"
        ? "does not fit on the disk"
        : `cannot be written (${code})`;
  return new PipegateError("config", `${path} ${why}`, { next: "choose another folder with --dir, or mend this one", cause });
}

export function inTheWay(path: string, cause?: unknown): PipegateError {
  const next = "pass --force to replace it, or --out NAME to write beside it";
  return new PipegateError("usage", `${path} exists already`, { next, cause });
}

/** Whether something has this name, also a link to nowhere. */
export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(codeOf(error))) return false;
    throw readFault(path, error);
  }
}

/** Undefined when there is no such file. `largest`: bytes. */
export async function readIfThere(path: string, largest: number = 1 << 20): Promise<string | undefined> {
  const read = await readBounded(path, { largest, byHand: true });
  if (read.ok) return new TextDecoder().decode(read.bytes);
  if (read.missing) return undefined;
  throw new PipegateError("config", `${path} ${read.says}`, { next: "check the path" });
}

export function readFault(path: string, cause: unknown): PipegateError {
  const code = codeOf(cause);
  const why = code === "EISDIR" ? "is a folder, not a file" : code === "EACCES" ? "may not be read" : `cannot be read (${code})`;
  return new PipegateError("config", `${path} ${why}`, { next: "check the path and who may read it", cause });
}

/** A private key that others may read is not used. */
export async function refuseOpenKey(path: string): Promise<void> {
  const { mode } = await stat(path);
  if (process.platform === "win32" || (mode & (constants.S_IRWXG | constants.S_IRWXO)) === 0) return;
  throw new PipegateError("config", `${path} can be read by other users of this host`, { next: `run chmod 600 ${path}` });
}

export function codeOf(error: unknown): string {
  return (error as { readonly code?: string }).code ?? "unknown error";
}
