/**
 * The states of a gateway, from new to closed, and the turns of what changes it; the same for one thread and for several. Promises: it opens
 * once; configs are put in force one at a time, in the order of the calls, and only while it serves; a config that was not taken changes
 * nothing and stands in log, status and gauge until the next is taken; an end waits a while for the turn under way. Leaves to others: what
 * opening, reloading, draining and closing do (gateway.ts, workers/leader.ts), when a config is loaded (reloader.ts).
 */
import { within, type Clock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { Journal } from "../journal.ts";
import type { Metrics } from "../metrics.ts";
import { requireSupportedRuntime } from "../runtime/version.ts";
import type { GatewayStatus, ReloadFailure } from "./status.ts";

export interface Reloaded {
  readonly version: number;
  /** What is no longer as it was, in words; empty: nothing. */
  readonly changes: readonly string[];
}

export interface LifeCycleOptions {
  readonly clock: Clock;
  readonly journal: Pick<Journal, "reloaded" | "reloadFailed" | "odd">;
  readonly metrics: Pick<Metrics, "reloadFailures">;
}

/** How long clients have to finish when a gateway drains, ms. */
export const DRAIN_MS = 30_000;
/** How long a disk that does not answer may keep what was told last, ms. */
export const AUDIT_CLOSE_MS = 5_000;
/** How long an end waits for a load under way, which may hang in a name; it sees the end whenever it goes on, ms. */
const RELOAD_END_MS = 5_000;

export class LifeCycle {
  readonly #options: LifeCycleOptions;
  #state: GatewayStatus["state"] = "new";
  #turn: Promise<unknown> = Promise.resolve();
  #failure: ReloadFailure | undefined;
  #drained: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: LifeCycleOptions) {
    this.#options = options;
  }

  get state(): GatewayStatus["state"] {
    return this.#state;
  }

  /** The last config that was not taken, until one is. */
  get failure(): ReloadFailure | undefined {
    return this.#failure;
  }

  // ---- the start

  /** Once. What `act` opened before it failed, or before somebody closed the gateway meanwhile, `close` closes. */
  async open<T>(act: () => Promise<T>, close: () => Promise<void>): Promise<T> {
    requireSupportedRuntime();
    if (this.#state !== "new") throw new PipegateError("usage", "this gateway has been started before");
    this.#state = "opening";
    try {
      const opened = await act();
      this.requireOpening();
      return opened;
    } catch (error) {
      const wasClosed = this.#state !== "opening";
      await close();
      throw wasClosed ? closedWhileOpening() : error;
    }
  }

  /** Others may have closed it meanwhile. */
  requireOpening(): void {
    if (this.#state !== "opening") throw closedWhileOpening();
  }

  serve(): void {
    this.requireOpening();
    this.#state = "ready";
  }

  // ---- another config

  requireReady(): void {
    if (this.#state !== "ready") throw new PipegateError("draining", `the gateway is ${this.#state}: it takes no other config now`);
  }

  /** After all that were asked for before, whatever came of them; rejects, and does nothing, unless the gateway serves then. */
  reload<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(() => {
      this.requireReady();
      return act();
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** A config was taken, and is in force; `odd`: what it says that deserves a word, and the one before did not say. */
  took(reloaded: Reloaded, { odd }: { readonly odd: readonly string[] }): void {
    const { journal } = this.#options;
    const mended = this.#failure !== undefined;
    this.#failure = undefined;
    const changed = reloaded.changes.length > 0;
    if (changed || mended) journal.reloaded(reloaded);
    if (changed) for (const warning of odd) journal.odd(warning);
  }

  /** A config that was not taken, in lines for the log and for those who look in. What is said again is counted, and not logged again. */
  reloadFailed(lines: readonly string[]): void {
    const { clock, journal, metrics } = this.#options;
    const again = this.#failure !== undefined && this.#failure.lines.join("\n") === lines.join("\n");
    this.#failure = { at: clock.wall(), lines };
    metrics.reloadFailures++;
    if (!again) journal.reloadFailed(lines);
  }

  // ---- the end

  /** Once, however often it is asked: `act` when no turn is under way any more. */
  drain(act: () => Promise<void>): Promise<void> {
    this.#drained ??= this.#drain(act);
    return this.#drained;
  }

  async #drain(act: () => Promise<void>): Promise<void> {
    if (this.#state !== "closed") this.#state = "draining";
    await this.turnEnds(); // it sees the end, and opens nothing any more
    await act();
  }

  /** At once; asked again, it is done again after that, since an opening may have brought more meanwhile. */
  close(act: () => Promise<void>): Promise<void> {
    this.#state = "closed";
    this.#closed = this.#closed === undefined ? act() : this.#closed.then(act, act);
    return this.#closed;
  }

  /** The turn under way has ended, or had its time. */
  turnEnds(): Promise<void> {
    return within(this.#turn, { ms: RELOAD_END_MS, clock: this.#options.clock });
  }
}

function closedWhileOpening(): PipegateError {
  return new PipegateError("cancelled", "the gateway was closed while it was opening");
}
