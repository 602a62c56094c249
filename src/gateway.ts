/**
 * A gateway: its parts put together, its listeners opened and closed, its state for those who look in.
 * Promises: all listeners open or none; no byte of a peer reaches a back end before identity, policy and limits passed on this connection;
 * no fault of a peer or a back end ends the process. Leaves to others: the story of a connection (gateway/connections.ts) and of a pipe
 * (gateway/opener.ts), who is judged again and when (gateway/judging.ts).
 */
import type { Audit } from "./audit/audit.ts";
import { beginAudit } from "./audit/waiting.ts";
import { addressText, type SocketAddress } from "./base/address.ts";
import type { Break } from "./base/channel.ts";
import { systemClock, type Clock, type Timer } from "./base/clock.ts";
import { PipegateError } from "./base/error.ts";
import { silentLogger, type Logger } from "./base/log.ts";
import type { Config, InForce, ListenerConfig } from "./config/config.ts";
import { explainTo, type Explainable, type ExplainAnswer, type ExplainRequest } from "./explain.ts";
import { Connections } from "./gateway/connections.ts";
import { Judging } from "./gateway/judging.ts";
import { changeListeners, type Change, type Standing } from "./gateway/listeners.ts";
import { Opener } from "./gateway/opener.ts";
import type { Parts } from "./gateway/parts.ts";
import { Seen } from "./gateway/seen.ts";
import { changesOf, createSnapshot, type Snapshot } from "./gateway/snapshot.ts";
import { auditStatus, flowByTarget, pipeStatus, type GatewayStatus, type ReloadFailure } from "./gateway/status.ts";
import type { Identity } from "./identity/identity.ts";
import { Journal } from "./journal.ts";
import { Metrics, type Gauges } from "./metrics.ts";
import { PipeRegistry } from "./pipe/registry.ts";
import { denial } from "./policy/deny.ts";
import { Limiter } from "./policy/limiter.ts";
import { ALPN } from "./protocol/frame.ts";
import { requireSupportedRuntime } from "./runtime/version.ts";
import { GatheringBudget } from "./target/gathering.ts";
import { selfTest, type TestedListener } from "./tls/self-test.ts";
import { listen } from "./tls/listener.ts";
import { listenerDefaults, type ServedOptions } from "./tls/listener-options.ts";
import { createPenalties, type Penalties } from "./tls/penalties.ts";

export type { GatewayStatus, PipeStatus, ReloadFailure } from "./gateway/status.ts";

export interface GatewayOptions {
  /** Default: says nothing. */
  readonly logger?: Logger;
  readonly clock?: Clock;
  /** What it shares with other gateways of the same config, in other threads. Default: it is alone. */
  readonly parts?: Parts;
}

/** Another config, ready to be put in force. */
export interface Prepared {
  /** What `commit` will come to. */
  readonly reloaded: Reloaded;
  /** Puts it in force, unless the gateway is on its way out: then it rejects, and all is as it was. Resolves when everybody was judged by it. */
  commit(): Promise<Reloaded>;
  /** It will not be: all is as it was. */
  abandon(): Promise<void>;
}

export interface Reloaded {
  readonly version: number;
  /** What is no longer as it was, in words; empty: nothing. */
  readonly changes: readonly string[];
}

/** How long clients have to finish when a gateway drains, ms. */
const DRAIN_MS = 30_000;
/** How long the audit log waits for the last pipes to tell how they ended, ms. */
const LAST_LINES_MS = 1_000;
/** How long a disk that does not answer may keep what was told last, ms. */
const AUDIT_CLOSE_MS = 5_000;
/** How long an end waits for a load under way, which may hang in a name; it sees the end whenever it goes on, ms. */
const RELOAD_END_MS = 5_000;

export class Gateway implements Explainable {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #journal: Journal;
  readonly #pipes = new PipeRegistry();
  readonly #seen = new Seen();
  readonly #connections: Connections;
  readonly #penalties: Penalties;
  readonly #parts: Parts | undefined;
  readonly #opener: Opener;
  readonly #judging: Judging;
  readonly #budget: GatheringBudget;
  #snapshot: Snapshot;
  #standing: Standing[] = [];
  #state: GatewayStatus["state"] = "new";
  #drained: Promise<void> | undefined;
  #reloading: Promise<unknown> = Promise.resolve();
  #failure: ReloadFailure | undefined;
  #auditRefuses = false;

  /** Throws a PipegateError (config) when the config cannot be served in full on this runtime. */
  constructor(config: Config, options: GatewayOptions = {}) {
    const { parts } = options;
    this.#parts = parts;
    this.#clock = options.clock ?? systemClock;
    this.#metrics = new Metrics();
    this.#journal = new Journal(options.logger ?? silentLogger, { metrics: this.#metrics, clock: this.#clock });
    this.#penalties = parts?.penalties ?? createPenalties(config.penalties, this.#clock);
    this.#budget = new GatheringBudget({ maxMessageBytes: config.maxMessageBytes, share: parts?.share ?? 1 });
    this.#snapshot = createSnapshot(config, { now: this.#clock.wall(), budget: this.#budget, before: undefined });
    this.#metrics.know(config.targets.keys());
    const shared = {
      clock: this.#clock,
      journal: this.#journal,
      snapshot: () => this.#snapshot,
      limiter: parts?.limiter ?? new Limiter({ clock: this.#clock }),
      seen: this.#seen,
      shut: () => this.#shut(),
    };
    this.#opener = new Opener({ ...shared, pipes: this.#pipes });
    this.#connections = new Connections({ ...shared, opener: this.#opener, arrivedUntil: (until) => this.#judging.dueBy(until) });
    this.#judging = new Judging({ ...shared, connections: this.#connections, opener: this.#opener });
  }

  /** Opens every listener, or none, and serves. Returns where they listen, in the order of the config. */
  async listen(): Promise<readonly SocketAddress[]> {
    await this.open();
    return this.serve();
  }

  /** The first part of `listen`: the door was tried, and stands; nobody is let in. Where ports are shared, it does not stand on them yet. */
  async open(): Promise<void> {
    requireSupportedRuntime();
    if (this.#state !== "new") throw new PipegateError("usage", "this gateway has been started before");
    this.#state = "opening";
    try {
      const snapshot = this.#snapshot;
      const { selfTest: wanted, listeners } = snapshot.config;
      this.#journal.audit = await this.#openAudit();
      const test = wanted === "required";
      const open = (): Promise<readonly TestedListener[]> => this.#openAll(snapshot, { aside: this.#parts !== undefined });
      if (test) await selfTest({ served: listeners.map((one) => servedBy(one, snapshot)), open, clock: this.#clock });
      else {
        this.#journal.untested();
        await open();
      }
      this.#requireOpening();
    } catch (error) {
      const wasClosed = !this.#isOpening();
      await this.close();
      throw wasClosed ? closedWhileOpening() : error;
    }
  }

  /** Where ports are shared, the second: from where the doors were tried to where they will serve. Rejects when one cannot be had. */
  async bind(): Promise<void> {
    for (const { listener, config } of this.#standing) if (config.listen.kind === "tcp") await listener.move(config.listen);
    this.#requireOpening();
  }

  /** The last: everybody who comes is served. */
  serve(): readonly SocketAddress[] {
    this.#requireOpening();
    this.#state = "ready";
    for (const standing of this.#standing) standing.armed = true;
    void this.#judging.begin();
    return this.#standing.map(({ listener }) => listener.address);
  }

  async #openAudit(): Promise<Audit | undefined> {
    const { audit } = this.#snapshot.config;
    this.#auditRefuses = audit?.onFailure === "refuse";
    if (this.#parts !== undefined) return this.#parts.audit;
    if (audit === undefined) return undefined;
    const told = {
      onTrouble: (detail: string) => this.#journal.auditTroubled(detail),
      onWell: () => this.#journal.auditWell(),
    };
    return beginAudit({ ...audit, clock: this.#clock, ...told }, { mayWait: !this.#auditRefuses });
  }

  /** Why nobody is served just now. */
  #shut(): Break | undefined {
    const failing = this.#auditRefuses ? this.#journal.audit?.failing : undefined;
    return failing === undefined ? undefined : { reason: "internal", detail: `the audit log cannot be written: ${failing}` };
  }

  /** `aside`: where nobody else listens, so that whoever tries this door comes to no other. */
  async #openAll(snapshot: Snapshot, { aside }: { readonly aside: boolean }): Promise<readonly TestedListener[]> {
    for (const listener of snapshot.config.listeners) {
      this.#standing.push(await this.#open(listener, snapshot, { aside }));
      this.#requireOpening();
    }
    return this.#standing.map(({ listener, config }) => ({ listener, served: servedBy(config, snapshot) }));
  }

  /** Others may have closed it meanwhile. */
  #isOpening(): boolean {
    return this.#state === "opening";
  }

  #requireOpening(): void {
    if (!this.#isOpening()) throw closedWhileOpening();
  }

  /** It takes nobody before it is armed: what it goes by is not in force yet. */
  async #open(config: ListenerConfig, snapshot: Snapshot, { aside = false } = {}): Promise<Standing> {
    const tcp = config.listen.kind === "tcp";
    const place = { address: aside && tcp ? nowhereElse : config.listen, shared: this.#parts !== undefined && tcp && !aside };
    const tally = this.#parts?.tally(config.listen);
    const listener = await listen(
      {
        ...{ ...listenerDefaults, ...servedBy(config, snapshot), ...place, penalties: this.#penalties, clock: this.#clock },
        ...(tally && { tally }),
      },
      {
        connection: (connection) => {
          if (standing.armed) this.#connections.arrived(connection, standing.config);
          else this.#connections.tooSoon(connection);
        },
        refused: (refusal) => this.#connections.refused(refusal),
        answer: (refusal) => this.#connections.answer(refusal),
        troubled: (error) => this.#journal.troubled(error),
      },
    );
    const standing: Standing = { listener, config, armed: false };
    return standing;
  }

  // ---- another config, and later moments

  /**
   * Puts another config in force, whole or not at all: listeners, certificate, trust, deny-list, targets and rules. What it leaves as it was
   * goes on untouched; connections and pipes that it no longer allows end with the reason. One at a time, in the order of the calls.
   * Rejects with a PipegateError (config), and serves as before, when it cannot be served; (draining) when the gateway is not serving.
   */
  reload(config: Config): Promise<Reloaded> {
    const turn = this.#reloading.then(async () => (await this.prepare(config)).commit());
    this.#reloading = turn.catch(() => {});
    return turn;
  }

  /** The first half of `reload`, for who sees to the turns himself. Rejects as that does. */
  async prepare(config: Config): Promise<Prepared> {
    this.#requireReady();
    const before = this.#snapshot;
    const next = createSnapshot(config, { now: this.#clock.wall(), budget: this.#budget, before });
    const change = await changeListeners(this.#standing, {
      wanted: config.listeners,
      shared: this.#parts !== undefined,
      served: (listener) => servedBy(listener, next),
      open: (listener) => this.#open(listener, next),
      reopen: async (listener) => {
        this.#requireReady();
        const again = await this.#open(listener, before);
        again.armed = true;
        return again;
      },
      replace: (old, again) => {
        this.#standing = this.#standing.flatMap((one) => (one !== old ? [one] : again === undefined ? [] : [again]));
      },
    });
    const changes = [...change.changes, ...changesOf(before, next)];
    const version = changes.length === 0 ? before.version : next.version;
    return {
      reloaded: { version, changes },
      abandon: () => change.abandon(),
      commit: async () => {
        try {
          this.#requireReady(); // it may have been told to stop meanwhile
        } catch (error) {
          await change.abandon();
          throw error;
        }
        return this.#commit({ next, change, changes });
      },
    };
  }

  async #commit({
    next,
    change,
    changes,
  }: {
    readonly next: Snapshot;
    readonly change: Change;
    readonly changes: string[];
  }): Promise<Reloaded> {
    const before = this.#snapshot;
    const mended = this.#failure !== undefined;
    this.#failure = undefined;
    if (changes.length === 0) {
      if (mended) this.#journal.reloaded({ version: before.version, changes });
      return { version: before.version, changes };
    }
    this.#snapshot = next;
    this.#penalties.change(next.config.penalties);
    this.#standing = change.commit();
    this.#metrics.know(next.targets.keys());
    this.#journal.reloaded({ version: next.version, changes });
    for (const warning of next.config.warnings) if (!before.config.warnings.includes(warning)) this.#journal.odd(warning);
    await this.#judging.again({ rules: true });
    return { version: next.version, changes };
  }

  #requireReady(): void {
    if (this.#state !== "ready") throw new PipegateError("draining", `the gateway is ${this.#state}: it takes no other config now`);
  }

  /** A config that was not taken, in lines for the log and for those who look in. */
  reloadFailed(lines: readonly string[]): void {
    const again = this.#failure !== undefined && this.#failure.lines.join("\n") === lines.join("\n");
    this.#failure = { at: this.#clock.wall(), lines };
    this.#metrics.reloadFailures++;
    if (!again) this.#journal.reloadFailed(lines);
  }

  // ---- the end

  /** Takes no more connections and streams, lets pipes end, and closes after the last or after `graceMs`. */
  drain(graceMs: number = DRAIN_MS): Promise<void> {
    this.#drained ??= this.#drain(graceMs);
    return this.#drained;
  }

  async #drain(graceMs: number): Promise<void> {
    if (this.#state !== "closed") this.#state = "draining";
    await this.#within(RELOAD_END_MS, this.#reloading); // one under way sees it, and opens nothing any more
    for (const { listener } of this.#standing) listener.stop();
    await this.#within(graceMs + 2_000, this.#connections.drain(graceMs)); // who does not even close is cut
    await this.close();
  }

  async #within(ms: number, done: Promise<unknown>): Promise<void> {
    let timer: Timer | undefined;
    const enough = new Promise<void>((resolve) => (timer = this.#clock.after(ms, resolve)));
    await Promise.race([done, enough]);
    timer?.cancel();
  }

  /** Closes everything at once; pipes that are open break with `draining`. */
  async close(): Promise<void> {
    this.#state = "closed";
    this.#judging.stop();
    this.#connections.close({ reason: "draining" });
    await this.#within(RELOAD_END_MS, this.#reloading);
    await Promise.all(this.#standing.map(({ listener }) => listener.close()));
    this.#journal.tellSuppressed();
    const { audit } = this.#journal;
    if (audit === undefined) return;
    await this.#within(LAST_LINES_MS, this.#connections.empty());
    this.#journal.audit = undefined;
    await this.#within(AUDIT_CLOSE_MS, audit.close());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // ---- for those who look in

  get state(): GatewayStatus["state"] {
    return this.#state;
  }

  /** What is in force: of what the next config says the same, it is taken from here. */
  get inForce(): InForce {
    const { trust, config } = this.#snapshot;
    return { trust, credentials: config.credentials, targets: config.targets };
  }

  /** Within this time what is taken away has to end, by the config in force. */
  get maxStalenessMs(): number {
    return this.#snapshot.config.trust.maxStalenessMs;
  }

  status(): GatewayStatus {
    const now = this.#clock.wall();
    return {
      state: this.#state,
      listeners: this.#standing.map(({ listener }) => addressText(listener.address)),
      version: this.#snapshot.version,
      loadedAt: this.#snapshot.loadedAt,
      reloadFailure: this.#failure,
      judgedMs: this.#judging.lastMs,
      audit: auditStatus(this.#journal.audit),
      identities: this.#seen.list(),
      connections: this.#metrics.connections,
      connectionsTotal: this.#metrics.connectionsTotal,
      refusals: Object.fromEntries(this.#metrics.refusals),
      pipes: Array.from(this.#pipes.list(), (entry) => pipeStatus(entry, now)),
    };
  }

  /** What would be said now to a certificate that asks for a target, and why. Never throws. */
  explain(request: ExplainRequest): ExplainAnswer {
    const { config, trust, deny, policy, targets } = this.#snapshot;
    return explainTo(request, { trust, deny, policy, targets: [...targets.keys()], file: config.file, now: this.#clock.wall() });
  }

  /** Prometheus text. */
  metrics(): Promise<string> {
    const { metrics, gauges } = this.counts();
    return metrics.text(gauges);
  }

  /** What that is made of. */
  counts(): { readonly metrics: Metrics; readonly gauges: Gauges } {
    const gauges = {
      live: flowByTarget(this.#pipes.list()),
      version: this.#snapshot.version,
      reloadFailed: this.#failure !== undefined,
      audit: auditStatus(this.#journal.audit),
      expiry: { gateway: this.#snapshot.ownEnd, clients: this.#connections.soonestEnd() },
    };
    return { metrics: this.#metrics, gauges };
  }
}

/** Where the door of one of several threads is tried: the shared address would lead to any of them. */
const nowhereElse = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;

function closedWhileOpening(): PipegateError {
  return new PipegateError("cancelled", "the gateway was closed while it was opening");
}

/** What a listener offers under this snapshot. */
function servedBy({ target, serverNames, alpn }: ListenerConfig, { config, trust, deny }: Snapshot): ServedOptions {
  const raw = target !== undefined || serverNames.size > 0;
  const denies = (identity: Identity): string | undefined => denial(deny, identity);
  return { credentials: config.credentials, trust, denies, alpn: [ALPN, ...(raw ? alpn : [])], withoutAlpn: raw };
}

export interface ReadConfigOptions {
  /** Where relative paths in the config start. Default: the working folder. */
  readonly folder?: string;
  /** Of the gateway that is to take it: what has expired there keeps nothing else out. Default: it is for a start. */
  readonly inForce?: InForce;
}

/**
 * Judges an object of the same shape as the config file, in the same way, and reads the files that it names: what `Gateway.reload` takes.
 * Rejects with a PipegateError `config` that carries everything that is wrong.
 */
export async function readConfig(config: unknown, { folder = ".", inForce }: ReadConfigOptions = {}): Promise<Config> {
  const { configFrom } = await import("./config/load.ts"); // so that client programs do not load what reads configs
  const read = await configFrom(config, { folder, inForce });
  if (read.workers > 1)
    throw new PipegateError("config", `workers: ${read.workers}: a gateway in a program's own thread is one`, {
      next: "leave workers out, or run pipegate gateway with a config file",
    });
  return read;
}

export interface CreateGatewayOptions extends GatewayOptions, Pick<ReadConfigOptions, "folder"> {}

/** A gateway in this process, of a config that `readConfig` takes; it rejects as that does. Nothing is opened before `listen()`. */
export async function createGateway(config: unknown, options: CreateGatewayOptions = {}): Promise<Gateway> {
  const { folder = "." } = options;
  return new Gateway(await readConfig(config, { folder }), options);
}
