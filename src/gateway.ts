/**
 * A gateway: its parts put together, its listeners opened and closed, its state for those who look in.
 * Promises: all listeners open or none; no byte of a peer reaches a back end before identity, policy and limits passed on this connection;
 * no fault of a peer or a back end ends the process. Leaves to others: the story of a connection (gateway/connections.ts) and of a pipe
 * (gateway/opener.ts).
 */
import type { Audit } from "./audit/audit.ts";
import { beginAudit } from "./audit/waiting.ts";
import { addressText, type SocketAddress } from "./base/address.ts";
import type { Break } from "./base/channel.ts";
import { systemClock, type Clock, type Timer } from "./base/clock.ts";
import { PipegateError } from "./base/error.ts";
import { paced } from "./base/steps.ts";
import { silentLogger, type Logger } from "./base/log.ts";
import type { Config, InForce, ListenerConfig } from "./config/config.ts";
import { explainTo, type Explainable, type ExplainAnswer, type ExplainRequest } from "./explain.ts";
import { Connections } from "./gateway/connections.ts";
import { changeListeners, type Standing } from "./gateway/listeners.ts";
import { Opener } from "./gateway/opener.ts";
import { Seen, type SeenIdentity } from "./gateway/seen.ts";
import { changesOf, createSnapshot, type Snapshot } from "./gateway/snapshot.ts";
import type { Identity } from "./identity/identity.ts";
import { nextChange, staleLists } from "./identity/trust.ts";
import { Journal } from "./journal.ts";
import { Metrics, type Flow } from "./metrics.ts";
import type { Pipe } from "./pipe/pipe.ts";
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
  /** Of the config in force; 1 at the start. */
  readonly version: number;
  /** Milliseconds since the epoch. */
  readonly loadedAt: number;
  /** The last attempt to load another config, when it failed: the one before goes on serving. */
  readonly reloadFailure: ReloadFailure | undefined;
  /** How long judging everybody again took, last time. */
  readonly judgedMs: number;
  /** Of the audit log, if there is one: its last line, why it cannot be written, lines that are lost. */
  readonly audit: { readonly seq: number; readonly hash: string; readonly failing: string | undefined; readonly lost: number } | undefined;
  /** Who came in, with the certificate of last time. */
  readonly identities: readonly SeenIdentity[];
  readonly connections: number;
  readonly connectionsTotal: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly pipes: readonly PipeStatus[];
}

export interface ReloadFailure {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly lines: readonly string[];
}

export interface Reloaded {
  readonly version: number;
  /** What is no longer as it was, in words; empty: nothing. */
  readonly changes: readonly string[];
}

/** How long clients have to finish when a gateway drains, ms. */
const DRAIN_MS = 30_000;
/** After a fault of ours in between, ms. */
const JUDGE_AGAIN_MS = 1_000;
/** The two clocks part by so much only when one is set, ms. */
const CLOCK_SET_MS = 500;
/** How long the audit log waits for the last pipes to tell how they ended, ms. */
const LAST_LINES_MS = 1_000;

export class Gateway implements Explainable {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #journal: Journal;
  readonly #pipes = new PipeRegistry();
  readonly #seen = new Seen();
  readonly #connections: Connections;
  readonly #penalties: Penalties;
  readonly #opener: Opener;
  readonly #budget: GatheringBudget;
  #snapshot: Snapshot;
  #standing: Standing[] = [];
  #state: GatewayStatus["state"] = "new";
  #drained: Promise<void> | undefined;
  #reloading: Promise<unknown> = Promise.resolve();
  #failure: ReloadFailure | undefined;
  #timer: Timer | undefined;
  #auditRefuses = false;
  #judging: Promise<void> = Promise.resolve();
  /** A fault came between: not everybody was judged by the rules in force. */
  #rulesUnjudged = false;
  #judgedMs = 0;
  /** When time alone ends somebody, milliseconds since the epoch. */
  #due = Infinity;
  /** The system's clock against the monotonic one, when everybody was judged last, ms. */
  #ahead = 0;

  /** Throws a PipegateError (config) when the config cannot be served in full on this runtime. */
  constructor(config: Config, options: GatewayOptions = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#metrics = new Metrics();
    this.#journal = new Journal(options.logger ?? silentLogger, { metrics: this.#metrics, clock: this.#clock });
    this.#penalties = createPenalties(config.penalties, this.#clock);
    this.#budget = new GatheringBudget({ maxMessageBytes: config.maxMessageBytes });
    this.#snapshot = createSnapshot(config, { now: this.#clock.wall(), budget: this.#budget, before: undefined });
    this.#metrics.know(config.targets.keys());
    const shared = {
      clock: this.#clock,
      journal: this.#journal,
      snapshot: () => this.#snapshot,
      limiter: new Limiter({ clock: this.#clock }),
      seen: this.#seen,
      shut: () => this.#shut(),
    };
    this.#opener = new Opener({ ...shared, pipes: this.#pipes });
    this.#connections = new Connections({ ...shared, opener: this.#opener, arrivedUntil: (notAfter) => this.#dueBy(notAfter + 1) });
  }

  /** Opens every listener, or none. Returns where they listen, in the order of the config. */
  async listen(): Promise<readonly SocketAddress[]> {
    requireSupportedRuntime();
    if (this.#state !== "new") throw new PipegateError("usage", "this gateway has been started before");
    this.#state = "opening";
    try {
      const snapshot = this.#snapshot;
      const { selfTest: wanted, listeners } = snapshot.config;
      this.#journal.audit = await this.#openAudit();
      const open = (): Promise<readonly TestedListener[]> => this.#openAll(snapshot);
      if (wanted === "required") await selfTest({ served: listeners.map((one) => servedBy(one, snapshot)), open, clock: this.#clock });
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
    this.#state = "ready";
    for (const standing of this.#standing) standing.armed = true;
    void this.#judgeAgain({ rules: false });
    return this.#standing.map(({ listener }) => listener.address);
  }

  async #openAudit(): Promise<Audit | undefined> {
    const { audit } = this.#snapshot.config;
    if (audit === undefined) return undefined;
    this.#auditRefuses = audit.onFailure === "refuse";
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

  async #openAll(snapshot: Snapshot): Promise<readonly TestedListener[]> {
    for (const listener of snapshot.config.listeners) {
      this.#standing.push(await this.#open(listener, snapshot));
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
  async #open(config: ListenerConfig, snapshot: Snapshot): Promise<Standing> {
    const listener = await listen(
      { ...listenerDefaults, ...servedBy(config, snapshot), address: config.listen, penalties: this.#penalties, clock: this.#clock },
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
    const turn = this.#reloading.then(() => this.#reload(config));
    this.#reloading = turn.catch(() => {});
    return turn;
  }

  async #reload(config: Config): Promise<Reloaded> {
    this.#requireReady();
    const before = this.#snapshot;
    const next = createSnapshot(config, { now: this.#clock.wall(), budget: this.#budget, before });
    const change = await changeListeners(this.#standing, {
      wanted: config.listeners,
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
    try {
      this.#requireReady(); // it may have been told to stop meanwhile
    } catch (error) {
      await change.abandon();
      throw error;
    }
    const changes = [...change.changes, ...changesOf(before, next)];
    const mended = this.#failure !== undefined;
    this.#failure = undefined;
    if (changes.length === 0) {
      if (mended) this.#journal.reloaded({ version: before.version, changes });
      return { version: before.version, changes };
    }
    this.#snapshot = next;
    this.#penalties.change(config.penalties);
    this.#standing = change.commit();
    this.#metrics.know(next.targets.keys());
    this.#journal.reloaded({ version: next.version, changes });
    await this.#judgeAgain({ rules: true });
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

  /**
   * Ends who is here and would not be let in now, and comes back when time alone may have changed that. `rules`: whether the rules, the
   * deny-list or the targets may have changed. In slices, and one after the other: thousands of connections do not hold the others up.
   */
  #judgeAgain(what: { readonly rules: boolean }): Promise<void> {
    this.#judging = this.#judging
      .then(() => this.#judgeAll(what))
      .catch((error: unknown) => {
        this.#journal.fault(error);
        this.#rulesUnjudged ||= what.rules;
        this.#due = this.#clock.wall() + JUDGE_AGAIN_MS; // whoever was not reached is not forgotten
        if (this.#isServing()) this.#arm();
      });
    return this.#judging;
  }

  async #judgeAll({ rules }: { readonly rules: boolean }): Promise<void> {
    if (!this.#isServing()) return;
    const started = this.#clock.now();
    await paced(this.#connections.judgeAgain({ rules }));
    if (rules) await paced(this.#opener.judgeAgain());
    if (rules) this.#rulesUnjudged = false;
    this.#judgedMs = this.#clock.now() - started;
    if (!this.#isServing()) return;
    const { trust } = this.#snapshot;
    const now = this.#clock.wall();
    for (const line of staleLists(trust, now)) this.#journal.stale(line);
    this.#due = Infinity;
    for (const moment of [this.#connections.soonestEnd(), nextChange(trust, now)])
      if (moment !== undefined) this.#due = Math.min(this.#due, moment + 1);
    this.#ahead = now - this.#clock.now();
    this.#arm();
  }

  #isServing(): boolean {
    return this.#state === "ready" || this.#state === "draining";
  }

  /** Somebody's certificate ends then. */
  #dueBy(at: number): void {
    if (at >= this.#due) return;
    this.#due = at;
    if (this.#isServing()) this.#arm();
  }

  /**
   * Looks at the clock twice within the time that is promised, since setting it tells nobody; and at the moment that is due. Where neither has
   * come, nobody is judged.
   */
  #arm(): void {
    this.#timer?.cancel();
    const now = this.#clock.wall();
    const ms = Math.min(this.#snapshot.config.trust.maxStalenessMs / 2, Math.max(0, this.#due - now));
    this.#timer = this.#clock.after(ms, () => {
      const wall = this.#clock.wall();
      const wasSet = Math.abs(wall - this.#clock.now() - this.#ahead) > CLOCK_SET_MS;
      if (wasSet || wall >= this.#due) void this.#judgeAgain({ rules: this.#rulesUnjudged });
      else this.#arm();
    });
  }

  // ---- the end

  /** Takes no more connections and streams, lets pipes end, and closes after the last or after `graceMs`. */
  drain(graceMs: number = DRAIN_MS): Promise<void> {
    this.#drained ??= this.#drain(graceMs);
    return this.#drained;
  }

  async #drain(graceMs: number): Promise<void> {
    if (this.#state !== "closed") this.#state = "draining";
    await this.#reloading; // one under way sees it, and opens nothing any more
    for (const { listener } of this.#standing) listener.stop();
    await this.#within(graceMs + 2_000, this.#connections.drain(graceMs)); // who does not even close is cut
    await this.close();
  }

  async #within(ms: number, done: Promise<void>): Promise<void> {
    let timer: Timer | undefined;
    const enough = new Promise<void>((resolve) => (timer = this.#clock.after(ms, resolve)));
    await Promise.race([done, enough]);
    timer?.cancel();
  }

  /** Closes everything at once; pipes that are open break with `draining`. */
  async close(): Promise<void> {
    this.#state = "closed";
    this.#timer?.cancel();
    this.#connections.close({ reason: "draining" });
    await this.#reloading;
    await Promise.all(this.#standing.map(({ listener }) => listener.close()));
    this.#journal.tellSuppressed();
    const { audit } = this.#journal;
    if (audit === undefined) return;
    await this.#within(LAST_LINES_MS, this.#connections.empty());
    this.#journal.audit = undefined;
    await audit.close();
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
      judgedMs: this.#judgedMs,
      audit: auditStatus(this.#journal.audit),
      identities: this.#seen.list(),
      connections: this.#metrics.connections,
      connectionsTotal: this.#metrics.connectionsTotal,
      refusals: Object.fromEntries(this.#metrics.refusals),
      pipes: Array.from(this.#pipes.list(), (entry) => ({
        id: entry.id,
        connection: entry.connection,
        identity: entry.identity.principal,
        target: entry.target,
        backEnd: entry.backEnd,
        mode: entry.messages ? ("messages" as const) : ("bytes" as const),
        seconds: Math.max(0, Math.round((now - entry.openedAt) / 1000)),
        ...flowOf(entry.pipe),
        waits: waitsOf(entry.pipe),
      })),
    };
  }

  /** What would be said now to a certificate that asks for a target, and why. Never throws. */
  explain(request: ExplainRequest): ExplainAnswer {
    const { config, trust, deny, policy, targets } = this.#snapshot;
    return explainTo(request, { trust, deny, policy, targets: [...targets.keys()], file: config.file, now: this.#clock.wall() });
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
    return this.#metrics.text({
      live,
      version: this.#snapshot.version,
      reloadFailed: this.#failure !== undefined,
      audit: auditStatus(this.#journal.audit),
      expiry: { gateway: this.#snapshot.ownEnd, clients: this.#connections.soonestEnd() },
    });
  }
}

function closedWhileOpening(): PipegateError {
  return new PipegateError("cancelled", "the gateway was closed while it was opening");
}

function auditStatus(audit: Audit | undefined): GatewayStatus["audit"] {
  if (audit === undefined) return undefined;
  const { seq, hash } = audit.head;
  return { seq, hash, failing: audit.failing, lost: audit.lost };
}

/** What a listener offers under this snapshot. */
function servedBy({ target, serverNames, alpn }: ListenerConfig, { config, trust, deny }: Snapshot): ServedOptions {
  const raw = target !== undefined || serverNames.size > 0;
  const denies = (identity: Identity): string | undefined => denial(deny, identity);
  return { credentials: config.credentials, trust, denies, alpn: [ALPN, ...(raw ? alpn : [])], withoutAlpn: raw };
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

export interface ReadConfigOptions {
  /** Where relative paths in the config start. Default: the working folder. */
  readonly folder?: string;
}

/**
 * Judges an object of the same shape as the config file, in the same way, and reads the files that it names: what `Gateway.reload` takes.
 * Rejects with a PipegateError `config` that carries everything that is wrong.
 */
export async function readConfig(config: unknown, { folder = "." }: ReadConfigOptions = {}): Promise<Config> {
  const { configFrom } = await import("./config/load.ts"); // so that client programs do not load what reads configs
  return configFrom(config, { folder });
}

export interface CreateGatewayOptions extends GatewayOptions, ReadConfigOptions {}

/** A gateway in this process, of a config that `readConfig` takes; it rejects as that does. Nothing is opened before `listen()`. */
export async function createGateway(config: unknown, options: CreateGatewayOptions = {}): Promise<Gateway> {
  return new Gateway(await readConfig(config, options), options);
}
