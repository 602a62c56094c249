/**
 * A gateway of several workers, led by the thread that calls: each worker is a whole gateway in a thread of its own, on the same ports.
 * Promises: all workers serve or none; another config is prepared in all, then put in force in all, or in none; one status; drain and close
 * end all; a worker that ends by itself ends the gateway (`failed`), which never serves with fewer than was asked. What is one for all is
 * here: addresses, the audit log's chain, caps on log lines. Leaves to others: what a gateway is (gateway.ts), signals and files (cli/).
 */
import type { Audit } from "../audit/audit.ts";
import { beginAudit } from "../audit/waiting.ts";
import { addressText, type SocketAddress } from "../base/address.ts";
import { systemClock, type Clock, type Timer } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { LogWriter } from "../base/log-writer.ts";
import type { Config, InForce } from "../config/config.ts";
import type { ExplainAnswer, ExplainRequest } from "../explain.ts";
import type { Reloaded } from "../gateway.ts";
import { auditStatus, type GatewayStatus, type ReloadFailure } from "../gateway/status.ts";
import { Journal } from "../journal.ts";
import { Metrics } from "../metrics.ts";
import { requireSupportedRuntime } from "../runtime/version.ts";
import { Crew, type CrewEvents } from "./crew.ts";
import { mergeCounts, mergeExplained, mergeStatus } from "./merge.ts";
import { claimPlaces, placeListeners, type Placed } from "./places.ts";
import type { Remote } from "./remote.ts";
import { Teller } from "./told.ts";

export interface WorkersOptions {
  readonly log: LogWriter;
  readonly clock?: Clock;
  /** What a worker runs (runtime/threads.ts). Default: worker.ts. */
  readonly program?: URL;
}

const workerProgram = new URL("worker", import.meta.url);
const DRAIN_MS = 30_000;
/** A worker that has not closed after so long is cut off, ms: longer than a gateway waits for what may hang. */
const CLOSE_MS = 12_000;
/** How long a disk that does not answer may keep what was told last, ms. */
const AUDIT_CLOSE_MS = 5_000;
/** How long an end waits for a load under way, which may hang in a name, ms. */
const RELOAD_END_MS = 5_000;
/** How often workers hear whether the audit log can be written, where that decides whom they serve, ms. */
const AUDIT_LOOK_MS = 100;

export class Workers {
  readonly #log: LogWriter;
  readonly #clock: Clock;
  readonly #journal: Journal;
  readonly #teller: Teller;
  readonly #crew: Crew;
  #config: Config;
  #placed: readonly Placed[] = [];
  #state: GatewayStatus["state"] = "new";
  #version = 1;
  #loadedAt: number;
  #failure: ReloadFailure | undefined;
  #reloadFailures = 0;
  #reloading: Promise<unknown> = Promise.resolve();
  #drained: Promise<void> | undefined;
  #closed: Promise<void> | undefined;
  #audit: Audit | undefined;
  #auditLook: Timer | undefined;
  #auditTold: string | undefined;
  #fail: (error: Error) => void = () => {};
  /** Rejects when a worker has ended by itself: whoever waits has to close, and say so. Never resolves. */
  readonly failed: Promise<never>;

  constructor(config: Config, { log, clock = systemClock, program = workerProgram }: WorkersOptions) {
    this.#config = config;
    this.#crew = new Crew(program, {
      said: (message) => this.#hear(message),
      died: (what, fault) => this.#died(what, fault),
    });
    this.#log = log;
    this.#clock = clock;
    this.#loadedAt = clock.wall();
    this.#journal = new Journal(log, { metrics: new Metrics(), clock });
    this.#teller = new Teller({ logger: log, journal: this.#journal, clock });
    this.failed = new Promise((_, reject) => (this.#fail = reject));
    this.failed.catch(() => {}); // whoever waits for it hears of it
  }

  /** Opens every listener in every worker, or none. Returns where they listen, in the order of the config. */
  async listen(): Promise<readonly SocketAddress[]> {
    requireSupportedRuntime();
    if (this.#state !== "new") throw new PipegateError("usage", "this gateway has been started before");
    this.#state = "opening";
    try {
      if (this.#config.selfTest === "skip") this.#journal.untested();
      await this.#openAudit();
      this.#placed = await placeListeners(this.#config.listeners, []);
      this.#requireOpening();
      await this.#crew.start(this.#config, this.#placed);
      this.#placed = await claimPlaces(this.#placed, []);
      await this.#crew.ask((worker) => worker.ask("bind"));
      this.#lookAtAudit();
      this.#requireOpening();
      await this.#crew.ask((worker) => worker.ask("serve"));
      this.#requireOpening();
    } catch (error) {
      const wasClosed = this.#state !== "opening";
      await this.close();
      throw wasClosed ? new PipegateError("cancelled", "the gateway was closed while it was opening") : error;
    }
    this.#state = "ready";
    return this.#placed.map(({ address }) => address);
  }

  #requireOpening(): void {
    if (this.#state !== "opening") throw new PipegateError("cancelled");
  }

  #died(what: string, fault: Error | undefined): void {
    this.#log.error("worker ended", { detail: fault === undefined ? what : `${what}: ${fault.stack ?? fault.message}` });
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
    const told = {
      onTrouble: (detail: string) => this.#journal.auditTroubled(detail),
      onWell: () => this.#journal.auditWell(),
    };
    this.#audit = await beginAudit({ ...audit, clock: this.#clock, ...told }, { mayWait: audit.onFailure !== "refuse" });
    this.#journal.audit = this.#audit;
  }

  #lookAtAudit(): void {
    if (this.#config.audit?.onFailure !== "refuse" || this.#state === "closed") return;
    const failing = this.#audit?.failing;
    if (failing !== this.#auditTold) this.#crew.tell({ kind: "audit", failing });
    this.#auditTold = failing;
    this.#auditLook = this.#clock.after(AUDIT_LOOK_MS, () => this.#lookAtAudit());
  }

  // ---- another config

  /** As Gateway.reload, in all workers or in none. */
  reload(config: Config): Promise<Reloaded> {
    const turn = this.#reloading.then(() => this.#reload(config));
    this.#reloading = turn.catch(() => {});
    return turn;
  }

  async #reload(config: Config): Promise<Reloaded> {
    this.#requireReady();
    const placed = await claimPlaces(await placeListeners(config.listeners, this.#placed), this.#placed);
    const prepared = await this.#crew.prepare(config, placed);
    try {
      this.#requireReady(); // it may have been told to stop meanwhile
    } catch (error) {
      await this.#crew.abandon();
      throw error;
    }
    await this.#crew.ask((worker) => worker.ask("commit"));
    const { changes } = prepared[0]!; // the first serves all that there is
    const odd = config.warnings.filter((warning) => !this.#config.warnings.includes(warning));
    this.#config = config;
    this.#placed = placed;
    const mended = this.#failure !== undefined;
    this.#failure = undefined;
    if (changes.length > 0) {
      this.#version++;
      this.#loadedAt = this.#clock.wall();
    }
    const reloaded = { version: this.#version, changes };
    if (changes.length > 0 || mended) this.#journal.reloaded(reloaded);
    if (changes.length > 0) for (const warning of odd) this.#journal.odd(warning);
    return reloaded;
  }

  #requireReady(): void {
    if (this.#state !== "ready") throw new PipegateError("draining", `the gateway is ${this.#state}: it takes no other config now`);
  }

  /** A config that was not taken, in lines for the log and for those who look in. */
  reloadFailed(lines: readonly string[]): void {
    const again = this.#failure !== undefined && this.#failure.lines.join("\n") === lines.join("\n");
    this.#failure = { at: this.#clock.wall(), lines };
    this.#reloadFailures++;
    if (!again) this.#journal.reloadFailed(lines);
  }

  // ---- the end

  /** As Gateway.drain, all workers at once. */
  drain(graceMs: number = DRAIN_MS): Promise<void> {
    this.#drained ??= this.#drain(graceMs);
    return this.#drained;
  }

  async #drain(graceMs: number): Promise<void> {
    if (this.#state !== "closed") this.#state = "draining";
    await this.#within(RELOAD_END_MS, this.#reloading);
    await this.#crew.ask((worker) => worker.ask("drain", graceMs)).catch(() => {}); // one that has ended is told by `failed`
    await this.close();
  }

  /** Closes everything at once; pipes that are open break with `draining`. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#state = "closed";
    this.#auditLook?.cancel();
    const closed = this.#crew.ask((worker) => worker.ask("close")).catch(() => {}); // one that has ended is told by `failed`
    await this.#within(CLOSE_MS, closed);
    await this.#crew.end();
    this.#journal.tellSuppressed();
    if (this.#audit !== undefined) await this.#within(AUDIT_CLOSE_MS, this.#audit.close());
  }

  async #within(ms: number, done: Promise<unknown>): Promise<void> {
    let timer: Timer | undefined;
    const enough = new Promise<void>((resolve) => (timer = this.#clock.after(ms, resolve)));
    await Promise.race([done, enough]);
    timer?.cancel();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // ---- for those who look in

  get state(): GatewayStatus["state"] {
    return this.#state;
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
      state: this.#state,
      listeners: this.#placed.map(({ address }) => addressText(address)),
      version: this.#version,
      loadedAt: this.#loadedAt,
      reloadFailure: this.#failure,
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
      reloadFailed: this.#failure !== undefined,
      reloadFailures: this.#reloadFailures,
      audit: auditStatus(this.#audit),
    });
    return metrics.text(gauges);
  }

  /** Those that can be asked: before they serve, and after, there are none. */
  async #ofAll<T>(ask: (worker: Remote) => Promise<T>): Promise<T[]> {
    return this.#state === "ready" || this.#state === "draining" ? this.#crew.ask(ask) : [];
  }
}
