/**
 * A listener for programs of this host: a TCP port or a unix socket, without TLS. Promises: a unix socket is only for its owner from
 * birth; a stale one (nobody answers) is replaced, a live one or any other file never; closing removes it.
 * Leaves to others: what a connection is for.
 */
import { existsSync, lstatSync, unlinkSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { PipegateError } from "../base/error.ts";

export type LocalAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

export interface LocalListener {
  /** The port that was given when 0 was asked for. */
  readonly address: LocalAddress;
  /** Takes no more connections; those that are open stay. */
  close(): void;
}

/** Rejects with a PipegateError `config` when the address cannot be had. */
export async function listenLocally(address: LocalAddress, connection: (socket: Socket) => void): Promise<LocalListener> {
  if (address.kind === "unix") await removeStale(address.path);
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, connection);
  await bind(server, address);
  server.on("error", () => {}); // accepting failed for a moment (no descriptors left); the next one may succeed
  const bound = server.address();
  return {
    address: address.kind === "tcp" && bound !== null && typeof bound === "object" ? { ...address, port: bound.port } : address,
    close: () => void server.close(),
  };
}

function bind(server: Server, address: LocalAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(bindError(address, error)));
    server.once("listening", () => {
      server.removeAllListeners("error");
      resolve();
    });
    if (address.kind === "tcp") {
      server.listen({ host: address.host, port: address.port });
      return;
    }
    const before = process.umask(0o177); // the socket is bound within this call
    try {
      server.listen({ path: address.path });
    } finally {
      process.umask(before);
    }
  });
}

function bindError(address: LocalAddress, error: NodeJS.ErrnoException): PipegateError {
  const where = address.kind === "tcp" ? `${address.host}:${address.port}` : address.path;
  switch (error.code) {
    case "EADDRINUSE":
      return new PipegateError("config", `${where} is already in use`, { next: "stop what listens there, or choose another" });
    case "EACCES":
    case "EPERM":
      return new PipegateError("config", `${where} may not be listened on by this user`, {
        next: "choose a port from 1024 up, or a folder of your own",
      });
    case "EADDRNOTAVAIL":
      return new PipegateError("config", `${where} is not an address of this host`, { next: "listen on 127.0.0.1" });
    default:
      return new PipegateError("config", `cannot listen on ${where} (${error.code ?? error.message})`, {
        next: "check the address",
        cause: error,
      });
  }
}

async function removeStale(path: string): Promise<void> {
  if (!existsSync(path)) return;
  if (!lstatSync(path).isSocket()) throw new PipegateError("config", `${path} exists and is no socket`, { next: "choose another path" });
  if (await answers(path))
    throw new PipegateError("config", `${path} is already in use`, { next: "stop what listens there, or choose another" });
  unlinkSync(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ path });
    const settle = (live: boolean): void => {
      socket.destroy();
      resolve(live);
    };
    socket.once("connect", () => settle(true));
    socket.once("error", (error: NodeJS.ErrnoException) => settle(error.code !== "ECONNREFUSED"));
  });
}
