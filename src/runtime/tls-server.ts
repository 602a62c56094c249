/**
 * The TLS server below a listener: TLS 1.3, a client certificate required, no session tickets where the runtime can leave them out.
 * Promises: every accepted socket is shown to `accepted` before TLS starts; a handshake ends in at most one of `secured` and `failed`, in
 * neither only when its socket is destroyed from outside; whoever ends its direction during a handshake has failed; no callback of ours
 * runs inside the TLS stack, so no throw can escape there. Leaves to others: caps, deadlines, judging.
 */
import { constants } from "node:crypto";
import { createServer as createNetServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type Server as RuntimeTlsServer, type TlsOptions, type TLSSocket } from "node:tls";
import { ownCipherOrder } from "./ciphers.ts";
import { facts } from "./facts.ts";
import { Gate } from "./gate.ts";

export interface TlsServerOptions {
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly ca: readonly string[];
  readonly alpn: readonly string[];
  /** Whether reading must be possible to stop: costs a gate where a TLS socket's own pause does not hold. */
  readonly holdable: boolean;
}

export interface Secured {
  readonly socket: TLSSocket;
  /** The accepted socket below. */
  readonly below: Socket;
  /** Present where `holdable` was asked for and the TLS socket's own pause does not hold. */
  readonly gate: Gate | undefined;
  /** Whether its handshake was under the options of today: others may have been `prepare`d meanwhile. */
  readonly current: boolean;
}

export interface TlsServer {
  /** Not listening yet: `listen` on it is net.Server's. */
  readonly server: Server;
  /**
   * Makes ready what handshakes that begin later are under; what it returns makes them so. Throws what the runtime throws for options that
   * it cannot serve. Handshakes under way end under what they began with.
   */
  prepare(options: TlsServerOptions): () => void;
}

type Start = (below: Socket) => void;

export interface TlsServerEvents {
  /** False turns the socket away; it is destroyed then. */
  accepted(socket: Socket): boolean;
  secured(secured: Secured): void;
  /** The error's code is what the runtime thought of the certificate, if it came to that. */
  failed(below: Socket, error: Error & { readonly code?: string }): void;
  /** Accepting itself failed (no descriptors left). */
  troubled(error: Error): void;
}

const KEEP_ALIVE_MS = 60_000;

export function createServer(options: TlsServerOptions, events: TlsServerEvents): TlsServer {
  const server = createNetServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
  let start: Start;
  const prepare = (next: TlsServerOptions): (() => void) => {
    const made: Start = starter(next, { ...events, secured: (secured) => events.secured({ ...secured, current: start === made }) });
    return () => void (start = made);
  };
  prepare(options)();
  server.on("connection", (socket) => {
    socket.on("error", destroySelf);
    if (events.accepted(socket)) start(socket);
    else socket.destroy();
  });
  server.on("error", (error) => events.troubled(error));
  return { server, prepare };
}

/** One for all: each connection keeps its listeners. */
function destroySelf(this: Socket): void {
  this.destroy();
}

interface HandshakeEvents {
  secured(secured: Omit<Secured, "current">): void;
  failed: TlsServerEvents["failed"];
}

function starter(options: TlsServerOptions, events: HandshakeEvents): Start {
  const ciphers = ownCipherOrder();
  const tlsOptions: TlsOptions = {
    cert: options.certificate,
    key: options.key,
    ca: [...options.ca],
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    ...(ciphers === undefined ? {} : { ciphers }),
    ALPNProtocols: [...options.alpn],
    handshakeTimeout: 0x7fffffff, // the listener's own deadline destroys; the runtime's only tells
    ...(facts.endsTickets ? { secureOptions: constants.SSL_OP_NO_TICKET } : {}),
  };
  return facts.holdsTlsReads || !options.holdable ? plainHandshakes(tlsOptions, events) : gatedHandshakes(tlsOptions, events);
}

type Internal = TLSSocket & { readonly _parent?: Socket };

/** One TLS server that accepted sockets are handed to. A TLS socket knows the accepted one as `_parent` (a test holds the runtimes to it). */
function plainHandshakes(options: TlsOptions, events: HandshakeEvents): Start {
  const server = createTlsServer(options);
  server.on("secureConnection", (socket: Internal) => {
    socket.on("error", destroySelf);
    socket.allowHalfOpen = true;
    const below = socket._parent;
    if (below === undefined) socket.destroy();
    else events.secured({ socket, below, gate: undefined });
  });
  server.on("tlsClientError", (error, socket: Internal) => {
    socket.on("error", () => {}); // one handshake can raise more than one
    const below = socket._parent;
    if (below !== undefined) events.failed(below, withVerdict(error, socket));
    socket.destroy();
    setImmediate(() => below?.destroy()); // not inside an event of the TLS socket above it: Node crashes
  });
  return (below) => {
    below.allowHalfOpen = false; // the TLS socket takes this over: who ends its direction during the handshake is gone
    server.emit("connection", below);
  };
}

/** What a TLS server that has one handshake at a time is busy with. */
interface Slot {
  readonly server: RuntimeTlsServer;
  current: { readonly below: Socket; readonly gate: Gate } | undefined;
}

/**
 * TLS over gates. A TLS server does not say which gate a TLS socket stands on, so each has one handshake at a time; when that is over, the
 * server waits for the next (a new one costs as much as half a handshake). One that never says how it ended is not used again.
 */
function gatedHandshakes(options: TlsOptions, events: HandshakeEvents): Start {
  const idle: Slot[] = [];
  const told = new WeakSet<TLSSocket>();
  /** What `socket` stands on, once; the slot is free then. */
  const finish = (slot: Slot, socket: TLSSocket): Slot["current"] => {
    const { current } = slot;
    if (told.has(socket) || current === undefined) return undefined;
    told.add(socket);
    slot.current = undefined;
    idle.push(slot);
    return current;
  };
  const create = (): Slot => {
    const slot: Slot = { server: createTlsServer(options), current: undefined };
    slot.server.on("secureConnection", (socket) => {
      socket.on("error", destroySelf);
      const current = finish(slot, socket);
      if (current === undefined) return void socket.destroy();
      const { below, gate } = current;
      socket.on("close", () => gate.destroy());
      events.secured({ socket, below, gate });
    });
    slot.server.on("tlsClientError", (error, socket) => {
      socket.on("error", () => {});
      const current = finish(slot, socket);
      if (current === undefined) return;
      events.failed(current.below, withVerdict(error, socket));
      current.gate.destroy();
    });
    return slot;
  };
  return (below) => {
    const gate = new Gate(below);
    const slot = idle.pop() ?? create();
    const mine = { below, gate };
    slot.current = mine;
    gate.on("error", () => {});
    // TLS has all that came; if that was no whole handshake, none will be.
    gate.once(
      "end",
      () =>
        void setImmediate(() => slot.current === mine && gate.destroy(new Error("the client ended its direction during the handshake"))),
    );
    slot.server.emit("connection", gate as unknown as Socket);
  };
}

/** What the runtime thought of the certificate stands on the socket; it is carried along as the error's code. */
function withVerdict(error: Error, socket: TLSSocket): Error & { readonly code?: string } {
  const verdict: unknown = socket.authorizationError;
  if (verdict === null || verdict === undefined) return error;
  const code = typeof verdict === "string" ? verdict : ((verdict as { code?: string }).code ?? (verdict as Error).message);
  return Object.assign(new Error(error.message), { code });
}
