/**
 * The session's credit for what arrives: counted for all streams together, granted on consume, and guarded against streams whose
 * readers stopped: they pin what the others need.
 * Promises: at most a window is held; one stopped reader stalls the others for seconds at most. Leaves to others: each stream's own credit.
 */
import type { Clock, Timer } from "../base/clock.ts";
import { ProtocolFault } from "./fault.ts";
import type { Stream } from "./stream.ts";
import { ReceiveWindow } from "./window.ts";

const WINDOW_MAX = 16 << 20;
const STALL_MS = 5_000;

export interface ReceiverOptions {
  /** First and least size of the window, in cost. */
  readonly initial: number;
  readonly clock: Clock;
  readonly streams: ReadonlyMap<number, Stream>;
  /** The peer is to be told `limit` now. */
  grant(): void;
}

export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #window: ReceiveWindow;
  /** What may still come for streams that we reset: the peer sent it before it knew. */
  #stray = 0;
  #timer: Timer | undefined;

  constructor(options: ReceiverOptions) {
    const { initial } = options;
    this.#options = options;
    this.#window = new ReceiveWindow({ initial, max: Math.max(WINDOW_MAX, initial) }, initial);
  }

  /** Counts a DATA frame; throws a ProtocolFault when it is over the limit. */
  receive(cost: number): void {
    if (!this.#window.receive(cost)) throw new ProtocolFault("flow_control", "over the session's limit");
  }

  /** One for a stream that is closed here; throws a ProtocolFault when it cannot have been on its way. */
  receiveStray(cost: number): void {
    this.#stray -= cost;
    if (this.#stray < 0) throw new ProtocolFault("flow_control", "DATA on a closed stream");
  }

  /** We reset a stream: so much may still come for it. */
  expectStray(cost: number): void {
    this.#stray += Math.max(0, cost);
  }

  /** Counts what was consumed, or dropped. */
  consumed(cost: number): void {
    if (this.#window.consume(cost)) this.#options.grant();
  }

  /** The new limit to tell the peer. */
  grant(now: number, roundTrip: number): number {
    return this.#window.grant({ now, roundTrip, shared: false });
  }

  /** Makes the window as large as one of `streamWindow` can use. */
  suit(streamWindow: number): void {
    this.#window.grow(streamWindow * 1.5);
  }

  /** A stream holds what arrived: from half a window on, somebody has to look whether it is ever read. */
  held(): void {
    if (this.#window.pinned > this.#window.size >>> 1) this.#watch();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #watch(): void {
    if (this.#timer !== undefined) return;
    this.#timer = this.#options.clock.after(STALL_MS, () => {
      this.#timer = undefined;
      this.#breakStall();
    });
  }

  #breakStall(): void {
    const half = this.#window.size >>> 1;
    if (this.#window.pinned <= half) return;
    const now = this.#options.clock.now();
    let pinned = 0;
    let worst: Stream | undefined;
    for (const stream of this.#options.streams.values()) {
      if (stream.window.pinned === 0 || now - stream.consumedAt < STALL_MS) continue;
      pinned += stream.window.pinned;
      if (worst === undefined || stream.window.pinned > worst.window.pinned) worst = stream;
    }
    if (pinned > half) {
      if (this.#window.grow(this.#window.size * 2)) this.#options.grant();
      else worst?.reset({ reason: "slow_reader", detail: "its reader stopped while it filled the session" });
    }
    this.#watch();
  }
}
