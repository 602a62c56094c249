/**
 * One process an audit log: a lock file beside it that names its holder by process id and start time. Promises: it is born whole (made
 * aside, then linked), so nobody reads half of one; the lock of a process that is gone, or whose id another has now, is taken over.
 * Leaves to others: that a holder on another host, or in another container, does not see this one's processes.
 */
import { link, lstat, readFile, rm, writeFile } from "node:fs/promises";
import { createHash, randomUUID } from "node:crypto";
import { PipegateError } from "../base/error.ts";

export interface Lock {
  /** Rejects when another has it now; one that somebody removed is put back. */
  keep(): Promise<void>;
  release(): Promise<void>;
}

/** Rejects with a PipegateError (`config`) when a live process holds it. */
export async function takeLock(file: string): Promise<Lock> {
  const path = `${file}.lock`;
  const text = `${process.pid} ${await startOf(process.pid)} ${randomUUID()}\n`;
  await place(path, text);
  return {
    async keep() {
      const found = await readHolder(path);
      if (found === undefined) await place(path, text);
      else if (found !== text) throw taken(path, "another process");
    },
    async release() {
      if ((await readHolder(path)) === text) await rm(path, { force: true });
    },
  };
}

async function place(path: string, text: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await writeFile(aside, text, { flag: "wx", mode: 0o600 }); // a full disk leaves an empty one behind
    for (let tries = 0; tries < 8; tries++) {
      if (await linked(aside, path)) return;
      await clearStale(path, text);
    }
  } finally {
    await rm(aside, { force: true });
  }
  throw taken(path, "another process");
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/**
 * Removes a dead holder's lock; one that is alive is an error. Several may find the same dead one: who removes it holds a lock on that, named
 * by what it says, or a slow one would remove the lock of a quick one.
 */
async function clearStale(path: string, own: string): Promise<void> {
  const text = await readHolder(path);
  if (text === undefined) return;
  if (await isAlive(text)) throw taken(path, `process ${text.split(" ")[0]}`);
  const clearing = `${path}.${createHash("sha256").update(text).digest("hex").slice(0, 12)}`;
  await place(clearing, own);
  try {
    if ((await readHolder(path)) === text) await rm(path, { force: true });
  } finally {
    await rm(clearing, { force: true });
  }
}

async function readHolder(path: string): Promise<string | undefined> {
  try {
    const found = await lstat(path);
    if (!found.isFile()) throw new PipegateError("config", `${path} is no lock file`, { next: "remove it" });
    return found.size > 256 ? "" : await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function isAlive(text: string): Promise<boolean> {
  const [, id, start] = /^(\d{1,10}) (\S+) /.exec(text) ?? [];
  if (id === undefined || Number(id) === 0) return false;
  try {
    process.kill(Number(id), 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  const found = await startOf(Number(id));
  return start === "-" || found === "-" || found === start;
}

/** When a process began, in the kernel's ticks; `-` where nobody says. */
async function startOf(id: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${id}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "-";
  } catch {
    return "-";
  }
}

function taken(path: string, who: string): PipegateError {
  return new PipegateError("config", `the audit log is already written by ${who} (${path})`, {
    next: "stop it, or give each gateway a file of its own",
  });
}
