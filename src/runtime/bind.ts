/**
 * Binds a server to a TCP port or a unix socket. Promises: a unix socket has its mode from birth; a stale one (nobody answers) is replaced,
 * a live one or any other file never; what cannot be had is a PipegateError (config) with the mend. Leaves to others: what is served.
 */
import { existsSync, lstatSync, rmSync, type Stats } from "node:fs";
import { createConnection, createServer, type Server } from "node:net";
import { dirname } from "node:path";
import { isMainThread } from "node:worker_threads";
import { addressText, fitsSocket, MAX_SOCKET_PATH, type SocketAddress } from "../base/address.ts";
import { PipegateError } from "../base/error.ts";
import { processDescriptors } from "./descriptors.ts";
import { facts } from "./facts.ts";

export interface BindOptions {
  /** Of a unix socket. Default: 0o660. */
  readonly mode?: number;
  /** Of a TCP port: other threads of this process bind it, too. */
  readonly shared?: boolean;
}

/** Who comes while so many wait to be accepted has to come again, a second later. Node's own 511 are few for clients that all come back at once. */
const BACKLOG = 4_096;

/** Resolves with the address as bound: the port that was given for 0, the address that a name stood for. */
export async function bindServer(
  server: Server,
  address: SocketAddress,
  { mode = 0o660, shared = false }: BindOptions = {},
): Promise<SocketAddress> {
  if (address.kind === "unix") await makeRoom(address.path);
  await new Promise<void>((resolve, reject) => {
    const settle = (error?: NodeJS.ErrnoException): void => {
      server.off("error", settle).off("listening", settle); // it may be tried again and again
      if (error === undefined) resolve();
      else reject(bindError(address, error));
    };
    server.on("error", settle).on("listening", settle);
    if (address.kind === "tcp") {
      // A Deno closes what it turns away only after it has accepted all that wait, and ends accepting when that takes the last descriptor.
      const backlog = facts.keepsAccepting ? BACKLOG : processDescriptors().burst;
      server.listen({ host: address.host, port: address.port, reusePort: shared, backlog });
      return;
    }
    withMask(0o777 & ~mode, () => server.listen({ path: address.path })); // it is bound within this call
  });
  if (address.kind === "unix" && (lstatSync(address.path).mode & 0o777 & ~mode) !== 0) {
    server.close();
    throw new PipegateError("internal", `${address.path} came to be with too wide a mode`);
  }
  const bound = server.address();
  return address.kind === "tcp" && bound !== null && typeof bound === "object"
    ? { ...address, host: bound.address, port: bound.port }
    : address;
}

/** The umask is the process's, and the main thread alone can set it: for other threads it does so meanwhile (`masked`). */
function withMask(mask: number, act: () => void): void {
  if (!isMainThread) return act();
  const before = process.umask(mask);
  try {
    act();
  } finally {
    process.umask(before);
  }
}

/** While another thread binds a unix socket within `act`: nobody but owner and group may connect. */
export async function masked<T>(act: () => Promise<T>): Promise<T> {
  const before = process.umask(0o117);
  try {
    return await act();
  } finally {
    process.umask(before);
  }
}

/** An address that nobody else has: bound alone, until it is released for threads of this process to share. */
export interface Claim {
  /** As bound. */
  readonly address: SocketAddress;
  release(): Promise<void>;
}

/** Rejects as bindServer does, also where others would share what they have. Whoever connects meanwhile is hung up on. */
export async function claimAddress(address: SocketAddress): Promise<Claim> {
  const server = createServer((socket) => socket.on("error", () => {}).destroy());
  const bound = await bindServer(server, address);
  server.on("error", () => {}); // accepting failed: nobody was to be let in
  return { address: bound, release: () => new Promise<void>((resolve) => server.close(() => resolve())) };
}

function bindError(address: SocketAddress, error: NodeJS.ErrnoException): PipegateError {
  const where = address.kind === "tcp" ? addressText(address) : address.path;
  switch (error.code) {
    case "EADDRINUSE":
      return new PipegateError("config", `${where} is already in use`, { next: "stop what listens there, or choose another" });
    case "EACCES":
    case "EPERM":
      return new PipegateError("config", `${where} may not be listened on by this user`, {
        next: "choose a port from 1024 up, or a folder of your own",
      });
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new PipegateError("config", `${where} names no host that can be found`, {
        next: "listen on an address of this host, or on 127.0.0.1",
      });
    case "EINVAL": // of a path; Deno says it of an address, too
    case "EADDRNOTAVAIL":
      if (address.kind === "unix")
        return new PipegateError("config", `${where} is too long for a unix socket`, {
          next: `choose a path of at most ${MAX_SOCKET_PATH} bytes`,
        });
      return new PipegateError("config", `${where} is not an address of this host`, { next: "listen on one of its own, or on 127.0.0.1" });
    case "EMFILE":
    case "ENFILE":
      return new PipegateError("config", `no descriptor is left to listen on ${where}`, {
        next: "raise ulimit -n (systemd: LimitNOFILE), or listen on fewer addresses",
      });
    case "ENOENT":
      return new PipegateError("config", `the folder of ${where} does not exist`, { next: "make it, or choose another path" });
    default:
      return new PipegateError("config", `cannot listen on ${where} (${error.code ?? error.message})`, {
        next: "check the address",
        cause: error,
      });
  }
}

/** Refuses a path that cannot be had, and removes what a dead server left there. */
async function makeRoom(path: string): Promise<void> {
  // A runtime may cut it, and bind another path.
  if (!fitsSocket(path)) throw bindError({ kind: "unix", path }, coded("EINVAL"));
  if (!existsSync(dirname(path))) throw bindError({ kind: "unix", path }, coded("ENOENT")); // Node would say EACCES
  let found: Stats;
  try {
    found = lstatSync(path);
  } catch {
    return; // nothing there
  }
  if (!found.isSocket()) throw new PipegateError("config", `${path} exists and is no socket`, { next: "choose another path" });
  try {
    if (!(await removeStaleSocket(path))) throw coded("EADDRINUSE");
  } catch (error) {
    throw bindError({ kind: "unix", path }, error as NodeJS.ErrnoException);
  }
}

/** Removes a unix socket that nobody answers on; false: somebody does, or may, or it is none. Rejects with the system's error. */
export async function removeStaleSocket(path: string): Promise<boolean> {
  const found = lstatSync(path);
  if (!found.isSocket() || (await mayAnswer(path))) return false; // to dial a file is refused, too
  const still = lstatSync(path, { throwIfNoEntry: false });
  if (still === undefined) return true;
  if (still.ino !== found.ino || still.mtimeMs !== found.mtimeMs) return false; // of somebody who removed it meanwhile, and listens
  rmSync(path, { force: true });
  return true;
}

function coded(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}

/** Only a refusal proves that nobody listens: a socket that is busy, or that we may not open, is not ours to remove. */
function mayAnswer(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ path });
    const settle = (live: boolean): void => {
      socket.destroy();
      resolve(live);
    };
    socket.setTimeout(1_000, () => settle(true));
    socket.once("connect", () => settle(true));
    socket.once("error", (error: NodeJS.ErrnoException) => settle(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"));
  });
}
