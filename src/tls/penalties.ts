/**
 * What a source pays for handshakes that fail, before anybody knows who it is; sshd's PerSourcePenalties are the model. Each offence adds
 * its amount to what the source owes, time pays it off, a second for a second; who owes more than the threshold is kept out until all is
 * paid. Promises: nobody owes more than `longestMs`; who is kept out is charged nothing more for trying; at most `maxSources` are known,
 * and where there are more, the one that is over soonest goes; no timer. Leaves to others: to turn away, and to tell.
 * Whoever comes by a unix socket pays nothing: all that do are one source, and its mode says who may.
 */
import { isWithin, type Network } from "../base/network.ts";
import type { Reason } from "../base/reason.ts";
import type { Source } from "./source.ts";

export interface PenaltiesOptions {
  readonly mode: "enforce" | "off";
  readonly thresholdMs: number;
  readonly longestMs: number;
  /** Never charged, never kept out. */
  readonly exempt: readonly Network[];
}

export interface Penalties {
  /** How long the source is kept out yet, ms. Undefined: it may try. */
  keptOut(source: Source): number | undefined;
  /** Charges what failed. How long the source is kept out now, ms; undefined: it is not. */
  charge(source: Source, reason: Reason): number | undefined;
  /** From now on by other options; what is owed stays, as far as it is no more than the new longest. */
  change(options: PenaltiesOptions): void;
  /** Sources that are known, some of which may owe nothing any more. */
  readonly size: number;
}

/**
 * Amounts by offence, ms. What honest clients come by pays little: a certificate that ran out, a scan by the health check of a load
 * balancer. What is not here costs nothing: caps of ours, and whatever is decided of an identity that was proven.
 */
export const penaltyAmounts: Readonly<Partial<Record<Reason, number>>> = {
  handshake_timeout: 10_000,
  unknown_issuer: 5_000,
  weak_key: 5_000,
  bad_san: 5_000,
  wrong_usage: 5_000,
  resumed_session: 5_000,
  protocol_error: 5_000,
  not_tls: 2_000,
  no_certificate: 2_000,
  alpn: 1_000,
  cert_expired: 1_000,
  not_yet_valid: 1_000,
  revoked: 1_000,
  session_lost: 500,
};

/** What is known of a source. Kept in a heap, the one that is over soonest on top. */
interface Debt {
  readonly key: string;
  /** When all is paid, by the clock's `now`. Moves back only for all at once, which keeps the heap's order. */
  until: number;
  isKeptOut: boolean;
  /** Where it stands in the heap. */
  place: number;
}

const MAX_SOURCES = 65_536;

export function createPenalties(
  options: PenaltiesOptions,
  clock: { now(): number },
  { maxSources = MAX_SOURCES }: { readonly maxSources?: number } = {},
): Penalties {
  return new Ledger(options, { clock, maxSources });
}

class Ledger implements Penalties {
  #options: PenaltiesOptions;
  readonly #clock: { now(): number };
  readonly #maxSources: number;
  readonly #byKey = new Map<string, Debt>();
  readonly #heap: Debt[] = [];

  constructor(options: PenaltiesOptions, { clock, maxSources }: { readonly clock: { now(): number }; readonly maxSources: number }) {
    this.#options = options;
    this.#clock = clock;
    this.#maxSources = maxSources;
  }

  get size(): number {
    return this.#heap.length;
  }

  change(options: PenaltiesOptions): void {
    this.#options = options;
    const latest = this.#clock.now() + options.longestMs;
    for (const debt of this.#heap) debt.until = Math.min(debt.until, latest);
  }

  keptOut(source: Source): number | undefined {
    const debt = this.#byKey.get(source.key);
    if (debt === undefined || !debt.isKeptOut || this.#isExempt(source)) return undefined;
    const leftMs = debt.until - this.#clock.now();
    return leftMs > 0 ? leftMs : undefined;
  }

  charge(source: Source, reason: Reason): number | undefined {
    const amountMs = penaltyAmounts[reason];
    if (amountMs === undefined || this.#isExempt(source)) return undefined;
    const now = this.#clock.now();
    this.#forget(now);
    const { thresholdMs, longestMs } = this.#options;
    const debt = this.#byKey.get(source.key) ?? this.#enter(source.key, now);
    debt.until = Math.max(debt.until, Math.min(debt.until + amountMs, now + longestMs));
    this.#sink(debt);
    const owedMs = debt.until - now;
    if (owedMs > Math.min(thresholdMs, longestMs - 1)) debt.isKeptOut = true;
    return debt.isKeptOut ? owedMs : undefined;
  }

  #isExempt({ address }: Source): boolean {
    return this.#options.mode === "off" || address === undefined || isWithin(address, this.#options.exempt);
  }

  /** Those who have paid are strangers again. */
  #forget(now: number): void {
    while (this.#heap.length > 0 && this.#heap[0]!.until <= now) this.#removeSoonest();
  }

  #enter(key: string, now: number): Debt {
    if (this.#heap.length >= this.#maxSources) this.#removeSoonest();
    const debt: Debt = { key, until: now, isKeptOut: false, place: this.#heap.length };
    this.#byKey.set(key, debt);
    this.#heap.push(debt);
    // It owes nothing yet, so all above it are over later.
    for (let above = (debt.place - 1) >> 1; debt.place > 0; above = (debt.place - 1) >> 1) this.#swap(debt, this.#heap[above]!);
    return debt;
  }

  #removeSoonest(): void {
    const soonest = this.#heap[0]!;
    const last = this.#heap.pop()!;
    this.#byKey.delete(soonest.key);
    if (last === soonest) return;
    last.place = 0;
    this.#heap[0] = last;
    this.#sink(last);
  }

  /** Down to where those below are over later. */
  #sink(debt: Debt): void {
    for (;;) {
      const left = this.#heap[2 * debt.place + 1];
      const right = this.#heap[2 * debt.place + 2];
      const sooner = right !== undefined && right.until < left!.until ? right : left;
      if (sooner === undefined || sooner.until >= debt.until) return;
      this.#swap(sooner, debt);
    }
  }

  #swap(one: Debt, other: Debt): void {
    [one.place, other.place] = [other.place, one.place];
    this.#heap[one.place] = one;
    this.#heap[other.place] = other;
  }
}
