/**
 * One TLS connection to a door of our own, to see whether it opens: shows what it is told to, believes whoever answers (how it ended is
 * told by the door), sends nothing. Promises: no listener throws; `close` leaves no socket. Leaves to others: deadlines, what it proves.
 */
import type { Buffer } from "node:buffer";
import { connect, type TLSSocket } from "node:tls";
import type { SocketAddress } from "../base/address.ts";
import { nearEnd } from "./near-end.ts";

export interface ProbeOptions {
  /** As bound. */
  readonly address: SocketAddress;
  /** The port to come from; not for a unix socket. */
  readonly port: number | undefined;
  readonly serverName: string;
  /** None: no protocol is asked for. */
  readonly alpn: readonly string[];
  /** PEM; absent: no certificate is shown. */
  readonly credentials?: { readonly certificate: string; readonly key: string } | undefined;
  /** Of an earlier connection, to be resumed. */
  readonly session?: Buffer | undefined;
}

export interface ProbeEvents {
  /** The connection did not come about: the door has not seen it. */
  unreachable(error: Error): void;
  /** What the door hands out for resuming. */
  session(session: Buffer): void;
  /** Once and last. */
  closed(): void;
}

export interface Probe {
  close(): void;
}

export function probeTls({ address, port, serverName, alpn, credentials, session }: ProbeOptions, events: ProbeEvents): Probe {
  const host = address.kind === "tcp" ? nearEnd(address.host) : "";
  const socket: TLSSocket = connect({
    ...(address.kind === "unix" ? { path: address.path } : { host, port: address.port, localAddress: host, localPort: port }),
    servername: serverName,
    rejectUnauthorized: false, // nothing is sent to whoever answers, and the door itself tells who came to it
    minVersion: "TLSv1.3",
    ALPNProtocols: [...alpn],
    ...(credentials === undefined ? {} : { cert: credentials.certificate, key: credentials.key }),
    ...(session === undefined ? {} : { session }),
  });
  let connected = false;
  socket.on("error", (error) => void (!connected && events.unreachable(error)));
  socket.once("connect", () => (connected = true));
  socket.on("session", (ticket: Buffer) => events.session(ticket));
  socket.on("close", () => events.closed());
  socket.resume();
  return { close: () => void socket.destroy() };
}
