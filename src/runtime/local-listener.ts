/**
 * A listener for programs of this host: a TCP port or a unix socket, without TLS. Promises: a unix socket is only for its owner from
 * birth; closing removes it. Leaves to others: binding (bind.ts), what a connection is for.
 */
import { createServer, type Socket } from "node:net";
import type { SocketAddress } from "../base/address.ts";
import { bindServer } from "./bind.ts";

export interface LocalListener {
  /** The port that was given when 0 was asked for. */
  readonly address: SocketAddress;
  /** Takes no more connections; those that are open stay. */
  close(): void;
}

/** Rejects with a PipegateError `config` when the address cannot be had. */
export async function listenLocally(address: SocketAddress, connection: (socket: Socket) => void): Promise<LocalListener> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, connection);
  const bound = await bindServer(server, address, { mode: 0o600 });
  server.on("error", () => {}); // accepting failed for a moment (no descriptors left); the next one may succeed
  return { address: bound, close: () => void server.close() };
}
