/**
 * What a peer may cost us in control frames: 1,000 tokens, 200 more a second, and more for useful work (DATA, pipes that open).
 * Promises: a flood of any control frame ends in `excessive_load` after a bounded amount of work; time is asked only when it is needed.
 */
import type { Clock } from "../base/clock.ts";
import { ProtocolFault } from "./fault.ts";

const CAPACITY = 1000;
const PER_MS = 0.2;

export class ControlBudget {
  readonly #clock: Clock;
  #tokens = CAPACITY;
  #at: number;
  /** Bytes that did not yet make a whole token. */
  #bytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#at = clock.now();
  }

  /** Takes the price of a control frame. Throws a ProtocolFault when nothing is left. */
  charge(price: number): void {
    this.#tokens -= price;
    if (this.#tokens >= 0) return;
    const now = this.#clock.now();
    this.#tokens = Math.min(CAPACITY, this.#tokens + Math.floor((now - this.#at) * PER_MS));
    this.#at = now;
    if (this.#tokens < 0) throw new ProtocolFault("excessive_load", "too many control frames");
  }

  /** Gives back for work that was worth it. */
  earn(tokens: number): void {
    this.#tokens = Math.min(CAPACITY, this.#tokens + tokens);
  }

  /** One token for each 4 KiB of payload, either way: what the peer's CREDIT frames for it cost. */
  earnBytes(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes >= 4096) {
      this.earn(this.#bytes >>> 12);
      this.#bytes &= 4095;
    }
  }
}
