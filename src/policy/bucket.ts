/**
 * A token bucket that is exact. Time counts in whole microseconds and the level in whole millionths of a token, so that one
 * microsecond brings exactly `perSecond` millionths and nothing is ever rounded away, at any rate up to 2^40 and any uptime.
 * (A bucket of more than 2^32 counts in milliseconds and thousandths: so large a one loses nothing by it, and all sums stay whole.)
 * Promises: over any span it gives at most the burst and what the rate brings meanwhile, and once, what exceeds the burst by itself.
 * Leaves to others: the clock, who waits, and in which order.
 *
 * Two numbers and the shared rate: small, because a gateway may know a million of them.
 */
import type { Rate } from "./rule.ts";

const FINEST_BURST = 2 ** 32;

/** A clock's milliseconds as the whole microseconds that buckets count in. */
export function microseconds(ms: number): number {
  return Math.floor(ms * 1000);
}

export class Bucket {
  readonly rate: Rate;
  /** In shares of a token (`#shares`), at `#tick`; below zero it is a debt. */
  #level: number;
  /** The last moment seen, in whole microseconds or milliseconds. */
  #tick: number;

  /** Full at `at` (whole microseconds). */
  constructor(rate: Rate, at: number) {
    this.rate = rate;
    this.#level = rate.burst * this.#shares;
    this.#tick = Math.floor(at / this.#tickLength);
  }

  /**
   * Takes `n` tokens (whole, up to 2^32) and returns 0, or takes none and returns the microseconds until it can.
   * More than the burst is given when the bucket is full, and leaves a debt.
   */
  take(n: number, at: number): number {
    const wait = this.wait(n, at);
    if (wait === 0) this.#level -= n * this.#shares;
    return wait;
  }

  /** Whole microseconds after `at` until `take(n)` succeeds if nobody else takes; 0: now. */
  wait(n: number, at: number): number {
    this.#refill(at);
    const lacking = Math.min(n, this.rate.burst) * this.#shares - this.#level;
    if (lacking <= 0) return 0;
    return (this.#tick + Math.ceil(lacking / this.rate.perSecond)) * this.#tickLength - at;
  }

  /** Whether it is as good as a new one. */
  isFull(at: number): boolean {
    const ticks = Math.max(0, Math.floor(at / this.#tickLength) - this.#tick);
    return this.#level + ticks * this.rate.perSecond >= this.rate.burst * this.#shares;
  }

  /** The product may be too large to be exact, but then it exceeds any level, and it is not used. Time that went back brings nothing. */
  #refill(at: number): void {
    const tick = Math.floor(at / this.#tickLength);
    if (tick <= this.#tick) return;
    const full = this.rate.burst * this.#shares;
    const brought = (tick - this.#tick) * this.rate.perSecond;
    this.#level = brought >= full - this.#level ? full : this.#level + brought;
    this.#tick = tick;
  }

  /** Microseconds in a tick. */
  get #tickLength(): number {
    return this.rate.burst > FINEST_BURST ? 1_000 : 1;
  }

  /** Shares in a token, so that each tick brings `perSecond` of them. */
  get #shares(): number {
    return this.rate.burst > FINEST_BURST ? 1_000 : 1_000_000;
  }
}
