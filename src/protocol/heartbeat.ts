/**
 * Whether the peer still lives and reads, and how long a round trip takes: PINGs after silence, and to measure.
 * Promises: a peer that is silent for four beats, or reads nothing for one while something waits, is found dead once.
 * Leaves to others: frames on the wire, the end of the session.
 */
import { Buffer } from "node:buffer";
import type { Break } from "../base/channel.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { getU64, putU64 } from "./frame.ts";

export interface HeartbeatOptions {
  readonly clock: Clock;
  /** Milliseconds between beats. */
  readonly everyMs: number;
  /** What was sent: bytes that wait for the peer, and those it took so far. */
  readonly outgoing: { readonly waiting: number; readonly written: number };
  /** Sends a PING with these 8 bytes. */
  ping(opaque: Buffer): void;
  dead(broken: Break): void;
}

const DEAD_AFTER_BEATS = 4;
/** Shortest round trip that is believed, ms. More would let windows grow on fast paths, where they only make queues. */
const MIN_ROUND_TRIP = 0.1;
/** After this a round trip is measured anew when somebody asks. */
const FRESH_MS = 1_000;
/** Before so many round trips were measured, the shortest is not believed: the first ones also measure a busy start. */
const SAMPLES = 4;

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #timer: Timer | undefined;
  #heard = true;
  #silentBeats = 0;
  /** As it was at the last beat: what the peer had taken, and whether more waited. */
  #writtenAtBeat = 0;
  #waitedAtBeat = false;
  #sentAt = -1;
  #counter = 0;
  #roundTrip = Infinity;
  #measuredAt = -1;
  #samples = 0;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  /**
   * Shortest round trip that was seen, ms; the shortest possible one until there are enough measurements. None is forgotten: while much is on
   * its way each one measures that, too.
   */
  get roundTripMs(): number {
    return this.#samples < SAMPLES ? MIN_ROUND_TRIP : this.#roundTrip;
  }

  start(): void {
    this.#timer = this.#options.clock.after(this.#options.everyMs, () => this.#beat());
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Something came. */
  heard(): void {
    this.#heard = true;
  }

  /** Measures the round trip, unless that was done lately. */
  measure(now: number): void {
    if (this.#measuredAt < 0 || now - this.#measuredAt > FRESH_MS) this.#ping();
  }

  /** A PONG came; one that answers nothing of ours is ignored. */
  pong(payload: Buffer): void {
    if (this.#sentAt < 0 || getU64(payload, 0) !== this.#counter) return;
    const now = this.#options.clock.now();
    this.#roundTrip = Math.min(this.#roundTrip, Math.max(MIN_ROUND_TRIP, now - this.#sentAt));
    this.#sentAt = -1;
    this.#measuredAt = now;
    if (++this.#samples < SAMPLES) this.#ping();
  }

  #ping(): void {
    if (this.#sentAt >= 0) return;
    const opaque = Buffer.alloc(8);
    putU64(opaque, ++this.#counter, 0);
    this.#sentAt = this.#options.clock.now();
    this.#options.ping(opaque);
  }

  #beat(): void {
    const { outgoing, dead } = this.#options;
    const waits = outgoing.waiting > 0;
    if (waits && this.#waitedAtBeat && outgoing.written === this.#writtenAtBeat) {
      return dead({ reason: "slow_reader", detail: "the peer has read nothing for a heartbeat" });
    }
    this.#writtenAtBeat = outgoing.written;
    this.#waitedAtBeat = waits;
    this.#silentBeats = this.#heard ? 0 : this.#silentBeats + 1;
    this.#heard = false;
    if (this.#silentBeats >= DEAD_AFTER_BEATS)
      return dead({ reason: "session_lost", detail: "the peer has been silent for four heartbeats" });
    if (this.#silentBeats > 0) {
      this.#sentAt = -1; // the answer to the last one is lost
      this.#ping();
    }
    this.start();
  }
}
