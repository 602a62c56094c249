/**
 * Credit for what we receive: how much the peer may send in all, counted in cost (64 + payload bytes of each DATA frame).
 * Granted on consume; grows when the peer uses it faster than a few round trips, or disturbs nobody (docs/protocol.md, "Credit").
 * Promises: the limit only grows; at most `size` is unconsumed, once a smaller size has worked itself in.
 */

/** One object for all windows of a session. */
export interface WindowSizes {
  readonly initial: number;
  readonly max: number;
}

/** After this pause the window is its initial size again. */
const IDLE_MS = 60_000;
/** What is measured at least before a decision. */
const PERIOD_MS = 10;
/** A stream that has the session's incoming bytes to itself may have this much on its way: what waits delays nobody, and is read in fewer wake-ups. */
const ALONE_SIZE = 2 << 20;
/** Below this round trip, ms, a first window carries what there is to carry: a larger one only delays the streams beside it. */
const NEAR_MS = 1;
/** A doubled window must carry so much more, or it is halved and left alone for a while. */
const WORTH_IT = 1.25;
const HOLD_MS = 10_000;

/** What decides about a window's size when it is granted; times in milliseconds. */
export interface GrantTime {
  readonly now: number;
  readonly roundTrip: number;
  /** Other streams of the session received bytes lately. */
  readonly shared: boolean;
}

export class ReceiveWindow {
  readonly #sizes: WindowSizes;
  #size: number;
  #limit: number;
  #received = 0;
  #consumed = 0;
  #periodAt = -1;
  #periodConsumed = 0;
  /** Bytes a millisecond before the window was doubled; 0 when it was not. */
  #rateBefore = 0;
  #heldUntil = 0;

  /** `first`: granted before anything else is known (a stream's early window). */
  constructor(sizes: WindowSizes, first: number) {
    this.#sizes = sizes;
    this.#size = sizes.initial;
    this.#limit = first;
  }

  get size(): number {
    return this.#size;
  }
  /** The absolute limit that the peer was given. */
  get limit(): number {
    return this.#limit;
  }
  /** Received and not yet consumed. */
  get pinned(): number {
    return this.#received - this.#consumed;
  }
  /** What the peer may still send. */
  get left(): number {
    return this.#limit - this.#received;
  }

  /** Counts what arrives; false when it is over the limit. */
  receive(cost: number): boolean {
    this.#received += cost;
    return this.#received <= this.#limit;
  }

  /** Counts what was consumed; whether a grant is owed now. */
  consume(cost: number): boolean {
    this.#consumed += cost;
    const target = this.#consumed + this.#size;
    return target - this.#limit >= this.#size >>> 2 || (this.#received === this.#consumed && this.left < this.#size >>> 1);
  }

  /** The new limit to tell the peer. */
  grant(time: GrantTime): number {
    const { now, roundTrip, shared } = time;
    const elapsed = now - this.#periodAt;
    if (this.#periodAt < 0 || elapsed > IDLE_MS) {
      if (this.#periodAt >= 0) this.#size = this.#sizes.initial;
      this.#begin(now);
      this.#rateBefore = 0;
    } else if (shared && roundTrip < NEAR_MS) this.#size = this.#sizes.initial;
    else if (elapsed >= Math.max(PERIOD_MS, 4 * roundTrip)) {
      this.#tune((this.#consumed - this.#periodConsumed) / elapsed, time);
      this.#begin(now);
    }
    this.#limit = Math.max(this.#limit, this.#consumed + this.#size);
    return this.#limit;
  }

  #begin(now: number): void {
    this.#periodAt = now;
    this.#periodConsumed = this.#consumed;
  }

  /**
   * Alone: doubles when a whole window goes in PERIOD_MS. Else when half a window goes in less than four round trips, and takes that back when
   * it brought nothing, for then it only makes a queue.
   */
  #tune(rate: number, { now, roundTrip, shared }: GrantTime): void {
    const before = this.#rateBefore;
    this.#rateBefore = 0;
    if (!shared && this.#size < ALONE_SIZE && rate * PERIOD_MS >= this.#size) this.grow(this.#size * 2);
    else if (before > 0 && rate < before * WORTH_IT) {
      this.#size = Math.max(this.#sizes.initial, this.#size >>> 1);
      this.#heldUntil = now + HOLD_MS;
    } else if (now >= this.#heldUntil && rate * 4 * roundTrip > this.#size >>> 1 && this.grow(this.#size * 2)) this.#rateBefore = rate;
  }

  /** Makes the window at least `size`, up to its maximum; whether that changed it. */
  grow(size: number): boolean {
    const next = Math.min(this.#sizes.max, Math.max(this.#size, Math.ceil(size)));
    const grew = next > this.#size;
    this.#size = next;
    return grew;
  }
}
