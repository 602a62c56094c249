/**
 * Credit for what we receive: how much the peer may send in all, counted in cost (64 + payload bytes of each DATA frame).
 * Granted on consume; grows when the peer uses it faster than a few round trips (docs/protocol.md, "Flow control").
 * Promises: the limit only grows; at most `size` is unconsumed, once a smaller size has worked itself in.
 */

export interface WindowSizes {
  /** Granted before anything else is known (a stream's early window). */
  readonly first: number;
  readonly initial: number;
  readonly max: number;
}

/** After this pause the window is its initial size again. */
const IDLE_MS = 60_000;

export class ReceiveWindow {
  readonly #sizes: WindowSizes;
  #size: number;
  #limit: number;
  #received = 0;
  #consumed = 0;
  #epochAt = -1;
  #epochConsumed = 0;

  constructor(sizes: WindowSizes) {
    this.#sizes = sizes;
    this.#size = sizes.initial;
    this.#limit = sizes.first;
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

  /** The new limit to tell the peer. `now` and `roundTrip` in milliseconds decide about the size. */
  grant(now: number, roundTrip: number): number {
    const used = this.#consumed - this.#epochConsumed;
    if (this.#epochAt < 0 || now - this.#epochAt > IDLE_MS) {
      if (this.#epochAt >= 0) this.#size = this.#sizes.initial;
      this.#epochAt = now;
      this.#epochConsumed = this.#consumed;
    } else if (used > this.#size >>> 1) {
      if (now - this.#epochAt < 4 * roundTrip) this.grow(this.#size * 2);
      this.#epochAt = now;
      this.#epochConsumed = this.#consumed;
    }
    this.#limit = Math.max(this.#limit, this.#consumed + this.#size);
    return this.#limit;
  }

  /** Makes the window at least `size`, up to its maximum; whether that changed it. */
  grow(size: number): boolean {
    const next = Math.min(this.#sizes.max, Math.max(this.#size, Math.ceil(size)));
    const grew = next > this.#size;
    this.#size = next;
    return grew;
  }
}
