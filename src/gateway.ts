/**
 * A gateway: its parts put together, its state for those who look in.
 * Promises: no byte of a peer reaches a back end before identity, policy and limits passed on this connection; no fault of a peer or a back
 * end ends the process. Leaves to others: its states and the turns of reloads (gateway/life-cycle.ts), its listeners (gateway/doors.ts), the
 * story of a connection (gateway/connections.ts) and of a pipe (gateway/opener.ts), who is here (gateway/live.ts), who is judged again and
 * when (gateway/judging.ts).
 */
import type { Audit } from "./audit/audit.ts";
import { addressText, type SocketAddress } from "./base/address.ts";
import type { Break } from "./base/channel.ts";
import { systemClock, within, type Clock } from "./base/clock.ts";
import { silentLogger, type Logger } from "./base/log.ts";
import type { Config, InForce } from "./config/config.ts";
import { explainTo, type Explainable, type ExplainAnswer, type ExplainRequest } from "./explain.ts";
import { beginAuditLog } from "./gateway/audit-log.ts";
import { Connections } from "./gateway/connections.ts";
import { Doors } from "./gateway/doors.ts";
import { Judging } from "./gateway/judging.ts";
import { AUDIT_CLOSE_MS, DRAIN_MS, LifeCycle, type Reloaded } from "./gateway/life-cycle.ts";
import type { Change } from "./gateway/listeners.ts";
import { LiveConnections } from "./gateway/live.ts";
import { Opener } from "./gateway/opener.ts";
import type { Parts } from "./gateway/parts.ts";
import { Seen } from "./gateway/seen.ts";
import { changesOf, createSnapshot, oddOf, type Snapshot } from "./gateway/snapshot.ts";
import { auditStatus, flowByTarget, pipeStatus, type GatewayStatus } from "./gateway/status.ts";
import { Journal } from "./journal.ts";
import { Metrics, type Gauges } from "./metrics.ts";
import { PipeRegistry } from "./pipe/registry.ts";
import { Limiter } from "./policy/limiter.ts";
import { GatheringBudget } from "./target/gathering.ts";
import { createPenalties, type Penalties } from "./tls/penalties.ts";

export type { Reloaded } from "./gateway/life-cycle.ts";
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

/** How long the audit log waits for the last pipes to tell how they ended, ms. */
const LAST_LINES_MS = 1_000;

export class Gateway implements Explainable {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #journal: Journal;
  readonly #pipes = new PipeRegistry();
  readonly #seen = new Seen();
  readonly #live: LiveConnections;
  readonly #penalties: Penalties;
  readonly #parts: Parts | undefined;
  readonly #opener: Opener;
  readonly #judging: Judging;
  readonly #budget: GatheringBudget;
  readonly #life: LifeCycle;
  readonly #doors: Doors;
  #snapshot: Snapshot;
  #auditRefuses = false;

  /** Throws a PipegateError (config) when the config cannot be served in full on this runtime. */
  constructor(config: Config, options: GatewayOptions = {}) {
    const { parts } = options;
    this.#parts = parts;
    this.#clock = options.clock ?? systemClock;
    this.#metrics = new Metrics();
    this.#journal = new Journal(options.logger ?? silentLogger, { metrics: this.#metrics, clock: this.#clock });
    this.#life = new LifeCycle({ clock: this.#clock, journal: this.#journal, metrics: this.#metrics });
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
    this.#live = new LiveConnections({ ...shared, arrivedUntil: (until) => this.#judging.dueBy(until) });
    this.#judging = new Judging({ ...shared, live: this.#live, opener: this.#opener });
    const connections = new Connections({ ...shared, live: this.#live, opener: this.#opener });
    this.#doors = new Doors({ ...shared, life: this.#life, connections, penalties: this.#penalties, parts });
  }

  /** Opens every listener, or none, and serves. Returns where they listen, in the order of the config. */
  async listen(): Promise<readonly SocketAddress[]> {
    await this.open();
    return this.serve();
  }

  /** The first part of `listen`: the door was tried, and stands; nobody is let in. Where ports are shared, it does not stand on them yet. */
  async open(): Promise<void> {
    await this.#life.open(
      async () => {
        this.#journal.audit = await this.#openAudit();
        await this.#doors.open(this.#snapshot);
      },
      () => this.close(),
    );
  }

  /** Where ports are shared, the second: from where the doors were tried to where they will serve. Rejects when one cannot be had. */
  async bind(): Promise<void> {
    await this.#doors.bind();
    this.#life.requireOpening();
  }

  /** The last: everybody who comes is served. */
  serve(): readonly SocketAddress[] {
    this.#life.serve();
    this.#doors.arm();
    void this.#judging.begin();
    return this.#doors.addresses;
  }

  async #openAudit(): Promise<Audit | undefined> {
    const { audit } = this.#snapshot.config;
    this.#auditRefuses = audit?.onFailure === "refuse";
    if (this.#parts !== undefined) return this.#parts.audit;
    return audit && beginAuditLog(audit, { clock: this.#clock, journal: this.#journal });
  }

  /** Why nobody is served just now. */
  #shut(): Break | undefined {
    const failing = this.#auditRefuses ? this.#journal.audit?.failing : undefined;
    return failing === undefined ? undefined : { reason: "internal", detail: `the audit log cannot be written: ${failing}` };
  }

  // ---- another config, and later moments

  /**
   * Puts another config in force, whole or not at all: listeners, certificate, trust, deny-list, targets and rules. What it leaves as it was
   * goes on untouched; connections and pipes that it no longer allows end with the reason. One at a time, in the order of the calls.
   * Rejects with a PipegateError (config), and serves as before, when it cannot be served; (draining) when the gateway is not serving.
   */
  reload(config: Config): Promise<Reloaded> {
    return this.#life.reload(async () => (await this.prepare(config)).commit());
  }

  /** The first half of `reload`, for who sees to the turns himself. Rejects as that does. */
  async prepare(config: Config): Promise<Prepared> {
    this.#life.requireReady();
    const before = this.#snapshot;
    const next = createSnapshot(config, { now: this.#clock.wall(), budget: this.#budget, before });
    const change = await this.#doors.change({ before, next });
    const changes = [...change.changes, ...changesOf(before, next)];
    const version = changes.length === 0 ? before.version : next.version;
    return {
      reloaded: { version, changes },
      abandon: () => change.abandon(),
      commit: async () => {
        try {
          this.#life.requireReady(); // it may have been told to stop meanwhile
        } catch (error) {
          await change.abandon();
          throw error;
        }
        return this.#commit(next, { change, changes });
      },
    };
  }

  async #commit(next: Snapshot, { change, changes }: { readonly change: Change; readonly changes: string[] }): Promise<Reloaded> {
    const before = this.#snapshot;
    const reloaded = { version: changes.length === 0 ? before.version : next.version, changes };
    const odd = oddOf(before.config, next.config);
    if (changes.length > 0) {
      this.#snapshot = next;
      this.#penalties.change(next.config.penalties);
      change.commit();
      this.#metrics.know(next.targets.keys());
    }
    this.#life.took(reloaded, { odd });
    if (changes.length > 0) await this.#judging.again({ rules: true });
    return reloaded;
  }

  /** A config that was not taken, in lines for the log and for those who look in. */
  reloadFailed(lines: readonly string[]): void {
    this.#life.reloadFailed(lines);
  }

  // ---- the end

  /** Takes no more connections and streams, lets pipes end, and closes after the last or after `graceMs`. */
  drain(graceMs: number = DRAIN_MS): Promise<void> {
    return this.#life.drain(() => this.#drain(graceMs));
  }

  async #drain(graceMs: number): Promise<void> {
    this.#doors.stop();
    await within(this.#live.drain(graceMs), { ms: graceMs + 2_000, clock: this.#clock }); // who does not even close is cut
    await this.close();
  }

  /** Closes everything at once; pipes that are open break with `draining`. */
  close(): Promise<void> {
    return this.#life.close(() => this.#close());
  }

  async #close(): Promise<void> {
    this.#judging.stop();
    this.#live.close({ reason: "draining" });
    await this.#life.turnEnds();
    await this.#doors.close();
    this.#journal.tellSuppressed();
    const { audit } = this.#journal;
    if (audit === undefined) return;
    await within(this.#live.empty(), { ms: LAST_LINES_MS, clock: this.#clock });
    this.#journal.audit = undefined;
    await within(audit.close(), { ms: AUDIT_CLOSE_MS, clock: this.#clock });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // ---- for those who look in

  get state(): GatewayStatus["state"] {
    return this.#life.state;
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
      state: this.state,
      listeners: this.#doors.addresses.map(addressText),
      version: this.#snapshot.version,
      loadedAt: this.#snapshot.loadedAt,
      reloadFailure: this.#life.failure,
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
      reloadFailed: this.#life.failure !== undefined,
      audit: auditStatus(this.#journal.audit),
      expiry: { gateway: this.#snapshot.ownEnd, clients: this.#live.soonestEnd() },
    };
    return { metrics: this.#metrics, gauges };
  }
}
