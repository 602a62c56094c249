/**
 * Connections to back ends as channels: TCP (addresses in turn, names resolved in order), unix, TLS 1.2 and later.
 * Promises: one deadline for all of it, of which each address gets an even share; no connection is handed out before it stands, and a
 * TLS one not before the back end is verified; an abort, a deadline or a failure leaves no socket behind.
 * TLS 1.2 is taken, unlike at our own door: back ends may be old, and what is verified is the same. Leaves to others: when to dial.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { connect as connectNet, isIP, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls, createSecureContext } from "node:tls";
import { addressText, type SocketAddress } from "../base/address.ts";
import type { Channel } from "../base/channel.ts";
import { systemClock, type Clock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import { processDescriptors, type Descriptors } from "./descriptors.ts";
import { facts } from "./facts.ts";
import { Gate } from "./gate.ts";
import { forget, resolve } from "./resolve.ts";
import { socketChannel } from "./socket-channel.ts";

export interface DialOptions {
  /** For all addresses together, names included. */
  readonly timeoutMs: number;
  /** Gives up. */
  readonly signal: AbortSignal;
  /** From `dialTls`. Absent: no TLS. */
  readonly tls?: DialTls;
  readonly clock?: Clock;
  /** Where connections take their descriptors from. Default: the process's. */
  readonly descriptors?: Descriptors;
}

export interface TlsOptions {
  /** PEM texts; empty: the runtime's public roots. */
  readonly ca: readonly string[];
  /** Ours, PEM, both or none. */
  readonly certificate?: string;
  readonly key?: string;
  /** The name to verify. Default: the address's host. */
  readonly serverName?: string;
}

export interface Dialled {
  readonly channel: Channel;
  /** What was reached, for the log: `10.0.0.5:5432`, `[::1]:5432`, `unix:/run/x.sock`. */
  readonly text: string;
}

/** TLS options, checked, as the runtime wants them. */
export interface DialTls {
  readonly options: ConnectionOptions;
  readonly serverName: string | undefined;
}

/** Checks TLS options once for many dials. Throws a PipegateError (config). */
export function dialTls(options: TlsOptions): DialTls {
  const { certificate, key } = options;
  try {
    for (const pem of options.ca) void new X509Certificate(pem);
    if ((certificate === undefined) !== (key === undefined)) throw new Error("a certificate and a key belong together");
    if (certificate !== undefined && key !== undefined && !new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key))) {
      throw new Error("the key does not belong to the certificate");
    }
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new PipegateError("config", `a target's TLS credentials cannot be used: ${what}`, {
      next: "check its ca, certificate and key",
      cause: error,
    });
  }
  const whole: ConnectionOptions = {
    ...(options.ca.length > 0 ? { ca: [...options.ca] } : {}), // without: public roots
    ...(certificate === undefined ? {} : { cert: certificate, key }),
    minVersion: "TLSv1.2",
  };
  const fixed = { rejectUnauthorized: true, allowHalfOpen: true } as const;
  // Reading the CAs costs as much as the handshake. Deno wants the options themselves.
  return {
    options:
      facts.name === "node" ? { ...fixed, minVersion: "TLSv1.2", secureContext: createSecureContext(whole) } : { ...fixed, ...whole },
    serverName: options.serverName,
  };
}

/** Tries the addresses in turn. Rejects with a PipegateError: target_unavailable, target_timeout, or cancelled when `signal` fired. */
export async function dial(addresses: readonly SocketAddress[], options: DialOptions): Promise<Dialled> {
  const { signal, tls, clock = systemClock, descriptors = processDescriptors() } = options;
  const deadline = clock.now() + options.timeoutMs;
  const failures: string[] = [];
  let onlyTimeouts = true;
  const failed = (text: string, error: unknown): void => {
    if (signal.aborted) throw new PipegateError("cancelled", "given up while dialling");
    if (!(error instanceof TimeoutError)) onlyTimeouts = false;
    failures.push(`${text}: ${causeOf(error)}`);
  };
  let left = addresses.length;
  for (const address of addresses) {
    left--;
    let hosts = noNames;
    if (address.kind === "tcp") {
      if (isIP(address.host) !== 0) hosts = [address.host];
      else {
        try {
          hosts = await bounded(resolve(address.host, clock), { ms: (deadline - clock.now()) / (1 + left), signal, clock });
        } catch (error) {
          failed(address.host, error);
          continue;
        }
      }
    }
    let untried = hosts.length;
    for (const host of hosts) {
      const text = addressText(address.kind === "tcp" ? { ...address, host } : address);
      const ms = Math.max(0, (deadline - clock.now()) / (untried-- + left));
      try {
        return { channel: await connectOne(address, { ms, signal, clock, host, tls, descriptors }), text };
      } catch (error) {
        failed(text, error);
      }
    }
    if (address.kind === "tcp") forget(address.host);
  }
  throw new PipegateError(onlyTimeouts ? "target_timeout" : "target_unavailable", failures.join("; ") || "no address");
}

/** What a unix socket's address is resolved to. */
const noNames: readonly string[] = [""];

interface Attempt {
  readonly ms: number;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

class TimeoutError extends Error {}

/** What went wrong, in few words: the system's code, or a sentence where there is none. */
function causeOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return typeof code === "string" && !message.includes(code) ? `${message} (${code})` : message;
}

/** `promise`, or a rejection when time is up or the signal fires. */
function bounded<Value>(promise: Promise<Value>, { ms, signal, clock }: Attempt): Promise<Value> {
  return new Promise<Value>((settle, reject) => {
    const aborted = (): void => reject(signal.reason as Error);
    if (signal.aborted) return aborted();
    const timer = clock.after(ms, () => reject(new TimeoutError("the name was not resolved in time")));
    signal.addEventListener("abort", aborted, { once: true });
    promise.then(settle, reject).finally(() => {
      timer.cancel();
      signal.removeEventListener("abort", aborted);
    });
  });
}

interface Connecting extends Attempt {
  readonly host: string;
  readonly tls: DialTls | undefined;
  readonly descriptors: Descriptors;
}

function connectOne(address: SocketAddress, how: Connecting): Promise<Channel> {
  const { signal, tls, ms } = how;
  return new Promise<Channel>((settle, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const giveBack = how.descriptors.forBackEnd();
    if (giveBack === undefined) return reject(new Error("the process has no descriptors left for back ends"));
    const socket =
      address.kind === "unix"
        ? connectNet({ path: address.path, allowHalfOpen: true })
        : connectNet({
            host: how.host,
            port: address.port,
            allowHalfOpen: true,
            noDelay: true,
            keepAlive: true,
            keepAliveInitialDelay: 60_000,
          });
    socket.once("close", giveBack);
    let done = false;
    const finish = (): boolean => {
      if (done) return false;
      done = true;
      timer.cancel();
      signal.removeEventListener("abort", aborted);
      return true;
    };
    const failed = (error: Error): void => {
      if (!finish()) return;
      socket.destroy();
      reject(error);
    };
    const stands = (channel: () => Channel): void => {
      if (finish()) settle(channel());
    };
    const aborted = (): void => failed(signal.reason as Error);
    const timer = how.clock.after(ms, () => failed(new TimeoutError(`no answer within ${Math.round(ms)} ms`)));
    signal.addEventListener("abort", aborted, { once: true });
    const closed = (): void => failed(new Error("closed while connecting"));
    socket.on("error", failed); // stays where it failed: an error after the end is no event
    socket.once("close", closed);
    socket.once("connect", () => {
      if (tls === undefined) {
        stands(() => {
          const channel = socketChannel(socket, { broken: "target_reset" });
          socket.off("close", closed).off("error", failed); // what dialling holds goes with it: a pipe may be idle for days
          return channel;
        });
      } else shake(socket, { tls, name: tls.serverName ?? (address.kind === "tcp" ? address.host : "localhost"), stands, failed });
    });
  });
}

interface Handshake {
  readonly tls: DialTls;
  readonly name: string;
  readonly stands: (channel: () => Channel) => void;
  readonly failed: (error: Error) => void;
}

/** TLS over a connected socket; where the runtime cannot stop reading TLS, over a gate. */
function shake(below: Socket, { tls, name, stands, failed }: Handshake): void {
  const gate = facts.holdsTlsReads ? undefined : new Gate(below);
  gate?.on("error", failed);
  const socket = connectTls({
    ...tls.options,
    socket: gate ?? below,
    host: name,
    ...(isIP(name) === 0 ? { servername: name } : {}),
  });
  socket.on("error", failed);
  socket.once("close", () => failed(new Error("closed in the TLS handshake")));
  socket.once("secureConnect", () => {
    if (!socket.authorized) return failed(socket.authorizationError ?? new Error("the back end was not verified"));
    stands(() =>
      socketChannel(socket, {
        broken: "target_reset",
        below,
        ...(gate === undefined ? {} : { hold: () => gate.hold(), release: () => gate.release() }),
      }),
    );
  });
}
