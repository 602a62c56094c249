/**
 * What holds the pipes of one identity in one direction to its bytes and messages per second: chunks wait, nothing is dropped.
 * Promises: both buckets are taken together or not at all; who waits is served in the order of coming, so that pipes take turns
 * chunk by chunk and none starves; one timer; a backlog gets its rate exactly, however late timers fire.
 * Leaves to others: holding the chunk (one for each waiter) and pausing its source; where the buckets stand (a `Lane`).
 *
 * While a backlog lasts the lane lives in a time of its own that stands where the last chunk was due, not where a late timer found
 * it: so the buckets never overflow for our lateness. That time lags by 1 s at most, and is given up once nobody waited for 100 ms.
 *
 * Threads may share a lane. The first who waits in a thread has its tokens already: it took them from the time when they will be
 * there, which the lane's time then is, so that whoever comes later, in whichever thread, comes after it.
 */
import type { Clock, Timer } from "../base/clock.ts";
import { type Bucket, microseconds } from "./bucket.ts";

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

/** The state of the two buckets, which other throttles may share. Nothing but a throttle that holds it touches it. */
export interface Lane {
  /** Three from `at` on: its own time, and what the buckets for bytes and for messages held then. */
  readonly numbers: Float64Array;
  readonly at: number;
  /** The one at `graceAt`: for how long after its own time it is not given up. */
  readonly words: Int32Array;
  readonly graceAt: number;
  hold(): void;
  leave(): void;
}

export interface ThrottleOptions {
  readonly clock: Clock;
  readonly lane: Lane;
  readonly bytes?: Bucket | undefined;
  readonly messages?: Bucket | undefined;
}

interface Waiter {
  readonly resume: () => void;
  readonly bytes: number;
  readonly messages: number;
  before: Waiter | undefined;
  behind: Waiter | undefined;
}

type Chunk = Pick<Waiter, "bytes" | "messages">;

/** What the first waiter has taken: the lane's numbers and grace before, its numbers after. */
interface Booking {
  readonly due: number;
  readonly before: readonly number[];
  readonly grace: number;
  readonly after: readonly number[];
}

// Microseconds, like all times here.
const LONGEST_LAG = 1_000_000;
const BACKLOG_GRACE = 100_000;
/** Timers fire once in one or two milliseconds: with fewer, two pipes of small messages would get two of them in that time, whatever their rate. */
const LEAST_TURNS = 256;

export class BucketThrottle implements Throttle {
  readonly #clock: Clock;
  readonly #lane: Lane;
  readonly #bytes: Bucket | undefined;
  readonly #messages: Bucket | undefined;
  #waiters: Map<() => void, Waiter> | undefined;
  #first: Waiter | undefined;
  #last: Waiter | undefined;
  /** Of the first waiter. */
  #booking: Booking | undefined;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor({ clock, lane, bytes, messages }: ThrottleOptions) {
    this.#clock = clock;
    this.#lane = lane;
    this.#bytes = bytes;
    this.#messages = messages;
  }

  admit(bytes: number, messages: number, resume: () => void): boolean {
    if (this.#isClosed) return false;
    if (this.#first === undefined && this.#takeNow(bytes, messages)) return true;
    this.#enqueue({ resume, bytes, messages, before: this.#last, behind: undefined });
    return false;
  }

  cancel(resume: () => void): void {
    const waiter = this.#waiters?.get(resume);
    if (waiter === undefined) return;
    const wasFirst = waiter === this.#first;
    if (wasFirst) this.#unbook(waiter);
    this.#unlink(waiter);
    if (!wasFirst) return;
    this.#book({ lags: this.#first !== undefined });
    this.#arm();
  }

  /** Nobody may pass any more: another account may have the lane by now. Who waits is never called. */
  close(): void {
    this.#isClosed = true;
    if (this.#first !== undefined) this.#unbook(this.#first);
    this.#first = this.#last = this.#waiters = undefined;
    this.#arm();
  }

  /** From when on the lane is as good as a new one, if nobody takes from it; asked by who holds the lane. */
  idleFrom(): number {
    if (this.#first !== undefined) return Infinity;
    const { numbers, at, words, graceAt } = this.#lane;
    const time = numbers[at]!;
    const forBytes = this.#bytes === undefined ? 0 : this.#bytes.wait(this.#bytes.full - numbers[at + 1]!, time);
    const forMessages = this.#messages === undefined ? 0 : this.#messages.wait(this.#messages.full - numbers[at + 2]!, time);
    return time + Math.max(forBytes, forMessages, words[graceAt]!);
  }

  #now(): number {
    return microseconds(this.#clock.now());
  }

  #takeNow(bytes: number, messages: number): boolean {
    const now = this.#now();
    this.#lane.hold();
    this.#observe(now, false);
    const due = this.#due(bytes, messages);
    if (due <= now) this.#take({ bytes, messages, due });
    this.#lane.leave();
    return due <= now;
  }

  /** Takes what the first waiter needs, from the time when it will be there. */
  #book({ lags }: { readonly lags: boolean }): void {
    this.#booking = undefined;
    if (this.#first === undefined) return;
    const { numbers, at, words, graceAt } = this.#lane;
    const { bytes, messages } = this.#first;
    const now = this.#now();
    this.#lane.hold();
    this.#observe(now, lags);
    const due = this.#due(bytes, messages);
    const grace = words[graceAt]!;
    const before = [numbers[at]!, numbers[at + 1]!, numbers[at + 2]!];
    this.#take({ bytes, messages, due });
    words[graceAt] = Math.max(words[graceAt]!, BACKLOG_GRACE); // for what other threads will see of our lateness
    this.#booking = { due, before, grace, after: [numbers[at]!, numbers[at + 1]!, numbers[at + 2]!] };
    this.#lane.leave();
  }

  /** Gives back what was booked: without a trace, but where another thread has booked behind it, which then comes later than it need. */
  #unbook({ bytes, messages }: Waiter): void {
    const { numbers, at, words, graceAt } = this.#lane;
    const { before, grace, after } = this.#booking!;
    this.#lane.hold();
    if (after.every((number, index) => numbers[at + index] === number)) {
      numbers.set(before, at);
      words[graceAt] = grace;
    } else {
      if (this.#bytes !== undefined) numbers[at + 1] = Math.min(this.#bytes.full, numbers[at + 1]! + this.#bytes.cost(bytes));
      if (this.#messages !== undefined) numbers[at + 2] = Math.min(this.#messages.full, numbers[at + 2]! + this.#messages.cost(messages));
    }
    this.#lane.leave();
  }

  /** Gives up the lane's lag where no backlog excuses it. */
  #observe(now: number, lags: boolean): void {
    const { numbers, at, words, graceAt } = this.#lane;
    const isExcused = lags || now < numbers[at]! + words[graceAt]!;
    this.#advance(now - (isExcused ? LONGEST_LAG : 0));
  }

  #advance(to: number): void {
    const { numbers, at, words, graceAt } = this.#lane;
    const from = numbers[at]!;
    if (to <= from) return;
    if (this.#bytes !== undefined) numbers[at + 1] = this.#bytes.refilled(numbers[at + 1]!, { from, to });
    if (this.#messages !== undefined) numbers[at + 2] = this.#messages.refilled(numbers[at + 2]!, { from, to });
    words[graceAt] = Math.max(0, words[graceAt]! - (to - from));
    numbers[at] = to;
  }

  /** When the chunk can go, in the lane's time. */
  #due(bytes: number, messages: number): number {
    const { numbers, at } = this.#lane;
    const time = numbers[at]!;
    const forBytes = this.#bytes === undefined ? 0 : this.#bytes.wait(this.#bytes.lacking(numbers[at + 1]!, bytes), time);
    const forMessages = this.#messages === undefined ? 0 : this.#messages.wait(this.#messages.lacking(numbers[at + 2]!, messages), time);
    return time + Math.max(forBytes, forMessages);
  }

  #take({ bytes, messages, due }: Chunk & { readonly due: number }): void {
    const { numbers, at } = this.#lane;
    this.#advance(due);
    if (this.#bytes !== undefined) numbers[at + 1]! -= this.#bytes.cost(bytes);
    if (this.#messages !== undefined) numbers[at + 2]! -= this.#messages.cost(messages);
  }

  #enqueue(waiter: Waiter): void {
    this.#waiters ??= new Map();
    this.#waiters.set(waiter.resume, waiter);
    if (this.#last !== undefined) this.#last.behind = waiter;
    this.#last = waiter;
    if (this.#first !== undefined) return;
    this.#first = waiter;
    this.#book({ lags: false });
    this.#arm();
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
    const delay = Math.max(0, this.#booking!.due / 1000 - this.#clock.now());
    this.#timer = this.#clock.after(delay, () => this.#drain());
  }

  /** Serves who can go: at most those who waited when it began, or as many turns as a timer has to make up for, so that no one holds the event loop. */
  #drain(): void {
    const now = this.#now();
    if (this.#first !== undefined && now > this.#booking!.due + LONGEST_LAG) {
      this.#unbook(this.#first); // too late to be made up for
      this.#book({ lags: true });
    }
    try {
      for (let turns = Math.max(this.#waiters?.size ?? 0, LEAST_TURNS); turns > 0; turns--) {
        const waiter = this.#first;
        if (waiter === undefined || this.#booking!.due > now) break;
        this.#unlink(waiter);
        this.#excuse(now);
        this.#book({ lags: true });
        waiter.resume();
      }
    } finally {
      this.#arm(); // a waiter that throws must not strand the others
    }
  }

  /** There was a backlog until now. */
  #excuse(now: number): void {
    const { numbers, at, words, graceAt } = this.#lane;
    this.#lane.hold();
    words[graceAt] = Math.max(words[graceAt]!, now - numbers[at]! + BACKLOG_GRACE);
    this.#lane.leave();
  }
}
