/**
 * Connections to back ends: TCP (addresses in turn), unix, TLS. Promises: one deadline for all of it; nothing is handed out before
 * it is connected (TLS: verified); an abort or a deadline leaves no socket behind. Leaves to others: what the connection is for.
 */
import { connect as connectNet, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { PipegateError } from "../base/error.ts";

export interface DialOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export type DialAddress = { readonly host: string; readonly port: number } | { readonly path: string };

export interface TlsDialOptions {
  /** PEM; empty: the runtime's public roots. */
  readonly ca: readonly string[];
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  readonly serverName?: string | undefined;
}

export interface Dialled {
  readonly socket: Socket;
  /** The address that answered, for the log. */
  readonly text: string;
}

export function dialText(address: DialAddress): string {
  if ("path" in address) return `unix:${address.path}`;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Tries the addresses in turn. Rejects with target_unavailable, target_timeout or cancelled. */
export async function dial(addresses: readonly DialAddress[], options: DialOptions & { readonly tls?: TlsDialOptions }): Promise<Dialled> {
  const deadline = performance.now() + options.timeoutMs;
  let failure: PipegateError | undefined;
  for (const [index, address] of addresses.entries()) {
    const left = deadline - performance.now();
    if (left <= 0) break;
    // Each gets an even share of what is left, so that one that hangs leaves time for the next.
    const timeoutMs = left / (addresses.length - index);
    try {
      return { socket: await connectOne(address, { ...options, timeoutMs }), text: dialText(address) };
    } catch (error) {
      failure = error as PipegateError;
      if (failure.code === "cancelled") throw failure;
    }
  }
  throw failure ?? new PipegateError("target_timeout", "no time was left to dial");
}

function connectOne(address: DialAddress, { timeoutMs, signal, tls }: DialOptions & { readonly tls?: TlsDialOptions }): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const text = dialText(address);
    if (signal.aborted) return reject(new PipegateError("cancelled", "given up before dialling"));
    const socket = tls === undefined ? plain(address) : secure(address as { host: string; port: number }, tls);
    const settle = (error: PipegateError | undefined): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
      socket.off("error", failed);
      socket.off("close", closed);
      if (error === undefined) return resolve(socket);
      socket.on("error", () => {}); // what it still says after it was given up
      socket.destroy();
      reject(error);
    };
    const failed = (error: NodeJS.ErrnoException): void =>
      settle(new PipegateError("target_unavailable", `${text}: ${error.code ?? error.message}`, { cause: error }));
    const closed = (): void => settle(new PipegateError("target_unavailable", `${text}: closed while connecting`));
    const aborted = (): void => settle(new PipegateError("cancelled", "given up while dialling"));
    const timer = setTimeout(() => settle(new PipegateError("target_timeout", `${text}: no answer within ${Math.round(timeoutMs)} ms`)), timeoutMs);
    signal.addEventListener("abort", aborted);
    socket.once("error", failed);
    socket.once("close", closed);
    socket.once(tls === undefined ? "connect" : "secureConnect", () => settle(undefined));
  });
}

function plain(address: DialAddress): Socket {
  if ("path" in address) return connectNet({ path: address.path, allowHalfOpen: true });
  return connectNet({ host: address.host, port: address.port, allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 });
}

function secure({ host, port }: { readonly host: string; readonly port: number }, tls: TlsDialOptions): Socket {
  const serverName = tls.serverName ?? host;
  return connectTls({
    host,
    port,
    allowHalfOpen: true,
    minVersion: "TLSv1.2",
    rejectUnauthorized: true,
    ...(isIP(serverName) === 0 ? { servername: serverName } : {}),
    ...(tls.ca.length > 0 ? { ca: [...tls.ca] } : {}),
    ...(tls.certificate === undefined ? {} : { cert: tls.certificate, key: tls.key }),
  });
}
