/**
 * A gateway of several workers, led by the thread that calls: each worker is a whole gateway in a thread of its own, on the same ports.
 * Promises: all workers serve or none; another config is prepared in all, then put in force in all, or in none; one status; drain and close
 * end all; a worker that ends by itself ends the gateway (`failed`), which never serves with fewer than was asked. What is one for all is
 * here: addresses, the audit log's chain, caps on log lines. Leaves to others: what a gateway is (gateway.ts), its states and turns
 * (gateway/life-cycle.ts), signals and files (cli/).
 */
import type { Audit } from "../audit/audit.ts";
import { addressText, type SocketAddress } from "../base/address.ts";
import { systemClock, within, type Clock, type Timer } from "../base/clock.ts";
import type { LogWriter } from "../base/log-writer.ts";
import type { Config, InForce } from "../config/config.ts";
import type { ExplainAnswer, ExplainRequest } from "../explain.ts";
import { beginAuditLog } from "../gateway/audit-log.ts";
import { AUDIT_CLOSE_MS, DRAIN_MS, LifeCycle, type Reloaded } from "../gateway/life-cycle.ts";
import { oddOf } from "../gateway/snapshot.ts";
import { auditStatus, type GatewayStatus } from "../gateway/status.ts";
import { Journal } from "../journal.ts";
import { Metrics } from "../metrics.ts";
import { Crew, type CrewEvents } from "./crew.ts";
import { mergeCounts, mergeExplained, mergeStatus } from "./merge.ts";
import { claimPlaces, placeListeners, type Placed } from "./places.ts";
import type { Remote } from "./remote.ts";
import { requireUnshared, SharingWatch } from "./sharing.ts";
import { Teller } from "./told.ts";

export interface WorkersOptions {
  readonly log: LogWriter;
  readonly clock?: Clock;
  /** What a worker runs (runtime/threads.ts). Default: worker.ts. */
  readonly program?: URL;
}

const workerProgram = new URL("worker", import.meta.url);
/** A worker that has not closed after so long is cut off, ms: longer than a gateway waits for what may hang. */
const CLOSE_MS = 12_000;
/** How often workers hear whether the audit log can be written, where that decides whom they serve, ms. */
const AUDIT_LOOK_MS = 100;

export class Workers {
  readonly #log: LogWriter;
  readonly #clock: Clock;
  readonly #metrics = new Metrics();
  readonly #journal: Journal;
  readonly #life: LifeCycle;
  readonly #teller: Teller;
  readonly #crew: Crew;
  readonly #sharing: SharingWatch;
  #config: Config;
  #placed: readonly Placed[] = [];
  #version = 1;
  #loadedAt: number;
  #audit: Audit | undefined;
  /** As at the start, like the log itself: a reload changes nothing of it. */
  #auditRefuses = false;
  #auditLook: Timer | undefined;
  #auditTold: string | undefined;
  #fail: (error: Error) => void = () => {};
  /** Rejects when a worker has ended by itself: whoever waits has to close, and say so. Never resolves. */
  readonly failed: Promise<never>;

  constructor(config: Config, { log, clock = systemClock, program = workerProgram }: WorkersOptions) {
    this.#config = config;
    const died: CrewEvents["died"] = (what, fault) => this.#died(what, fault);
    this.#crew = new Crew({ program, clock }, { said: (message) => this.#hear(message), died });
    this.#log = log;
    this.#clock = clock;
    this.#loadedAt = clock.wall();
    this.#journal = new Journal(log, { metrics: this.#metrics, clock });
    this.#life = new LifeCycle({ clock, journal: this.#journal, metrics: this.#metrics });
    this.#teller = new Teller({ logger: log, journal: this.#journal, clock });
    this.#sharing = new SharingWatch({ clock, log, placed: () => this.#placed });
    this.failed = new Promise((_, reject) => (this.#fail = reject));
    this.failed.catch(() => {}); // whoever waits for it hears of it
  }

  /** Opens every listener in every worker, or none. Returns where they listen, in the order of the config. */
  async listen(): Promise<readonly SocketAddress[]> {
    await this.#life.open(
      () => this.#open(),
      () => this.close(),
    );
    this.#life.serve();
    return this.#placed.map(({ address }) => address);
  }

  async #open(): Promise<void> {
    if (this.#config.selfTest === "skip") this.#journal.untested();
    await this.#openAudit();
    this.#placed = await placeListeners(this.#config.listeners, []);
    this.#life.requireOpening();
    await this.#crew.start(this.#config, this.#placed);
    this.#placed = await claimPlaces(this.#placed, []);
    await this.#crew.ask((worker) => worker.ask("bind"));
    requireUnshared(this.#placed);
    this.#sharing.begin();
    this.#lookAtAudit();
    this.#life.requireOpening();
    await this.#crew.ask((worker) => worker.ask("serve"));
  }

  #died(what: string, fault: Error | undefined): void {
    this.#log.error("worker ended", { detail: fault === undefined ? what : `${what}: ${fault.stack ?? fault.message}` });
    this.#audit?.record({ event: "worker ended", detail: what }); // what it said last may be missing
    this.#fail(new Error(`${what}, and a gateway never serves with fewer than its config asks for`, { cause: fault }));
  }

  #hear(message: Parameters<CrewEvents["said"]>[0]): void {
    if (message.kind === "told") return this.#teller.tell(message);
    if (message.text !== "") this.#log.lines(message.text);
    for (const fields of message.audited) this.#audit?.record(fields);
  }

  // ---- the audit log

  async #openAudit(): Promise<void> {
    const { audit } = this.#config;
    if (audit === undefined) return;
    this.#auditRefuses = audit.onFailure === "refuse";
    this.#audit = await beginAuditLog(audit, { clock: this.#clock, journal: this.#journal });
    this.#journal.audit = this.#audit;
  }

  #lookAtAudit(): void {
    if (!this.#auditRefuses || this.state === "closed") return;
    const failing = this.#audit?.failing;
    if (failing !== this.#auditTold) this.#crew.tell({ kind: "audit", failing });
    this.#auditTold = failing;
    this.#auditLook = this.#clock.after(AUDIT_LOOK_MS, () => this.#lookAtAudit());
  }

  // ---- another config

  /** As Gateway.reload, in all workers or in none. */
  reload(config: Config): Promise<Reloaded> {
    return this.#life.reload(() => this.#reload(config));
  }

  async #reload(config: Config): Promise<Reloaded> {
    const placed = await claimPlaces(await placeListeners(config.listeners, this.#placed), this.#placed);
    const prepared = await this.#crew.prepare(config, placed);
    try {
      requireUnshared(placed.filter((one) => !this.#placed.includes(one))); // who has joined where we stand keeps no config out
      this.#life.requireReady(); // it may have been told to stop meanwhile
    } catch (error) {
      await this.#crew.abandon();
      throw error;
    }
    await this.#commit();
    const { changes } = prepared[0]!; // the first serves all that there is
    const odd = oddOf(this.#config, config);
    this.#config = config;
    this.#placed = placed;
    if (changes.length > 0) {
      this.#version++;
      this.#loadedAt = this.#clock.wall();
    }
    const reloaded = { version: this.#version, changes };
    this.#life.took(reloaded, { odd });
    return reloaded;
  }

  /** One that cannot would go on with what the others have left behind: then nobody goes on. */
  async #commit(): Promise<void> {
    try {
      await this.#crew.ask((worker) => worker.ask("commit"));
    } catch (error) {
      this.#fail(new Error("a worker has not taken the config that the others serve", { cause: error }));
      throw error;
    }
  }

  /** A config that was not taken, in lines for the log and for those who look in. */
  reloadFailed(lines: readonly string[]): void {
    this.#life.reloadFailed(lines);
  }

  // ---- the end

  /** As Gateway.drain, all workers at once. */
  drain(graceMs: number = DRAIN_MS): Promise<void> {
    return this.#life.drain(() => this.#drain(graceMs));
  }

  async #drain(graceMs: number): Promise<void> {
    await this.#crew.ask((worker) => worker.ask("drain", graceMs)).catch(() => {}); // one that has ended is told by `failed`
    await this.close();
  }

  /** Closes everything at once; pipes that are open break with `draining`. */
  close(): Promise<void> {
    return this.#life.close(() => this.#close());
  }

  async #close(): Promise<void> {
    this.#auditLook?.cancel();
    this.#sharing.stop();
    const closed = this.#crew.ask((worker) => worker.ask("close")).catch(() => {}); // one that has ended is told by `failed`
    await within(closed, { ms: CLOSE_MS, clock: this.#clock });
    await this.#crew.end();
    this.#journal.tellSuppressed();
    if (this.#audit !== undefined) await within(this.#audit.close(), { ms: AUDIT_CLOSE_MS, clock: this.#clock });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // ---- for those who look in

  get state(): GatewayStatus["state"] {
    return this.#life.state;
  }

  get inForce(): InForce {
    const { trust, credentials, targets } = this.#config;
    return { trust: trust.built, credentials, targets };
  }

  /** Within this time what is taken away has to end, by the config in force. */
  get maxStalenessMs(): number {
    return this.#config.trust.maxStalenessMs;
  }

  async status(): Promise<GatewayStatus> {
    return mergeStatus(await this.#ofAll((worker) => worker.ask("status")), {
      state: this.state,
      listeners: this.#placed.map(({ address }) => addressText(address)),
      version: this.#version,
      loadedAt: this.#loadedAt,
      reloadFailure: this.#life.failure,
      audit: auditStatus(this.#audit),
    });
  }

  async explain(request: ExplainRequest): Promise<ExplainAnswer> {
    return mergeExplained(await this.#crew.ask((worker) => worker.ask("explain", request)));
  }

  /** Prometheus text. */
  async metrics(): Promise<string> {
    const { metrics, gauges } = mergeCounts(await this.#ofAll((worker) => worker.ask("counts")), {
      version: this.#version,
      reloadFailed: this.#life.failure !== undefined,
      reloadFailures: this.#metrics.reloadFailures,
      audit: auditStatus(this.#audit),
    });
    return metrics.text(gauges);
  }

  /** Those that can be asked: before they serve, and after, there are none. */
  async #ofAll<T>(ask: (worker: Remote) => Promise<T>): Promise<T[]> {
    return this.state === "ready" || this.state === "draining" ? this.#crew.ask(ask) : [];
  }
}
