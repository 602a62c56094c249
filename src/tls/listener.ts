/**
 * The door: accepts, bounds what strangers may hold, ends handshakes that take too long, and turns a socket into an identity.
 * Promises: `connection` only for a peer that `judge` believed on this very connection; each one turned away is told once under a reason
 * and destroyed, unless it speaks pipegate/1 and can still be told why. Leaves to others: what the identity may do.
 */
import type { Server, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { systemClock, type Timer } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { Reason } from "../base/reason.ts";
import type { Identity } from "../identity/identity.ts";
import { judge, judgeAgain } from "../identity/judge.ts";
import { bindServer } from "../runtime/bind.ts";
import { facts } from "../runtime/facts.ts";
import { createServer, type Secured } from "../runtime/tls-server.ts";
import { presentedChain, presentedFingerprint } from "../runtime/tls-peer.ts";
import { handshakeReason } from "./failure.ts";
import type { ListenAddress, ListenerOptions } from "./listener-options.ts";
import { sourceOf, type Source } from "./source.ts";

/** A TLS connection that is open. Its error listener is set. */
interface OpenConnection {
  readonly id: string;
  readonly socket: TLSSocket;
  /** The accepted socket below: a reset is sent on it. */
  readonly below: Socket;
  /** Stops and goes on with reading, where the TLS socket's own pause does not hold. */
  readonly hold: (() => void) | undefined;
  readonly release: (() => void) | undefined;
  /** Undefined when the client asked for no protocol. */
  readonly alpn: string | undefined;
  /** Lower case. */
  readonly serverName: string | undefined;
  readonly source: Source;
}

export interface SecureConnection extends OpenConnection {
  readonly identity: Identity;
}

export interface ListenerRefusal {
  readonly reason: Reason;
  readonly detail: string;
  readonly source: Source;
  readonly fingerprint?: string | undefined;
  readonly serverName?: string | undefined;
  /** Still open, and speaks pipegate/1: whoever gets this tells it why, and closes it. */
  readonly connection?: OpenConnection | undefined;
}

export interface ListenerEvents {
  connection(connection: SecureConnection): void;
  refused(refusal: ListenerRefusal): void;
}

export interface Listener {
  /** As bound: the port that was given for 0. */
  readonly address: ListenAddress;
  /** Takes no more connections; those that are open stay. */
  stop(): void;
  /** Takes no more and destroys handshakes under way; resolves when the port is free. */
  close(): Promise<void>;
}

/** A handshake under way. */
interface Handshake {
  readonly source: Source;
  readonly timer: Timer;
}

const ALPN_THAT_CAN_BE_TOLD = "pipegate/1";
let connections = 0;
const boot = Date.now().toString(36);

class Door implements Listener {
  readonly #options: ListenerOptions;
  readonly #events: ListenerEvents;
  readonly #server: Server;
  readonly #handshakes = new Map<Socket, Handshake>();
  readonly #bySource = new Map<string, number>();
  #open = 0;
  #closed: Promise<void> | undefined;
  address: ListenAddress;

  constructor(options: ListenerOptions, events: ListenerEvents) {
    this.#options = options;
    this.#events = events;
    this.address = options.address;
    this.#server = createServer(
      { ...options.credentials, ca: options.ca, alpn: options.alpn },
      {
        accepted: (socket) => this.#accept(socket),
        secured: (secured) => this.#secured(secured),
        failed: (below, error) => this.#failed(below, error),
        troubled: () => {},
      },
    );
  }

  async bind(): Promise<void> {
    this.address = await bindServer(this.#server, this.#options.address);
  }

  /** Whether this socket may begin a handshake. */
  #accept(socket: Socket): boolean {
    const { maxConnections, maxHandshakes, maxHandshakesPerSource, handshakeTimeoutMs } = this.#options;
    const source = sourceOf(socket);
    const ofSource = this.#bySource.get(source.key) ?? 0;
    const full = this.#open >= maxConnections ? "in all" : this.#handshakes.size >= maxHandshakes ? "handshakes in all" : "handshakes of this source";
    if (this.#open >= maxConnections || this.#handshakes.size >= maxHandshakes || ofSource >= maxHandshakesPerSource) {
      this.#events.refused({ reason: "too_many_connections", detail: full, source });
      return false;
    }
    this.#open++;
    this.#bySource.set(source.key, ofSource + 1);
    const timer = systemClock.after(handshakeTimeoutMs, () => {
      if (this.#leave(socket) !== undefined) this.#events.refused({ reason: "handshake_timeout", detail: `not done after ${handshakeTimeoutMs} ms`, source });
      socket.destroy();
    });
    this.#handshakes.set(socket, { source, timer });
    socket.on("close", () => {
      this.#open--;
      if (this.#leave(socket) !== undefined) this.#events.refused({ reason: "session_lost", detail: "left during the handshake", source });
    });
    return true;
  }

  /** The handshake is over, one way or another. Undefined when it was before. */
  #leave(socket: Socket): Handshake | undefined {
    const handshake = this.#handshakes.get(socket);
    if (handshake === undefined) return undefined;
    this.#handshakes.delete(socket);
    handshake.timer.cancel();
    const { key } = handshake.source;
    const left = (this.#bySource.get(key) ?? 1) - 1;
    if (left === 0) this.#bySource.delete(key);
    else this.#bySource.set(key, left);
    return handshake;
  }

  #failed(below: Socket, error: Error): void {
    const handshake = this.#leave(below);
    if (handshake !== undefined) this.#events.refused({ ...handshakeReason(error), source: handshake.source });
  }

  #secured({ socket, below, gate }: Secured): void {
    const handshake = this.#leave(below);
    if (handshake === undefined) return void socket.destroy(); // its time was over
    const { source } = handshake;
    const alpn = typeof socket.alpnProtocol === "string" && socket.alpnProtocol !== "" ? socket.alpnProtocol : undefined;
    const name: unknown = (socket as { readonly servername?: unknown }).servername;
    const serverName = typeof name === "string" && name !== "" ? name.toLowerCase() : undefined;
    const connection: OpenConnection = {
      id: `${boot}-${(++connections).toString(36)}`,
      socket,
      below,
      hold: gate === undefined ? undefined : () => gate.hold(),
      release: gate === undefined ? undefined : () => gate.release(),
      alpn,
      serverName,
      source,
    };
    const verdict = this.#judge(socket);
    if (verdict.ok && (alpn !== undefined || this.#options.withoutAlpn)) return this.#events.connection({ ...connection, identity: verdict.identity });
    const refusal: ListenerRefusal = verdict.ok
      ? { reason: "alpn", detail: "no protocol was asked for", source, serverName, fingerprint: verdict.identity.fingerprint }
      : { reason: verdict.reason, detail: verdict.detail, source, serverName, fingerprint: verdict.fingerprint };
    const tellable = alpn === ALPN_THAT_CAN_BE_TOLD;
    this.#events.refused(tellable ? { ...refusal, connection } : refusal);
    if (!tellable) socket.destroy();
  }

  /** The one guard from socket to identity. */
  #judge(socket: TLSSocket): ReturnType<typeof judge> {
    const resumed = socket.isSessionReused();
    if (resumed && facts.endsTickets) return { ok: false, reason: "resumed_session", detail: "a TLS session was resumed although no tickets are given out" };
    const proven = !resumed && facts.provesChains && socket.authorized;
    const { trust } = this.#options;
    const now = systemClock.wall();
    const fingerprint = presentedFingerprint(socket);
    const known = fingerprint === undefined ? undefined : judgeAgain(fingerprint, trust, now);
    const verdict = known ?? judge(presentedChain(socket), trust, { now, verifiedByRuntime: proven });
    if (verdict.ok && !resumed && !socket.authorized) return { ok: false, reason: "unknown_issuer", detail: "the TLS stack did not authorize it" };
    return verdict;
  }

  stop(): void {
    this.#closed ??= new Promise((resolve) => this.#server.close(() => resolve()));
  }

  async close(): Promise<void> {
    this.stop();
    for (const socket of this.#handshakes.keys()) socket.destroy();
    await this.#closed;
  }
}

/** Opens a listener. Rejects with a PipegateError (config) when the address cannot be had. */
export async function listen(options: ListenerOptions, events: ListenerEvents): Promise<Listener> {
  if (options.alpn.length === 0 && !options.withoutAlpn) throw new PipegateError("config", "a listener without any protocol");
  const door = new Door(options, events);
  await door.bind();
  return door;
}
