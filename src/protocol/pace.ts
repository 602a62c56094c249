/**
 * How much of a connection is read in one turn of the event loop. A runtime reads on while more comes, megabytes of it, and what other
 * connections, and the back ends of this one, have to say waits meanwhile. That is cheapest while one stream or many alike are busy;
 * beside a stream that says little now and then it makes that one wait, so the turn is cut short there.
 * Promises: reading goes on in the next turn. Leaves to others: stopping it (Transport.rest), telling streams apart (incoming.ts).
 */
import type { Clock } from "../base/clock.ts";

/** Read in one turn beside a stream that says little. */
const TURN_BYTES = 64 << 10;
/** What came of one stream in a row: from here on it is much, up to there little. */
const MUCH = 8 << 10;
const LITTLE = 4 << 10;
/** So long, in bytes of the connection, both are remembered. */
const REMEMBERED = 64 << 20;

export interface PaceOptions {
  readonly clock: Clock;
  /** Reads nothing more in this turn. */
  rest(): void;
}

export class Pace {
  readonly #options: PaceOptions;
  /** Where in the connection's bytes the last run of each kind ended. */
  #muchAt = -REMEMBERED;
  #littleAt = -REMEMBERED;
  #turnBytes = 0;
  #isCounting = false;

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  /** A run of one stream's frames ended at `at`; `before`: how long that stream's last one was. */
  ran(run: number, { before, at }: { readonly before: number; readonly at: number }): void {
    if (run >= MUCH) this.#muchAt = at;
    else if (run <= LITTLE && before <= LITTLE) this.#littleAt = at;
  }

  /** A chunk of `bytes` came, the connection's bytes are at `at`. */
  took(bytes: number, at: number): void {
    const since = at - REMEMBERED;
    if (this.#muchAt <= since || this.#littleAt <= since) return;
    if (!this.#isCounting) {
      this.#isCounting = true;
      this.#options.clock.soon(() => this.#nextTurn());
    }
    const before = this.#turnBytes;
    this.#turnBytes = before + bytes;
    if (before < TURN_BYTES && this.#turnBytes >= TURN_BYTES) this.#options.rest();
  }

  #nextTurn(): void {
    this.#isCounting = false;
    this.#turnBytes = 0;
  }
}
