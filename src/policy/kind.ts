/**
 * What the accounts of one rule have in common: the arithmetic of its buckets, applied to the record that `Accounts` has in hand.
 * Promises: a record is filled, charged and settled by the same buckets in every thread, since equal rules have one seed and so
 * accounts of their own. Leaves to others: the lock of the record (held while any of this runs), what flows in pipes (throttle.ts).
 */
import { type Accounts, connectsNumber, laneNumber, opensNumber, tickNumber } from "./accounts.ts";
import { Bucket } from "./bucket.ts";
import type { Seed } from "./digest.ts";
import type { Limits, Rate } from "./rule.ts";

export class Kind {
  readonly seed: Seed;
  readonly bytes: Bucket | undefined;
  readonly messages: Bucket | undefined;
  readonly #connects: Bucket | undefined;
  readonly #opens: Bucket | undefined;

  constructor({ connects, opens, bytes, messages }: Limits, seed: Seed) {
    this.seed = seed;
    this.#connects = bucketOf(connects);
    this.#opens = bucketOf(opens);
    this.bytes = bucketOf(bytes);
    this.messages = bucketOf(messages);
  }

  /** A new account: every bucket is full. */
  fill({ numbers, number }: Accounts, now: number): void {
    numbers[number + tickNumber] = now;
    numbers[number + connectsNumber] = this.#connects?.full ?? 0;
    numbers[number + opensNumber] = this.#opens?.full ?? 0;
    for (let lane = number + laneNumber; lane < number + laneNumber + 6; lane += 3) {
      numbers[lane] = now;
      numbers[lane + 1] = this.bytes?.full ?? 0;
      numbers[lane + 2] = this.messages?.full ?? 0;
    }
  }

  /** 0: it was taken. Otherwise whole milliseconds to wait. */
  takeConnect(accounts: Accounts, now: number): number {
    this.#refill(accounts, now);
    return this.#connects === undefined ? 0 : take(this.#connects, { accounts, place: accounts.number + connectsNumber, now });
  }

  /** The same for opens. */
  takeOpen(accounts: Accounts, now: number): number {
    this.#refill(accounts, now);
    return this.#opens === undefined ? 0 : take(this.#opens, { accounts, place: accounts.number + opensNumber, now });
  }

  /** Whenever nothing may be open: says when what was taken will have come back. */
  settle(accounts: Accounts): void {
    const { numbers, number } = accounts;
    const tick = numbers[number + tickNumber]!;
    const connects = this.#connects;
    const opens = this.#opens;
    if (connects !== undefined) accounts.idleFrom(tick + connects.wait(connects.full - numbers[number + connectsNumber]!, tick));
    if (opens !== undefined) accounts.idleFrom(tick + opens.wait(opens.full - numbers[number + opensNumber]!, tick));
  }

  /** Both share a tick. */
  #refill({ numbers, number }: Accounts, to: number): void {
    const from = numbers[number + tickNumber]!;
    if (to <= from) return;
    if (this.#connects !== undefined)
      numbers[number + connectsNumber] = this.#connects.refilled(numbers[number + connectsNumber]!, { from, to });
    if (this.#opens !== undefined) numbers[number + opensNumber] = this.#opens.refilled(numbers[number + opensNumber]!, { from, to });
    numbers[number + tickNumber] = to;
  }
}

function bucketOf(rate: Rate | undefined): Bucket | undefined {
  return rate && new Bucket(rate);
}

/** The tick may be later than now where another thread's clock is a moment ahead. */
function take(
  bucket: Bucket,
  { accounts, place, now }: { readonly accounts: Accounts; readonly place: number; readonly now: number },
): number {
  const { numbers, number } = accounts;
  const lacking = bucket.lacking(numbers[place]!, 1);
  if (lacking > 0) {
    const tick = numbers[number + tickNumber]!;
    return Math.ceil((tick + bucket.wait(lacking, tick) - now) / 1000);
  }
  numbers[place]! -= bucket.cost(1);
  return 0;
}
