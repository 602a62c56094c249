/**
 * What holds the pipes of one identity in one direction to its bytes and messages per second: chunks wait, nothing is dropped.
 * Promises: both buckets are taken together or not at all; who waits is served in the order of coming, so that pipes take turns
 * chunk by chunk and none starves; one timer; a backlog gets its rate exactly, however late timers fire.
 * Leaves to others: holding the chunk (one for each waiter) and pausing its source.
 *
 * While a backlog lasts the throttle lives in a time of its own that stands where the last chunk was due, not where a late timer
 * found it: so the buckets never overflow for our lateness. That time lags by 1 s at most, and is given up once nobody waited for 100 ms.
 */
import type { Clock, Timer } from "../base/clock.ts";
import { Bucket, microseconds } from "./bucket.ts";
import type { Limits } from "./rule.ts";

export interface Throttle {
  /**
   * True: go on, it is counted. False: hold the chunk; `resume` is called once, later, when it was counted. `resume` names the
   * waiter: one chunk at a time for each, until it was called or cancelled. Units: bytes and ended messages, whole numbers.
   */
  admit(bytes: number, messages: number, resume: () => void): boolean;
  /** The waiter went away: it is never called, costs no tokens, and the others keep their places. Harmless when it does not wait. */
  cancel(resume: () => void): void;
}

/** No limit, no cost. */
export const unlimited: Throttle = Object.freeze({ admit: () => true, cancel: () => {} });

interface Waiter {
  readonly resume: () => void;
  readonly bytes: number;
  readonly messages: number;
  before: Waiter | undefined;
  behind: Waiter | undefined;
}

// Microseconds, like all times here.
const LONGEST_LAG = 1_000_000;
const BACKLOG_GRACE = 100_000;

export class BucketThrottle implements Throttle {
  readonly #clock: Clock;
  readonly #bytes: Bucket | undefined;
  readonly #messages: Bucket | undefined;
  /** Our own time, at or behind the clock. */
  #time: number;
  #backlogUntil = -1;
  #waiters: Map<() => void, Waiter> | undefined;
  #first: Waiter | undefined;
  #last: Waiter | undefined;
  #timer: Timer | undefined;

  constructor(clock: Clock, { bytes, messages }: Pick<Limits, "bytes" | "messages">) {
    this.#clock = clock;
    this.#time = microseconds(clock.now());
    this.#bytes = bytes && new Bucket(bytes, this.#time);
    this.#messages = messages && new Bucket(messages, this.#time);
  }

  admit(bytes: number, messages: number, resume: () => void): boolean {
    const now = this.#observe();
    if (this.#first === undefined && this.#serve({ bytes, messages }, now)) return true;
    this.#enqueue({ resume, bytes, messages, before: this.#last, behind: undefined });
    return false;
  }

  cancel(resume: () => void): void {
    const waiter = this.#waiters?.get(resume);
    if (waiter === undefined) return;
    const wasFirst = waiter === this.#first;
    this.#unlink(waiter);
    if (wasFirst) this.#arm();
  }

  /** Whether nobody waits and it is as good as a new one. `at`: whole microseconds of the clock. */
  isIdle(at: number): boolean {
    if (this.#first !== undefined || at < this.#backlogUntil) return false;
    return (this.#bytes?.isFull(at) ?? true) && (this.#messages?.isFull(at) ?? true);
  }

  /** Reads the clock, and gives up our lag where no backlog excuses it. */
  #observe(): number {
    const now = Math.max(this.#time, microseconds(this.#clock.now()));
    const lag = this.#first !== undefined || now < this.#backlogUntil ? LONGEST_LAG : 0;
    this.#time = Math.max(this.#time, now - lag);
    return now;
  }

  /** When the chunk can go, in our time. */
  #due({ bytes, messages }: Pick<Waiter, "bytes" | "messages">): number {
    const forBytes = this.#bytes === undefined ? 0 : this.#bytes.wait(bytes, this.#time);
    const forMessages = this.#messages === undefined ? 0 : this.#messages.wait(messages, this.#time);
    return this.#time + Math.max(forBytes, forMessages);
  }

  #serve(chunk: Pick<Waiter, "bytes" | "messages">, now: number): boolean {
    const due = this.#due(chunk);
    if (due > now) return false;
    this.#time = due;
    this.#bytes?.take(chunk.bytes, due);
    this.#messages?.take(chunk.messages, due);
    return true;
  }

  #enqueue(waiter: Waiter): void {
    this.#waiters ??= new Map();
    this.#waiters.set(waiter.resume, waiter);
    if (this.#last === undefined) this.#first = waiter;
    else this.#last.behind = waiter;
    this.#last = waiter;
    if (waiter === this.#first) this.#arm();
  }

  #unlink(waiter: Waiter): void {
    this.#waiters?.delete(waiter.resume);
    if (waiter.before === undefined) this.#first = waiter.behind;
    else waiter.before.behind = waiter.behind;
    if (waiter.behind === undefined) this.#last = waiter.before;
    else waiter.behind.before = waiter.before;
    if (this.#first === undefined) this.#waiters = undefined; // an idle throttle holds no table
  }

  /** Sets the one timer to when the first waiter can go; none waits: no timer. */
  #arm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#first === undefined) return;
    const delay = Math.max(0, this.#due(this.#first) / 1000 - this.#clock.now());
    this.#timer = this.#clock.after(delay, () => this.#drain());
  }

  /** Serves who can go: at most those who waited when it began, so that no one holds the event loop. */
  #drain(): void {
    const now = this.#observe();
    try {
      for (let turns = this.#waiters?.size ?? 0; turns > 0; turns--) {
        const waiter = this.#first;
        if (waiter === undefined || !this.#serve(waiter, now)) break;
        this.#backlogUntil = now + BACKLOG_GRACE;
        this.#unlink(waiter);
        waiter.resume();
      }
    } finally {
      this.#arm(); // a waiter that throws must not strand the others
    }
  }
}
