/**
 * A token bucket that is exact. Time counts in whole microseconds and the level in whole millionths of a token, so that one
 * microsecond brings exactly `perSecond` millionths and nothing is ever rounded away, at any rate up to 2^40 and any uptime.
 * (A bucket of more than 2^32 counts in milliseconds and thousandths: so large a one loses nothing by it, and all sums stay whole.)
 * Promises: over any span it gives at most the burst and what the rate brings meanwhile, and once, what exceeds the burst by itself.
 * Leaves to others: the clock, who waits, in which order, and where the two numbers of each bucket stand: its level and the moment
 * at which it was so. What is here is the arithmetic of one rate, for the million buckets that may have it.
 */
import type { Rate } from "./rule.ts";

const FINEST_BURST = 2 ** 32;

/** A clock's milliseconds as the whole microseconds that buckets count in. */
export function microseconds(ms: number): number {
  return Math.floor(ms * 1000);
}

export class Bucket {
  /** The level of a full one, in shares of a token, as all levels are. Below zero a level is a debt. */
  readonly full: number;
  readonly #burst: number;
  readonly #perTick: number;
  /** Shares in a token, so that each tick brings `perSecond` of them. */
  readonly #shares: number;
  /** Microseconds in a tick. */
  readonly #tickLength: number;

  constructor({ perSecond, burst }: Rate) {
    const isFine = burst <= FINEST_BURST;
    this.#shares = isFine ? 1_000_000 : 1_000;
    this.#tickLength = isFine ? 1 : 1_000;
    this.#burst = burst;
    this.#perTick = perSecond;
    this.full = burst * this.#shares;
  }

  /** What `n` tokens (whole, up to 2^32) are taken from a level. */
  cost(n: number): number {
    return n * this.#shares;
  }

  /** The level at `to` of a bucket that had `level` at `from` and gave nothing since. Time that went back brings nothing. */
  refilled(level: number, { from, to }: { readonly from: number; readonly to: number }): number {
    const ticks = this.#tickLength === 1 ? to - from : Math.floor(to / this.#tickLength) - Math.floor(from / this.#tickLength);
    if (ticks <= 0) return level;
    const brought = ticks * this.#perTick; // perhaps too large to be exact, but then it exceeds any level, and it is not used
    return brought >= this.full - level ? this.full : level + brought;
  }

  /** What `level` lacks to give `n`. More than the burst is given when the bucket is full, and leaves a debt. Zero or less: nothing. */
  lacking(level: number, n: number): number {
    return Math.min(n, this.#burst) * this.#shares - level;
  }

  /** Whole microseconds from `at` until so many shares have come, if nobody takes any; 0: now. */
  wait(lacking: number, at: number): number {
    if (lacking <= 0) return 0;
    const ticks = Math.ceil(lacking / this.#perTick);
    return this.#tickLength === 1 ? ticks : (Math.floor(at / this.#tickLength) + ticks) * this.#tickLength - at;
  }
}
