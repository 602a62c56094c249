/**
 * TLS to back ends: options checked once for many dials, and the handshake over a connected socket. Promises: no channel before the back
 * end is verified. TLS 1.2 is taken, unlike at our own door: back ends may be old, and what is verified is the same. Leaves to others:
 * connecting, deadlines.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { isIP, type Socket } from "node:net";
import { type ConnectionOptions, connect, createSecureContext, type TLSSocket } from "node:tls";
import type { Channel } from "../base/channel.ts";
import { PipegateError } from "../base/error.ts";
import { facts } from "./facts.ts";
import { Gate } from "./gate.ts";
import { socketChannel } from "./socket-channel.ts";

export interface TlsOptions {
  /** PEM texts; empty: the runtime's public roots. */
  readonly ca: readonly string[];
  /** Ours, PEM, both or none. */
  readonly certificate?: string;
  readonly key?: string;
  /** The name to verify. Default: the address's host. */
  readonly serverName?: string;
}

/** TLS options, checked, as the runtime wants them. */
export interface PreparedTls {
  readonly options: ConnectionOptions;
  readonly serverName: string | undefined;
}

/** Checks TLS options once for many dials. Throws a PipegateError (config). */
export function prepareTls(options: TlsOptions): PreparedTls {
  try {
    return { options: usable(options), serverName: options.serverName };
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new PipegateError("config", `a target's TLS credentials cannot be used: ${what}`, {
      next: "check its ca, certificate and key",
      cause: error,
    });
  }
}

/** Throws what is wrong with them. */
function usable({ ca, certificate, key }: TlsOptions): ConnectionOptions {
  for (const pem of ca) void new X509Certificate(pem);
  if ((certificate === undefined) !== (key === undefined)) throw new Error("a certificate and a key belong together");
  if (certificate !== undefined && key !== undefined && !new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key))) {
    throw new Error("the key does not belong to the certificate");
  }
  const whole: ConnectionOptions = {
    ...(ca.length > 0 ? { ca: [...ca] } : {}), // without: public roots
    ...(certificate === undefined ? {} : { cert: certificate, key }),
    minVersion: "TLSv1.2",
  };
  const fixed = { rejectUnauthorized: true, allowHalfOpen: true } as const;
  // Reading the CAs costs as much as the handshake. Deno wants the options themselves.
  return facts.name === "node" ? { ...fixed, minVersion: "TLSv1.2", secureContext: createSecureContext(whole) } : { ...fixed, ...whole };
}

export interface Handshake {
  readonly tls: PreparedTls;
  /** To verify, where the options fix none. */
  readonly host: string;
  readonly stands: (channel: Channel) => void;
  /** May be called more than once. */
  readonly failed: (error: Error) => void;
}

/** TLS over a connected socket; where the runtime cannot stop reading TLS, over a gate. */
export function shake(below: Socket, { tls, host, stands, failed }: Handshake): void {
  const name = tls.serverName ?? host;
  const gate = facts.holdsTlsReads ? undefined : new Gate(below);
  gate?.on("error", failed);
  let socket: TLSSocket;
  try {
    socket = connect({ ...tls.options, socket: gate ?? below, host: name, ...(isIP(name) === 0 ? { servername: name } : {}) });
  } catch (error) {
    return failed(error as Error); // credentials that Deno looks at only now; nobody above could catch it
  }
  socket.on("error", failed);
  socket.once("close", () => failed(new Error("closed in the TLS handshake")));
  socket.once("secureConnect", () => {
    if (!socket.authorized) return failed(socket.authorizationError ?? new Error("the back end was not verified"));
    stands(
      socketChannel(socket, {
        broken: "target_reset",
        below,
        ...(gate === undefined ? {} : { hold: () => gate.hold(), release: () => gate.release() }),
      }),
    );
  });
}
