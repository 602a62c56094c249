/**
 * Dials TLS 1.3 with our certificate and gives the connection as bytes in and out. Promises: the server is always verified, against
 * the given CAs only; no session is reused; the socket is never paused (Deno's TLS sockets cannot be: they lose their end);
 * no listener throws; `closed` comes once and last.
 * Leaves to others: what a failure means to a person (client/failure.ts), and whether we are welcome.
 */
import { isIP } from "node:net";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import type { SocketAddress } from "../base/address.ts";

export interface DialOptions {
  readonly certificate: string;
  readonly key: string;
  /** PEM texts; the runtime's public roots are never used. */
  readonly ca: readonly string[];
  /** The name to verify, and for SNI. An IP address only where it is the host that is dialled. */
  readonly serverName: string;
  readonly alpn: string;
  readonly signal: AbortSignal;
}

export interface ConnectionEvents {
  data(chunk: Buffer): void;
  /** Undefined: the other side ended it. Else what the runtime said. */
  closed(error: Error | undefined): void;
}

/** Its methods are those that a session's Transport wants. */
export interface TlsConnection {
  readonly alpn: string | undefined;
  /** Data flows from now on. Called once. */
  attach(events: ConnectionEvents): void;
  write(chunk: Uint8Array, written: () => void): void;
  end(): void;
  destroy(): void;
}

type Phase = "credentials" | "dial" | "handshake";

/** Where dialling failed, with the runtime's error. */
export class DialError extends Error {
  override readonly name = "DialError";
  readonly phase: Phase;
  readonly code: string;

  constructor(phase: Phase, cause: Error) {
    super(cause.message, { cause });
    this.phase = phase;
    this.code = errorCode(cause);
  }
}

/** The runtime's code of an error, "" without one. */
export function errorCode(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : "";
}

/** Resolves after the handshake as we see it: in TLS 1.3 the server has not judged our certificate then. Rejects with a DialError, or the signal's reason. */
export function dialTls(address: SocketAddress, options: DialOptions): Promise<TlsConnection> {
  const { signal } = options;
  if (signal.aborted) return Promise.reject(signal.reason as Error);
  return new Promise((resolve, reject) => {
    let dialled = false;
    const socket = begin(address, options);
    const failed = (error: Error): void => {
      signal.removeEventListener("abort", onAbort);
      socket.destroy();
      reject(signal.aborted ? (signal.reason as Error) : new DialError(dialled ? "handshake" : "dial", error));
    };
    const onAbort = (): void => failed(signal.reason as Error);
    const onClose = (): void => failed(new Error("the connection was closed during the TLS handshake"));
    signal.addEventListener("abort", onAbort, { once: true });
    socket.setNoDelay(true);
    socket.on("error", failed);
    socket.on("close", onClose);
    socket.once("connect", () => (dialled = true));
    socket.once("secureConnect", () => {
      signal.removeEventListener("abort", onAbort);
      const connection = new OpenConnection(socket);
      socket.off("error", failed);
      socket.off("close", onClose);
      if (!socket.authorized) failed(socket.authorizationError ?? new Error("the server was not verified"));
      else resolve(connection);
    });
  });
}

/** What the TLS stack cannot use, such as a key that is too short for it, it throws before it dials. */
function begin(address: SocketAddress, options: DialOptions): TLSSocket {
  try {
    return connectTls(socketOptions(address, options));
  } catch (error) {
    throw new DialError("credentials", error as Error);
  }
}

function socketOptions(address: SocketAddress, options: DialOptions): ConnectionOptions {
  const { serverName } = options;
  return {
    ...(address.kind === "unix" ? { path: address.path } : { host: address.host, port: address.port }),
    ...(isIP(serverName) ? {} : { servername: serverName }),
    cert: options.certificate,
    key: options.key,
    ca: [...options.ca],
    ALPNProtocols: [options.alpn],
    minVersion: "TLSv1.3",
    maxVersion: "TLSv1.3",
    rejectUnauthorized: true,
  };
}

class OpenConnection implements TlsConnection {
  readonly #socket: TLSSocket;
  #events: ConnectionEvents | undefined;
  #error: Error | undefined;
  #closed = false;

  constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.on("error", (error) => (this.#error ??= error));
    // An alert may follow the end within the same turn; it says more.
    socket.once("end", () => void setImmediate(() => this.#close()));
    socket.once("close", () => this.#close());
  }
  get alpn(): string | undefined {
    return this.#socket.alpnProtocol || undefined;
  }
  attach(events: ConnectionEvents): void {
    this.#events = events;
    if (this.#closed) queueMicrotask(() => events.closed(this.#error));
    else this.#socket.on("data", (chunk: Buffer) => events.data(chunk));
  }
  write(chunk: Uint8Array, written: () => void): void {
    if (this.#socket.writable) this.#socket.write(chunk, () => written());
    else written();
  }
  end(): void {
    this.#socket.end();
  }
  destroy(): void {
    this.#socket.destroy();
  }
  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.destroy();
    this.#events?.closed(this.#error);
  }
}
