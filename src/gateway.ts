/**
 * The story of a connection, from accept to close: in at the door, who are you, may you, how fast, which stream, which target, out.
 * Promises: no byte of a peer reaches a back end before identity, policy and limits passed on this connection; every refusal is
 * answered, logged and counted once; no fault of a peer or a back end ends the process. Leaves to others: how each stage decides.
 */
import type { Break, Channel } from "./base/channel.ts";
import { systemClock, type Clock, type Timer } from "./base/clock.ts";
import { PipegateError } from "./base/error.ts";
import { silentLogger, type Logger } from "./base/log.ts";
import { isReason } from "./base/reason.ts";
import type { Config, ListenerConfig } from "./config/config.ts";
import type { Identity } from "./identity/identity.ts";
import { createTrust } from "./identity/judge.ts";
import { Journal, type ConnectionFacts } from "./journal.ts";
import { Metrics, type Flow } from "./metrics.ts";
import { Pipe } from "./pipe/pipe.ts";
import { PipeRegistry } from "./pipe/registry.ts";
import { Limiter, type PipeLease } from "./policy/limiter.ts";
import { connectionLimits, createPolicy, decide, type Policy } from "./policy/policy.ts";
import type { Rule } from "./policy/rule.ts";
import { ALPN } from "./protocol/frame.ts";
import type { Session } from "./protocol/session.ts";
import type { Stream } from "./protocol/stream.ts";
import { socketChannel } from "./runtime/socket-channel.ts";
import { requireSupportedRuntime } from "./runtime/version.ts";
import { GatheringBudget } from "./target/gathering.ts";
import { createTarget } from "./target/kinds.ts";
import type { Target } from "./target/target.ts";
import { listen, type Listener, type ListenerRefusal, type SecureConnection } from "./tls/listener.ts";
import { listenerDefaults, type ListenAddress } from "./tls/listener-options.ts";
import { sessionOver } from "./tls/session-socket.ts";

export interface GatewayOptions {
  /** Default: says nothing. */
  readonly logger?: Logger;
  readonly clock?: Clock;
}

export interface PipeStatus extends Flow {
  readonly id: string;
  readonly connection: string;
  readonly identity: string;
  readonly target: string;
  readonly backEnd: string;
  readonly mode: "bytes" | "messages";
  readonly seconds: number;
  /** What each direction waits for, if it waits: the client's limit, or whoever should take the bytes. */
  readonly waits: readonly string[];
}

export interface GatewayStatus {
  readonly state: "ready" | "draining" | "closed";
  readonly listeners: readonly string[];
  readonly connections: number;
  readonly connectionsTotal: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly pipes: readonly PipeStatus[];
}

/** A connection that is let in: what drain and close act on. */
interface Live {
  drain(graceMs: number): void;
  close(broken: Break): void;
}

/** How long clients have to finish when a gateway drains, ms. */
const DRAIN_MS = 30_000;
/** A refused raw client sees its connection cut; a framed one has this long to read why, ms. */
const REFUSAL_LINGER_MS = 2_000;

export class Gateway {
  readonly #config: Config;
  readonly #clock: Clock;
  readonly #policy: Policy;
  readonly #limiter: Limiter;
  readonly #targets = new Map<string, Target>();
  readonly #metrics: Metrics;
  readonly #journal: Journal;
  readonly #pipes = new PipeRegistry();
  readonly #live = new Set<Live>();
  #listeners: Listener[] = [];
  #state: GatewayStatus["state"] = "ready";
  #drained: Promise<void> | undefined;
  #whenEmpty: (() => void) | undefined;

  /** Throws a PipegateError (config) when the config cannot be served in full on this runtime. */
  constructor(config: Config, options: GatewayOptions = {}) {
    this.#config = config;
    this.#clock = options.clock ?? systemClock;
    this.#policy = createPolicy(config.rules);
    this.#limiter = new Limiter({ clock: this.#clock });
    this.#metrics = new Metrics(config.targets.keys());
    this.#journal = new Journal(options.logger ?? silentLogger, { metrics: this.#metrics, clock: this.#clock });
    const budget = new GatheringBudget({ maxMessageBytes: config.maxMessageBytes });
    for (const [name, target] of config.targets) this.#targets.set(name, createTarget(name, target, { budget }));
  }

  /** Opens every listener, or none. Returns where they listen, in the order of the config. */
  async listen(): Promise<readonly ListenAddress[]> {
    requireSupportedRuntime();
    if (this.#listeners.length > 0 || this.#state !== "ready") throw new PipegateError("usage", "this gateway has been started before");
    const trust = createTrust({ ca: this.#config.trust.ca, crl: this.#config.trust.crl, now: this.#clock.wall() });
    try {
      for (const listener of this.#config.listeners) {
        const raw = listener.target !== undefined || listener.serverNames.size > 0;
        this.#listeners.push(
          await listen(
            {
              ...listenerDefaults,
              address: listener.listen,
              credentials: this.#config.credentials,
              trust,
              alpn: [ALPN, ...(raw ? listener.alpn : [])],
              withoutAlpn: raw,
              clock: this.#clock,
            },
            {
              connection: (connection) => this.#connection(connection, listener),
              refused: (refusal) => this.#refused(refusal),
              troubled: (error) => this.#journal.troubled(error),
            },
          ),
        );
      }
    } catch (error) {
      await this.close();
      throw error;
    }
    return this.#listeners.map((listener) => listener.address);
  }

  // ---- one connection

  #connection(connection: SecureConnection, listener: ListenerConfig): void {
    const { identity } = connection;
    const framed = connection.alpn === ALPN;
    if (this.#state !== "ready") return this.#turnAway(connection, { reason: "draining" });
    const rule = connectionLimits(this.#policy, identity);
    if (rule === undefined) return this.#turnAway(connection, { reason: "forbidden", detail: "no rule knows this identity" });
    const seat = this.#limiter.connect(identity, rule);
    if (!seat.ok) return this.#turnAway(connection, { reason: seat.reason, retryAfter: seat.retryAfter });
    const facts: ConnectionFacts = {
      id: connection.id,
      source: connection.source.text,
      identity,
      protocol: connection.alpn ?? "raw",
      rule,
    };
    const leave = (): void => seat.release();
    if (framed) this.#framed(connection, { facts, leave });
    else this.#raw(connection, { facts, leave, listener });
  }

  /** Known, but not let in. */
  #turnAway(connection: SecureConnection, broken: Break): void {
    const { identity, source } = connection;
    this.#refused(
      {
        reason: broken.reason,
        detail: broken.detail ?? "",
        source,
        fingerprint: identity.fingerprint,
        connection: connection.alpn === ALPN ? connection : undefined,
      },
      identity,
    );
    if (connection.alpn !== ALPN) connection.socket.destroy();
  }

  /** The door turned somebody away. Who speaks pipegate/1 is told why. */
  #refused(refusal: ListenerRefusal, identity?: Identity): void {
    this.#journal.refusal({ ...refusal, identity, source: refusal.source.text, connection: refusal.connection?.id });
    if (refusal.connection === undefined) return;
    sessionOver(refusal.connection.socket, {
      role: "gateway",
      clock: this.#clock,
      refusal: { reason: refusal.reason },
      helloTimeoutMs: REFUSAL_LINGER_MS,
      events: { closed: () => {} },
    });
  }

  /** pipegate/1: many streams, each judged for itself. */
  #framed(connection: SecureConnection, { facts, leave }: { readonly facts: ConnectionFacts; readonly leave: () => void }): void {
    const openedAt = this.#clock.now();
    let pipes = 0;
    const session: Session = sessionOver(connection.socket, {
      role: "gateway",
      clock: this.#clock,
      parameters: { software: "pipegate", maxMessage: this.#config.maxMessageBytes },
      events: {
        open: (stream) => {
          pipes++;
          this.#open(stream, facts);
        },
        closed: (broken) => {
          leave();
          this.#gone(live);
          this.#journal.connectionClose(facts, { openedAt, pipes, broken });
        },
      },
    });
    const live: Live = { drain: (graceMs) => session.drain(graceMs), close: (broken) => session.close(broken) };
    this.#live.add(live);
    this.#journal.connectionOpen(facts);
  }

  /** One OPEN: decided, limited, dialled, joined. */
  #open(stream: Stream, facts: ConnectionFacts): void {
    const permit = this.#permit(stream.target, facts);
    if (!permit.ok) {
      // The detail stays here: to the peer an unknown target and a forbidden one look alike.
      stream.reset({
        reason: permit.broken.reason,
        ...(permit.broken.retryAfter === undefined ? {} : { retryAfter: permit.broken.retryAfter }),
      });
      // Its place is given back when another try can succeed: who hammers runs out of places, not we out of patience.
      if (permit.broken.retryAfter === undefined) stream.release();
      else this.#clock.after(permit.broken.retryAfter, () => stream.release());
      return;
    }
    const gone = new AbortController();
    stream.onBroken = () => gone.abort();
    this.#dial(permit, {
      channel: stream,
      id: `${facts.id}.${stream.id}`,
      facts,
      gone: gone.signal,
      accept: () => stream.accept(),
      done: () => stream.release(),
    });
  }

  /** A connection without frames: one pipe to the target that the listener or the server name fixes. */
  #raw(
    connection: SecureConnection,
    { facts, leave, listener }: { readonly facts: ConnectionFacts; readonly leave: () => void; readonly listener: ListenerConfig },
  ): void {
    const openedAt = this.#clock.now();
    const named = connection.serverName === undefined ? undefined : listener.serverNames.get(connection.serverName);
    const permit = this.#permit(named ?? listener.target ?? "", facts);
    const { socket, hold, release, below } = connection;
    const channel = socketChannel(socket, {
      broken: "session_lost",
      below,
      ...(hold === undefined || release === undefined ? {} : { hold, release }),
    });
    if (!permit.ok) {
      leave();
      channel.reset(permit.broken);
      return;
    }
    const gone = new AbortController();
    const left = (): void => gone.abort();
    connection.socket.once("close", left);
    const live: Live = {
      drain: (graceMs) => void this.#clock.after(graceMs, () => live.close({ reason: "draining" })),
      close: (broken) => channel.reset(broken),
    };
    this.#live.add(live);
    this.#journal.connectionOpen(facts);
    this.#dial(permit, {
      channel,
      id: `${facts.id}.1`,
      facts,
      gone: gone.signal,
      accept: () => void connection.socket.off("close", left),
      done: (broken) => {
        leave();
        this.#gone(live);
        this.#journal.connectionClose(facts, { openedAt, pipes: 1, broken });
      },
    });
  }

  // ---- one pipe

  /** May this identity open this target, now? Refusals are logged here. */
  #permit(name: string, facts: ConnectionFacts): Permit {
    const { identity } = facts;
    const decision = decide(this.#policy, identity, name);
    const target = this.#targets.get(name);
    let broken: Break;
    if (target === undefined || !decision.allowed) {
      // Guessing names costs what opening costs.
      const retryAfter = this.#limiter.chargeRefusedOpen(identity, facts.rule);
      if (retryAfter > 0) broken = { reason: "rate_limited", retryAfter };
      else broken = { reason: target === undefined ? "unknown_target" : "forbidden" };
    } else {
      const lease = this.#limiter.openPipe(identity, decision.rule);
      if (lease.ok) return { ok: true, target, rule: decision.rule, lease: lease.lease };
      broken = { reason: lease.reason, retryAfter: lease.retryAfter };
    }
    this.#journal.refusal({
      reason: broken.reason,
      detail: broken.detail,
      connection: facts.id,
      source: facts.source,
      identity,
      target: name,
    });
    return { ok: false, broken };
  }

  #dial(permit: Permit & { readonly ok: true }, end: ClientEnd): void {
    const { channel, facts } = end;
    const fail = (broken: Break): void => {
      permit.lease.release();
      channel.reset({ reason: broken.reason }); // the detail names back ends: it stays in our log
      if (broken.reason !== "cancelled") {
        this.#journal.refusal({
          ...broken,
          connection: facts.id,
          source: facts.source,
          identity: facts.identity,
          target: permit.target.name,
        });
      }
      end.done(broken);
    };
    const request = {
      messages: channel.messages,
      maxMessageBytes: this.#config.maxMessageBytes,
      identity: facts.identity,
      signal: end.gone,
    };
    permit.target.open(request).then(
      (opened) => {
        if (end.gone.aborted) {
          opened.channel.reset({ reason: "cancelled" });
          return fail({ reason: "cancelled" });
        }
        this.#join(permit, { end, back: opened.channel, backEnd: opened.backEnd });
      },
      (error: unknown) => {
        if (end.gone.aborted) return fail({ reason: "cancelled" });
        fail(asBreak(error));
      },
    );
  }

  #join(permit: Permit & { readonly ok: true }, how: { readonly end: ClientEnd; readonly back: Channel; readonly backEnd: string }): void {
    const { end } = how;
    const { facts } = end;
    end.accept();
    const pipe = new Pipe(
      { client: end.channel, target: how.back },
      {
        clock: this.#clock,
        inbound: permit.lease.inbound,
        outbound: permit.lease.outbound,
        closed: (broken) => {
          this.#pipes.remove(entry.id);
          permit.lease.release();
          this.#journal.pipeClose(entry, { identity: facts.identity, broken });
          end.done(broken);
        },
      },
    );
    const entry = {
      id: end.id,
      connection: facts.id,
      principal: facts.identity.principal,
      target: permit.target.name,
      backEnd: how.backEnd,
      messages: end.channel.messages,
      openedAt: this.#clock.wall(),
      pipe,
    };
    this.#pipes.add(entry);
    this.#journal.pipeOpen(entry, { identity: facts.identity, rule: permit.rule.line });
  }

  // ---- the end

  /** Takes no more connections and streams, lets pipes end, and closes after the last or after `graceMs`. */
  drain(graceMs: number = DRAIN_MS): Promise<void> {
    this.#drained ??= this.#drain(graceMs);
    return this.#drained;
  }

  async #drain(graceMs: number): Promise<void> {
    if (this.#state === "ready") this.#state = "draining";
    for (const listener of this.#listeners) listener.stop();
    for (const live of [...this.#live]) live.drain(graceMs);
    if (this.#live.size > 0) {
      let timer: Timer | undefined;
      await new Promise<void>((resolve) => {
        this.#whenEmpty = resolve;
        timer = this.#clock.after(graceMs + 2_000, resolve); // who does not even close is cut
      });
      timer?.cancel();
    }
    await this.close();
  }

  #gone(live: Live): void {
    this.#live.delete(live);
    if (this.#live.size === 0) this.#whenEmpty?.();
  }

  /** Closes everything at once; pipes that are open break with `draining`. */
  async close(): Promise<void> {
    this.#state = "closed";
    for (const live of [...this.#live]) live.close({ reason: "draining" });
    await Promise.all(this.#listeners.map((listener) => listener.close()));
    this.#whenEmpty?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // ---- for those who look in

  status(): GatewayStatus {
    const now = this.#clock.wall();
    return {
      state: this.#state,
      listeners: this.#listeners.map((listener) => addressText(listener.address)),
      connections: this.#metrics.connections,
      connectionsTotal: this.#metrics.connectionsTotal,
      refusals: Object.fromEntries(this.#metrics.refusals),
      pipes: Array.from(this.#pipes.list(), (entry) => ({
        id: entry.id,
        connection: entry.connection,
        identity: entry.principal,
        target: entry.target,
        backEnd: entry.backEnd,
        mode: entry.messages ? ("messages" as const) : ("bytes" as const),
        seconds: Math.max(0, Math.round((now - entry.openedAt) / 1000)),
        ...flowOf(entry.pipe),
        waits: waitsOf(entry.pipe),
      })),
    };
  }

  /** Prometheus text. */
  metrics(): Promise<string> {
    const live = new Map<string, { -readonly [Name in keyof Flow]: Flow[Name] } & { pipes: number }>();
    for (const entry of this.#pipes.list()) {
      const sum = live.get(entry.target) ?? { bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0, pipes: 0 };
      const flow = flowOf(entry.pipe);
      sum.bytesIn += flow.bytesIn;
      sum.bytesOut += flow.bytesOut;
      sum.messagesIn += flow.messagesIn;
      sum.messagesOut += flow.messagesOut;
      sum.pipes++;
      live.set(entry.target, sum);
    }
    return this.#metrics.text(live);
  }
}

type Permit =
  | { readonly ok: true; readonly target: Target; readonly rule: Rule; readonly lease: PipeLease }
  | { readonly ok: false; readonly broken: Break };

/** The client's side of a pipe to be: what to join, and whom to tell. */
interface ClientEnd {
  readonly channel: Channel;
  readonly id: string;
  readonly facts: ConnectionFacts;
  /** Fires when the client went away while we dialled. */
  readonly gone: AbortSignal;
  accept(): void;
  done(broken: Break | undefined): void;
}

function asBreak(error: unknown): Break {
  if (error instanceof PipegateError && isReason(error.code)) return { reason: error.code, detail: error.message };
  return { reason: "internal", detail: error instanceof Error ? error.message : String(error) };
}

function flowOf({ inbound, outbound }: Pipe): Flow {
  return { bytesIn: inbound.bytes, bytesOut: outbound.bytes, messagesIn: inbound.messages, messagesOut: outbound.messages };
}

function waitsOf({ inbound, outbound }: Pipe): string[] {
  const waits: string[] = [];
  if (inbound.waits !== undefined) waits.push(inbound.waits === "limit" ? "rate limit (in)" : "back end");
  if (outbound.waits !== undefined) waits.push(outbound.waits === "limit" ? "rate limit (out)" : "client");
  return waits;
}

export interface CreateGatewayOptions extends GatewayOptions {
  /** Where relative paths in the config start. Default: the working folder. */
  readonly folder?: string;
}

/**
 * A gateway in this process. `config`: an object of the same shape as the config file, judged in the same way; files that it names are read.
 * Rejects with a PipegateError `config` that carries everything that is wrong. Nothing is opened before `listen()`.
 */
export async function createGateway(config: unknown, options: CreateGatewayOptions = {}): Promise<Gateway> {
  const { configFrom } = await import("./config/load.ts"); // so that client programs do not load what reads configs
  return new Gateway(await configFrom(config, { folder: options.folder ?? "." }), options);
}

/** `127.0.0.1:8443`, `[::1]:8443`, `unix:/run/x.sock`. */
export function addressText(address: ListenAddress): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
