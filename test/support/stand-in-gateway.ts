/**
 * The gateway's end of pipegate/1 over real TLS without policy or back ends, for tests of the client: each stream is handed to `open`.
 * The real gateway is tested in test/flow.
 */
import { createServer, type TlsOptions, type TLSSocket } from "node:tls";
import type { AddressInfo } from "node:net";
import { systemClock } from "../../src/base/clock.ts";
import type { Session, SessionOptions } from "../../src/protocol/session.ts";
import type { Stream } from "../../src/protocol/stream.ts";
import { sessionOver } from "../../src/tls/session-socket.ts";
import { echo } from "./echo-stream.ts";
import type { TestCa } from "./mint.ts";

export interface StandIn {
  /** `127.0.0.1:PORT`. */
  readonly address: string;
  readonly sessions: Session[];
  readonly sockets: TLSSocket[];
  /** Of each socket in turn: whether its TLS session was a resumed one. */
  readonly resumed: boolean[];
  /** Of each socket in turn: the serial of the client's certificate, lower-case hex. */
  readonly serials: string[];
  close(): Promise<void>;
}

export interface StandInOptions {
  readonly ca: TestCa;
  /** Whose clients are let in. Default: `ca`. */
  readonly trust?: TestCa;
  open?(stream: Stream): void;
  readonly session?: Partial<SessionOptions>;
  readonly tls?: TlsOptions;
  /** Does something else with the socket than to speak pipegate/1. */
  instead?(socket: TLSSocket): void;
}

export async function standInGateway(options: StandInOptions): Promise<StandIn> {
  const { certificate, key } = options.ca.gateway();
  const sessions: Session[] = [];
  const sockets: TLSSocket[] = [];
  const resumed: boolean[] = [];
  const serials: string[] = [];
  const trusted = (options.trust ?? options.ca).certificate;
  const server = createServer(
    {
      cert: certificate,
      key,
      ca: trusted,
      requestCert: true,
      rejectUnauthorized: true,
      noDelay: true,
      minVersion: "TLSv1.3",
      ALPNProtocols: ["pipegate/1"],
      ...options.tls,
    },
    (socket) => {
      sockets.push(socket);
      resumed.push(socket.isSessionReused());
      serials.push(socket.getPeerCertificate().serialNumber.toLowerCase());
      socket.on("error", () => socket.destroy());
      if (options.instead) return options.instead(socket);
      const events = { open: options.open ?? echo, closed: () => {} };
      sessions.push(sessionOver(socket, { role: "gateway", clock: systemClock, events, ...options.session }));
    },
  );
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    sessions,
    sockets,
    resumed,
    serials,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  };
}
