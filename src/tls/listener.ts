/**
 * The door: accepts, bounds what strangers may hold, and ends handshakes that take too long. Promises: `connection` only for a peer that
 * the guard believed; each one turned away is told once under a reason and destroyed, unless it speaks pipegate/1 and can still be told
 * why. Leaves to others: the guard (peer.ts), what the identity may do.
 */
import type { Server, Socket } from "node:net";
import { isMainThread, threadId } from "node:worker_threads";
import type { SocketAddress } from "../base/address.ts";
import { systemClock, type Clock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { Verdict } from "../identity/judge.ts";
import { authorityTexts } from "../identity/trust.ts";
import { ALPN } from "../protocol/frame.ts";
import { watchAccepting, type AcceptWatch } from "../runtime/accepting.ts";
import { bindServer } from "../runtime/bind.ts";
import { processDescriptors, type Descriptors } from "../runtime/descriptors.ts";
import { keepUnread } from "../runtime/unread.ts";
import { cutSocket } from "../runtime/socket-channel.ts";
import { createServer, type Secured, type TlsServer, type TlsServerOptions } from "../runtime/tls-server.ts";
import { requireUsableCredentials } from "./credentials.ts";
import { ExpectedProbes, type ExpectedProbe } from "./expected.ts";
import { handshakeFailure, type HandshakeError, type HandshakeFailure } from "./failure.ts";
import { Handshakes } from "./handshakes.ts";
import type { AnswerableRefusal, ListenerEvents, ListenerRefusal, OpenConnection } from "./listener-events.ts";
import type { ListenerOptions, ServedOptions } from "./listener-options.ts";
import { judgePeer } from "./peer.ts";
import { askedName, isServerName } from "./server-name.ts";
import { sourceOf, type Source } from "./source.ts";
import { createTally, type Count } from "./tally.ts";

export interface Listener {
  /** As bound: the port that was given for 0. */
  readonly address: SocketAddress;
  /**
   * Makes other options ready for whoever comes from now on; what it returns puts them in force, and cannot fail. Connections that are open
   * stay; those in their handshakes are judged by what is in force at its end. Throws a PipegateError (config) when they cannot be served.
   */
  prepare(served: ServedOptions): () => void;
  /** From where it was tried to the address that it shares with others. Rejects with a PipegateError (config) when that cannot be had. */
  move(address: SocketAddress): Promise<void>;
  /** A connection that the self-test is about to make: it is outside of all caps, and how it ends is told to it alone. */
  expect(probe: ExpectedProbe): void;
  /** Takes no more connections, and ends handshakes under way; connections that are open stay. */
  stop(): void;
  /** The same; resolves when the address is free. */
  close(): Promise<void>;
}

let connections = 0;
/** Of this thread of this process. */
const boot = `${Date.now().toString(36)}${isMainThread ? "" : `.${threadId}`}`;

const malformedName: Verdict = { ok: false, reason: "not_tls", detail: "asked for a server name that is none" };

const seconds = (ms: number): string => `${Math.ceil(ms / 1000)} s`;

class Door implements Listener {
  readonly #options: ListenerOptions;
  readonly #events: ListenerEvents;
  readonly #clock: Clock;
  readonly #tls: TlsServer;
  readonly #server: Server;
  #served: ServedOptions;
  readonly #handshakes: Handshakes;
  readonly #descriptors: Descriptors;
  readonly #expected = new ExpectedProbes();
  readonly #open: Count;
  #stopped = false;
  /** While it binds. */
  #binding: Promise<void> | undefined;
  #watch: AcceptWatch | undefined;
  address: SocketAddress;

  constructor(options: ListenerOptions, events: ListenerEvents) {
    this.#options = options;
    this.#events = { ...events, ...this.#expected.divert(events) };
    this.#clock = options.clock ?? systemClock;
    const tally = options.tally ?? createTally();
    this.#handshakes = new Handshakes({ ...options, tally }, this.#clock);
    this.#open = tally.of("connections");
    this.#descriptors = options.descriptors ?? processDescriptors();
    this.address = options.address;
    this.#served = options;
    requireUsableCredentials(options.credentials, this.#clock.wall());
    this.#tls = createServer(this.#tlsOptions(options), {
      accepted: (socket) => this.#accept(socket),
      secured: (secured) => this.#secured(secured),
      failed: (below, error) => this.#failed(below, error),
      // Before it is bound, the failure is bind's to tell.
      troubled: (error) => void (this.#watch !== undefined && this.#events.troubled?.(error)),
    });
    this.#server = this.#tls.server;
  }

  #tlsOptions({ credentials, trust, alpn, withoutAlpn }: ServedOptions): TlsServerOptions {
    if (alpn.length === 0 && !withoutAlpn) {
      throw new PipegateError("config", "a listener without any protocol", { next: "offer one, or take clients that ask for none" });
    }
    const holdable = withoutAlpn || alpn.some((protocol) => protocol !== ALPN); // frames are never paused
    return { ...credentials, ca: authorityTexts(trust), alpn, holdable };
  }

  prepare(served: ServedOptions): () => void {
    const { certificate, key } = this.#served.credentials;
    // What stands was judged when it came, and its end must not keep other trust out.
    if (served.credentials.certificate !== certificate || served.credentials.key !== key)
      requireUsableCredentials(served.credentials, this.#clock.wall());
    const commit = this.#tls.prepare(this.#tlsOptions(served));
    return () => {
      commit();
      this.#served = served;
    };
  }

  bind(address: SocketAddress, how: { readonly shared: boolean }): Promise<void> {
    const bound = this.#bind(address, how);
    this.#binding = bound.catch(() => {}).then(() => (this.#binding = undefined));
    return bound;
  }

  async #bind(address: SocketAddress, { shared }: { readonly shared: boolean }): Promise<void> {
    this.address = await bindServer(this.#server, address, { shared });
    if (this.#stopped) return void this.#server.close(); // meanwhile
    this.#watch = watchAccepting(this.#server, {
      address: this.address,
      shared,
      clock: systemClock, // what it watches is the machine, also where a test moves time
      troubled: (error) => this.#events.troubled?.(error),
    });
  }

  async move(address: SocketAddress): Promise<void> {
    this.#watch?.stop();
    this.#server.close();
    await this.bind(address, { shared: true });
  }

  expect(probe: ExpectedProbe): void {
    this.#expected.expect(probe);
  }

  /** Whether this socket may begin a handshake. */
  #accept(socket: Socket): boolean {
    const probe = this.#expected.take(socket);
    const source = probe ?? sourceOf(socket, this.#options.address.kind);
    if (source === undefined || this.#stopped || this.#watch?.takeOwn(socket) === true) return false; // left already, or we did; or ourselves
    const obstacle = probe === undefined ? this.#obstacle(source) : undefined;
    // A probe may go to the reserve: strangers who hold all seats must not keep a gateway from starting.
    const giveBack = obstacle !== undefined ? undefined : probe !== undefined ? () => {} : this.#descriptors.forClient();
    if (giveBack === undefined) {
      if (obstacle === undefined) this.#watch?.scarce();
      const scarce = { reason: "too_many_connections", detail: "the process has no descriptors left for connections" } as const;
      this.#events.refused({ ...(obstacle ?? scarce), source });
      return false;
    }
    this.#open.add(1);
    const { handshakeTimeoutMs } = this.#options;
    const late = (): void => {
      const { bytesRead } = socket;
      this.#refuse(socket, { reason: "handshake_timeout", detail: `not done after ${handshakeTimeoutMs} ms, ${bytesRead} bytes came` });
      socket.destroy();
    };
    this.#handshakes.enter(socket, { source, timeoutMs: handshakeTimeoutMs, late });
    socket.on("close", () => {
      this.#open.add(-1);
      giveBack();
      if (!this.#handshakes.has(socket)) return;
      const { bytesRead } = socket;
      // The TLS stack closes first and says why a moment later.
      setImmediate(() => this.#refuse(socket, handshakeFailure({ code: "ECONNRESET", message: "socket hang up" }, { bytesRead })));
    });
    // Other threads may have taken the last place at the same moment: whoever sees that gives way.
    const over = this.#options.tally === undefined || probe !== undefined ? undefined : this.#full(source, { counted: true });
    if (over !== undefined) this.#refuse(socket, over);
    return over === undefined;
  }

  /** Why whoever comes from there may not even begin a handshake. */
  #obstacle(source: Source): HandshakeFailure | undefined {
    const { penalties } = this.#options;
    const keptOutMs = penalties?.keptOut(source);
    if (keptOutMs !== undefined)
      return { reason: "rate_limited", detail: `its address failed too often and is kept out for ${seconds(keptOutMs)} yet` };
    return this.#full(source);
  }

  /** `counted`: it is among those that are counted. */
  #full(source: Source, { counted = false } = {}): HandshakeFailure | undefined {
    const { maxConnections } = this.#options;
    const others = this.#open.value - (counted ? 1 : 0);
    const full = others >= maxConnections ? `${maxConnections} connections are open` : this.#handshakes.fullFor(source, { counted });
    return full === undefined ? undefined : { reason: "too_many_connections", detail: full };
  }

  /** Tells it, unless this handshake's end was told before. */
  #refuse(below: Socket, failure: HandshakeFailure): void {
    const source = this.#handshakes.leave(below);
    if (source !== undefined) this.#events.refused({ ...this.#charged(failure, source), source });
  }

  /** With what its source has to pay for it. */
  #charged(failure: HandshakeFailure, source: Source): HandshakeFailure {
    const { reason, detail } = failure;
    const keptOutMs = this.#options.penalties?.charge(source, reason);
    return keptOutMs === undefined ? failure : { reason, detail: `${detail}; its address is kept out for ${seconds(keptOutMs)}` };
  }

  #failed(below: Socket, error: HandshakeError): void {
    this.#refuse(below, handshakeFailure(error, below));
  }

  #secured(secured: Secured): void {
    const { socket, below } = secured;
    const source = this.#handshakes.leave(below);
    if (source === undefined || this.#stopped) return void socket.destroy(); // its time was over, or ours is
    try {
      this.#welcome(secured, source);
    } catch (error) {
      socket.destroy();
      this.#events.refused({
        reason: "internal",
        detail: error instanceof Error ? (error.stack ?? error.message) : String(error),
        source,
      });
    }
  }

  #welcome({ socket, below, gate, current }: Secured, source: Source): void {
    const { alpnProtocol } = socket;
    const alpn = typeof alpnProtocol === "string" && alpnProtocol !== "" ? alpnProtocol : undefined;
    const serverName = askedName(socket);
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
    const verdict =
      serverName === undefined || isServerName(serverName)
        ? judgePeer(socket, { served: this.#served, current, now: this.#clock.wall() })
        : malformedName;
    if (verdict.ok && (alpn !== undefined || this.#served.withoutAlpn))
      return this.#events.connection({ ...connection, identity: verdict.identity, proof: verdict.proof });
    const failure = verdict.ok ? ({ reason: "alpn", detail: "no protocol was asked for" } as const) : verdict;
    const fingerprint = verdict.ok ? verdict.identity.fingerprint : verdict.fingerprint;
    this.#turnAway(connection, { ...this.#charged(failure, source), fingerprint });
  }

  /** Proven or not, it is not let in. The log has it at once, the peer later: whoever tries keys and names has to wait for each. */
  #turnAway(connection: OpenConnection, failure: HandshakeFailure & { readonly fingerprint: string | undefined }): void {
    const { socket, below, source, serverName, alpn } = connection;
    const { reason, detail, fingerprint } = failure;
    const refusal: ListenerRefusal = { reason, detail, source, serverName, fingerprint };
    const tellable: AnswerableRefusal | undefined = alpn === ALPN ? { ...refusal, connection } : undefined;
    this.#events.refused(tellable ?? refusal);
    const letGo = keepUnread(connection);
    this.#handshakes.answerLater(below, {
      source,
      delayMs: this.#options.refusalDelayMs,
      answer: () => {
        letGo();
        if (tellable === undefined || socket.destroyed) cutSocket(socket, below);
        else this.#events.answer(tellable);
      },
    });
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#expected.stop();
    this.#watch?.stop();
    if (this.#binding === undefined) this.#server.close(); // a server that is closed while it binds never says how that ended
    for (const socket of this.#handshakes.clear()) socket.destroy(); // nobody was refused
  }

  async close(): Promise<void> {
    this.stop();
    await this.#binding;
    await new Promise((resolve) => setImmediate(resolve)); // connections that are open need not end for the port to be free
  }
}

/** Opens a listener. Rejects with a PipegateError (config) when the credentials cannot be served, or the address cannot be had. */
export async function listen(options: ListenerOptions, events: ListenerEvents): Promise<Listener> {
  const door = new Door(options, events);
  await door.bind(options.address, { shared: options.shared ?? false });
  return door;
}
