/**
 * The TLS server below a listener: TLS 1.3, a client certificate required, no session tickets where the runtime can leave them out.
 * Promises: every accepted socket is shown to `accepted` before TLS starts, every handshake ends in exactly one of `secured` and `failed`;
 * a throw in a callback ends one connection, never the process. Leaves to others: caps, deadlines, judging.
 */
import { constants } from "node:crypto";
import { createServer as createNetServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions, type TLSSocket } from "node:tls";
import { facts } from "./facts.ts";
import { Gate } from "./gate.ts";

export interface TlsServerOptions {
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly ca: readonly string[];
  readonly alpn: readonly string[];
}

export interface Secured {
  readonly socket: TLSSocket;
  /** The accepted socket below. */
  readonly below: Socket;
  /** Present where the TLS socket's own pause does not hold. */
  readonly gate: Gate | undefined;
}

export interface TlsServerEvents {
  /** False turns the socket away; it is destroyed then. */
  accepted(socket: Socket): boolean;
  secured(secured: Secured): void;
  failed(below: Socket, error: Error): void;
  /** Accepting itself failed (no descriptors left). */
  troubled(error: Error): void;
}

/** A server that is not listening yet: `listen` on it is net.Server's. */
export function createServer(options: TlsServerOptions, events: TlsServerEvents): Server {
  const tlsOptions: TlsOptions = {
    cert: options.certificate,
    key: options.key,
    ca: [...options.ca],
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    ALPNProtocols: [...options.alpn],
    allowHalfOpen: true,
    handshakeTimeout: 0x7fffffff, // the listener's own deadline destroys; the runtime's only tells
    ...(facts.endsTickets ? { secureOptions: constants.SSL_OP_NO_TICKET } : {}),
  };
  const server = createNetServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 });
  const start = facts.holdsTlsReads ? sharedHandshakes(tlsOptions, events) : gatedHandshakes(tlsOptions, events);
  server.on("connection", (socket) => {
    socket.on("error", () => socket.destroy());
    if (events.accepted(socket)) start(socket);
    else socket.destroy();
  });
  server.on("error", (error) => events.troubled(error));
  return server;
}

type Internal = TLSSocket & { readonly _parent?: Socket };

/** One TLS server that accepted sockets are handed to. A TLS socket knows the accepted one as `_parent` (a test holds Node to it). */
function sharedHandshakes(options: TlsOptions, events: TlsServerEvents): (socket: Socket) => void {
  const server = createTlsServer(options);
  server.on("secureConnection", (socket: Internal) => {
    socket.on("error", () => socket.destroy());
    const below = socket._parent;
    if (below === undefined) socket.destroy();
    else events.secured({ socket, below, gate: undefined });
  });
  server.on("tlsClientError", (error, socket: Internal) => {
    socket.on("error", () => {}); // renegotiation and the like can raise more than one
    const below = socket._parent;
    if (below !== undefined) events.failed(below, withVerdict(error, socket));
    socket.destroy();
    setImmediate(() => below?.destroy()); // not inside an event of the TLS socket above it: Node crashes
  });
  return (socket) => void server.emit("connection", socket);
}

/** TLS over a gate, a TLS server for each connection: so that the TLS socket, its gate and the accepted socket are known to belong together. */
function gatedHandshakes(options: TlsOptions, events: TlsServerEvents): (socket: Socket) => void {
  return (below) => {
    const gate = new Gate(below);
    const server = createTlsServer(options);
    gate.on("error", () => {});
    server.on("secureConnection", (socket) => {
      socket.on("error", () => socket.destroy());
      socket.on("close", () => gate.destroy());
      events.secured({ socket, below, gate });
    });
    server.on("tlsClientError", (error, socket) => {
      socket.on("error", () => {});
      events.failed(below, withVerdict(error, socket));
      gate.destroy();
    });
    server.emit("connection", gate as unknown as Socket);
  };
}

/** What the runtime thought of the certificate stands on the socket; it is carried along as the error's code. */
function withVerdict(error: Error, socket: TLSSocket): Error & { code?: string } {
  const verdict: unknown = socket.authorizationError;
  if (verdict === null || verdict === undefined) return error;
  const code = typeof verdict === "string" ? verdict : ((verdict as { code?: string }).code ?? (verdict as Error).message);
  return Object.assign(new Error(error.message), { code });
}
