/**
 * The door: accepts, bounds what strangers may hold, ends handshakes that take too long, and turns a socket into an identity.
 * Promises: `connection` only for a peer that `judge` believed on this very connection; each one turned away is told once under a reason
 * and destroyed, unless it speaks pipegate/1 and can still be told why. Leaves to others: what the identity may do.
 */
import type { Server, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { isMainThread, threadId } from "node:worker_threads";
import type { SocketAddress } from "../base/address.ts";
import { systemClock, type Clock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { Reason } from "../base/reason.ts";
import type { Identity } from "../identity/identity.ts";
import { judge, judgeAgain, type Proof, type Verdict } from "../identity/judge.ts";
import { authorityTexts } from "../identity/trust.ts";
import { ALPN } from "../protocol/frame.ts";
import { watchAccepting, type AcceptWatch } from "../runtime/accepting.ts";
import { bindServer } from "../runtime/bind.ts";
import { processDescriptors, type Descriptors } from "../runtime/descriptors.ts";
import { facts } from "../runtime/facts.ts";
import { keepUnread } from "../runtime/unread.ts";
import { cutSocket } from "../runtime/socket-channel.ts";
import { createServer, type Secured, type TlsServer, type TlsServerOptions } from "../runtime/tls-server.ts";
import { presentedBy } from "../runtime/tls-peer.ts";
import { requireUsableCredentials } from "./credentials.ts";
import { ExpectedProbes, type ExpectedProbe } from "./expected.ts";
import { handshakeFailure, type HandshakeError, type HandshakeFailure } from "./failure.ts";
import { Handshakes } from "./handshakes.ts";
import type { ListenerOptions, ServedOptions } from "./listener-options.ts";
import { askedName, isServerName } from "./server-name.ts";
import { sourceOf, type Source } from "./source.ts";
import { createTally, type Count } from "./tally.ts";

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
  /** For judging it again when trust or time have moved on. */
  readonly proof: Proof;
}

export interface ListenerRefusal {
  readonly reason: Reason;
  readonly detail: string;
  readonly source: Source;
  readonly fingerprint?: string | undefined;
  readonly serverName?: string | undefined;
  /** Still open, and speaks pipegate/1: `answer` comes for it, unless it leaves before. */
  readonly connection?: OpenConnection | undefined;
}

/** Of a connection that can be told. */
export interface AnswerableRefusal extends ListenerRefusal {
  readonly connection: OpenConnection;
}

export interface ListenerEvents {
  connection(connection: SecureConnection): void;
  /** Once for each that came and was not let in, at once. */
  refused(refusal: ListenerRefusal): void;
  /** After that, when the answer is due: whoever gets this tells the connection why, and closes it. */
  answer(refusal: AnswerableRefusal): void;
  /** Accepting failed for want of descriptors or memory; it goes on by itself when there are some. */
  troubled?(error: Error): void;
}

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

  async bind(address: SocketAddress = this.#options.address, { shared = false }: { readonly shared?: boolean } = {}): Promise<void> {
    this.address = await bindServer(this.#server, address, { shared });
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
    if (this.#stopped) this.#server.close(); // meanwhile
  }

  expect(probe: ExpectedProbe): void {
    this.#expected.expect(probe);
  }

  /** Whether this socket may begin a handshake. */
  #accept(socket: Socket): boolean {
    const probe = this.#expected.take(socket);
    const source = probe ?? sourceOf(socket, this.#options.address.kind);
    if (source === undefined || this.#stopped || this.#watch?.isOwn(socket) === true) return false; // left already, or we did; or ourselves
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
    const verdict = serverName === undefined || isServerName(serverName) ? this.#judge(socket, { current }) : malformedName;
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

  /** The one guard from socket to identity. */
  #judge(socket: TLSSocket, { current }: { readonly current: boolean }): Verdict {
    const resumed = socket.isSessionReused();
    if (resumed && facts.endsTickets)
      return { ok: false, reason: "resumed_session", detail: "a TLS session was resumed although no tickets are given out" };
    const proven = !resumed && current && facts.provesChains && socket.authorized;
    const { trust } = this.#served;
    const now = this.#clock.wall();
    const presented = presentedBy(socket);
    const known = presented.fingerprint === undefined ? undefined : judgeAgain(presented.fingerprint, trust, now);
    const verdict = known ?? judge(presented.chain(), trust, { now, verifiedByRuntime: proven });
    if (verdict.ok && !resumed && !socket.authorized) {
      return {
        ok: false,
        reason: "unknown_issuer",
        detail: "the TLS stack did not authorize it",
        fingerprint: verdict.identity.fingerprint,
      };
    }
    const denied = verdict.ok ? this.#served.denies?.(verdict.identity) : undefined;
    if (!verdict.ok || denied === undefined) return verdict;
    return { ok: false, reason: "revoked", detail: `trust.deny names ${denied}`, fingerprint: verdict.identity.fingerprint };
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#expected.stop();
    this.#watch?.stop();
    this.#server.close();
    for (const socket of this.#handshakes.clear()) socket.destroy(); // nobody was refused
  }

  async close(): Promise<void> {
    this.stop();
    await new Promise((resolve) => setImmediate(resolve)); // connections that are open need not end for the port to be free
  }
}

/** Opens a listener. Rejects with a PipegateError (config) when the credentials cannot be served, or the address cannot be had. */
export async function listen(options: ListenerOptions, events: ListenerEvents): Promise<Listener> {
  const door = new Door(options, events);
  await door.bind(options.address, { shared: options.shared ?? false });
  return door;
}
