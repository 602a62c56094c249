/**
 * A gateway: its parts put together, its listeners opened and closed, its state for those who look in.
 * Promises: all listeners open or none; no byte of a peer reaches a back end before identity, policy and limits passed on this connection;
 * no fault of a peer or a back end ends the process. Leaves to others: the story of a connection (gateway/connections.ts) and of a pipe
 * (gateway/opener.ts).
 */
import { addressText, type SocketAddress } from "./base/address.ts";
import { systemClock, type Clock, type Timer } from "./base/clock.ts";
import { PipegateError } from "./base/error.ts";
import { silentLogger, type Logger } from "./base/log.ts";
import type { Config, ListenerConfig } from "./config/config.ts";
import { Connections } from "./gateway/connections.ts";
import { Opener } from "./gateway/opener.ts";
import { createTrust } from "./identity/judge.ts";
import type { Trust } from "./identity/trust.ts";
import { Journal } from "./journal.ts";
import { Metrics, type Flow } from "./metrics.ts";
import type { Pipe } from "./pipe/pipe.ts";
import { PipeRegistry } from "./pipe/registry.ts";
import { Limiter } from "./policy/limiter.ts";
import { createPolicy } from "./policy/policy.ts";
import { ALPN } from "./protocol/frame.ts";
import { requireSupportedRuntime } from "./runtime/version.ts";
import { GatheringBudget } from "./target/gathering.ts";
import { createTarget } from "./target/kinds.ts";
import { listen, type Listener } from "./tls/listener.ts";
import { listenerDefaults } from "./tls/listener-options.ts";
import { createPenalties, type Penalties } from "./tls/penalties.ts";

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
  readonly state: "new" | "opening" | "ready" | "draining" | "closed";
  readonly listeners: readonly string[];
  readonly connections: number;
  readonly connectionsTotal: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly pipes: readonly PipeStatus[];
}

/** How long clients have to finish when a gateway drains, ms. */
const DRAIN_MS = 30_000;

export class Gateway {
  readonly #config: Config;
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #journal: Journal;
  readonly #pipes = new PipeRegistry();
  readonly #connections: Connections;
  readonly #penalties: Penalties;
  #listeners: Listener[] = [];
  #state: GatewayStatus["state"] = "new";
  #drained: Promise<void> | undefined;

  /** Throws a PipegateError (config) when the config cannot be served in full on this runtime. */
  constructor(config: Config, options: GatewayOptions = {}) {
    this.#config = config;
    this.#clock = options.clock ?? systemClock;
    this.#metrics = new Metrics(config.targets.keys());
    this.#journal = new Journal(options.logger ?? silentLogger, { metrics: this.#metrics, clock: this.#clock });
    this.#penalties = createPenalties(config.penalties, this.#clock);
    const budget = new GatheringBudget({ maxMessageBytes: config.maxMessageBytes });
    const shared = {
      clock: this.#clock,
      journal: this.#journal,
      policy: createPolicy(config.rules),
      limiter: new Limiter({ clock: this.#clock }),
      maxMessageBytes: config.maxMessageBytes,
    };
    const targets = new Map(Array.from(config.targets, ([name, target]) => [name, createTarget(name, target, { budget })]));
    this.#connections = new Connections({ ...shared, opener: new Opener({ ...shared, targets, pipes: this.#pipes }) });
  }

  /** Opens every listener, or none. Returns where they listen, in the order of the config. */
  async listen(): Promise<readonly SocketAddress[]> {
    requireSupportedRuntime();
    if (this.#state !== "new") throw new PipegateError("usage", "this gateway has been started before");
    this.#state = "opening";
    try {
      const trust = createTrust({ ca: this.#config.trust.ca, crl: this.#config.trust.crl, now: this.#clock.wall() });
      for (const listener of this.#config.listeners) {
        this.#listeners.push(await this.#open(listener, trust));
        if (!this.#isOpening()) throw new PipegateError("cancelled", "the gateway was closed while it was opening");
      }
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#state = "ready";
    return this.#listeners.map((listener) => listener.address);
  }

  /** Others may have closed it meanwhile. */
  #isOpening(): boolean {
    return this.#state === "opening";
  }

  #open(listener: ListenerConfig, trust: Trust): Promise<Listener> {
    const raw = listener.target !== undefined || listener.serverNames.size > 0;
    return listen(
      {
        ...listenerDefaults,
        address: listener.listen,
        credentials: this.#config.credentials,
        trust,
        alpn: [ALPN, ...(raw ? listener.alpn : [])],
        withoutAlpn: raw,
        penalties: this.#penalties,
        clock: this.#clock,
      },
      {
        connection: (connection) => this.#connections.arrived(connection, listener),
        refused: (refusal) => this.#connections.refused(refusal),
        answer: (refusal) => this.#connections.answer(refusal),
        troubled: (error) => this.#journal.troubled(error),
      },
    );
  }

  // ---- the end

  /** Takes no more connections and streams, lets pipes end, and closes after the last or after `graceMs`. */
  drain(graceMs: number = DRAIN_MS): Promise<void> {
    this.#drained ??= this.#drain(graceMs);
    return this.#drained;
  }

  async #drain(graceMs: number): Promise<void> {
    if (this.#state !== "closed") this.#state = "draining";
    for (const listener of this.#listeners) listener.stop();
    let timer: Timer | undefined;
    const enough = new Promise<void>((resolve) => (timer = this.#clock.after(graceMs + 2_000, resolve))); // who does not even close is cut
    await Promise.race([this.#connections.drain(graceMs), enough]);
    timer?.cancel();
    await this.close();
  }

  /** Closes everything at once; pipes that are open break with `draining`. */
  async close(): Promise<void> {
    this.#state = "closed";
    this.#connections.close({ reason: "draining" });
    await Promise.all(this.#listeners.map((listener) => listener.close()));
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
