import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Bucket as Arithmetic, microseconds } from "../../src/policy/bucket.ts";

/** One bucket: its two numbers, and the arithmetic under test. */
class Bucket {
  readonly #of: Arithmetic;
  #level: number;
  #at: number;

  constructor(rate: { perSecond: number; burst: number }, at: number) {
    this.#of = new Arithmetic(rate);
    this.#level = this.#of.full;
    this.#at = at;
  }
  wait(n: number, now: number): number {
    this.#level = this.#of.refilled(this.#level, { from: this.#at, to: now });
    this.#at = Math.max(this.#at, now);
    const lacking = this.#of.lacking(this.#level, n);
    return lacking <= 0 ? 0 : this.#at + this.#of.wait(lacking, this.#at) - now;
  }
  take(n: number, now: number): number {
    const wait = this.wait(n, now);
    if (wait === 0) this.#level -= this.#of.cost(n);
    return wait;
  }
  isFull(now: number): boolean {
    return this.#of.refilled(this.#level, { from: this.#at, to: now }) >= this.#of.full;
  }
}

/** The same bucket in numbers that have no end: millionths of tokens, microseconds (whole milliseconds for a very large burst). */
class Model {
  readonly #rate: bigint;
  readonly #full: bigint;
  readonly #tick: bigint;
  #level: bigint;
  #at: bigint;

  constructor(rate: { perSecond: number; burst: number }, at: number) {
    this.#rate = BigInt(rate.perSecond);
    this.#full = BigInt(rate.burst) * 1_000_000n;
    this.#tick = rate.burst > 2 ** 32 ? 1000n : 1n;
    this.#level = this.#full;
    this.#at = this.#floor(at);
  }
  #floor(at: number): bigint {
    return (BigInt(at) / this.#tick) * this.#tick;
  }
  take(n: number, now: number): number {
    const at = this.#floor(now);
    if (at > this.#at) {
      this.#level += (at - this.#at) * this.#rate;
      if (this.#level > this.#full) this.#level = this.#full;
      this.#at = at;
    }
    const asked = BigInt(n) * 1_000_000n;
    const lacking = (asked < this.#full ? asked : this.#full) - this.#level;
    if (lacking <= 0n) {
      this.#level -= asked;
      return 0;
    }
    const each = this.#rate * this.#tick;
    return Number(this.#at + ((lacking + each - 1n) / each) * this.#tick - BigInt(now));
  }
}

const amount = fc.oneof(
  fc.integer({ min: 1, max: 10 }),
  fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  fc.constantFrom(1, 3, 7, 999, 1000, 1001, 65_521, 1_000_003, 2 ** 31, 2 ** 32 - 1, 2 ** 32),
);
const units = fc.oneof(amount, fc.constantFrom(2 ** 32 + 1, 2 ** 36 + 7, 2 ** 40 - 1, 2 ** 40));
const pause = fc.oneof(
  fc.constantFrom(0, 0.000_25, 0.25, 0.999, 1, 1.5, 1000, 3_600_000, 31_536_000_000),
  fc.double({ min: 0, max: 5_000, noNaN: true }),
  fc.constantFrom(-0.5, -1, -100_000), // a clock that goes back
);

describe("a bucket", () => {
  test("is exact against a model without rounding, at any rate, uptime and schedule", () => {
    const step = fc.tuple(pause, amount, fc.boolean());
    fc.assert(
      fc.property(units, units, fc.array(step, { maxLength: 60 }), (perSecond, burst, steps) => {
        let at = microseconds(100_012.753_9);
        const bucket = new Bucket({ perSecond, burst }, at);
        const model = new Model({ perSecond, burst }, at);
        for (const [ms, n, patient] of steps) {
          at = Math.max(0, at + microseconds(ms));
          const wait = bucket.take(n, at);
          expect(wait).toBe(model.take(n, at));
          if (!patient || wait === 0 || at + wait > 2 ** 52) continue; // 142 years of uptime must do
          at += wait;
          expect(bucket.take(n, at)).toBe(0);
          expect(model.take(n, at)).toBe(0);
        }
      }),
      { numRuns: 5000 },
    );
  });

  test("names the shortest wait: a moment earlier is too early, then it is enough", () => {
    fc.assert(
      fc.property(units, amount, amount, (perSecond, burst, n) => {
        const bucket = new Bucket({ perSecond, burst }, 0);
        bucket.take(burst, 0);
        const wait = bucket.wait(n, 0);
        expect(wait).toBeGreaterThan(0);
        expect(bucket.take(n, wait - 1)).toBe(1);
        expect(bucket.take(n, wait)).toBe(0);
      }),
      { numRuns: 3000 },
    );
  });

  test.each([
    [1, 1],
    [3, 7],
    [7, 2],
    [99_991, 13],
    [10 * 2 ** 20, 20 * 2 ** 20],
    [2 ** 40 - 1, 2 ** 32],
  ])("gives %d a second to the last token (burst %d) however oddly it is asked, also after a year", (perSecond, burst) => {
    const begin = microseconds(365 * 86_400_000 + 0.123);
    const bucket = new Bucket({ perSecond, burst }, 0);
    expect(bucket.take(burst, begin)).toBe(0);
    const most = Math.ceil(Math.min(burst, perSecond / 100) / 2); // so that it is never full, where tokens would go by
    let at = begin;
    let taken = 0;
    for (let turn = 0; turn < 1_000_000; turn++) {
      const n = 1 + ((turn * 7919) % most);
      at += bucket.wait(n, at);
      if (at > begin + 10_000_000) break;
      if (bucket.take(n, at) === 0) taken += n;
    }
    expect(taken).toBeLessThanOrEqual(10 * perSecond);
    expect(taken).toBeGreaterThan(10 * perSecond - most - 1);
  });

  test("gives more than its burst when it is full, and then waits for the debt", () => {
    const bucket = new Bucket({ perSecond: 100, burst: 10 }, 0);
    expect(bucket.take(25, 0)).toBe(0);
    expect(bucket.take(1, 0)).toBe(160_000); // 15 owed and 1 wanted, at 100 a second
    expect(bucket.take(25, 0)).toBe(250_000); // again only when it is full
    expect(bucket.isFull(249_999)).toBe(false);
    expect(bucket.isFull(250_000)).toBe(true);
    expect(bucket.take(25, 250_000)).toBe(0);
  });

  test("takes nothing when it cannot give all", () => {
    const bucket = new Bucket({ perSecond: 10, burst: 10 }, 0);
    bucket.take(6, 0);
    for (let turn = 0; turn < 100; turn++) expect(bucket.take(5, 0)).toBe(100_000);
    expect(bucket.take(4, 0)).toBe(0);
  });

  test("takes no harm from time that goes back, and gains nothing by it", () => {
    const bucket = new Bucket({ perSecond: 1000, burst: 10 }, 5_000);
    bucket.take(10, 5_000);
    for (let turn = 0; turn < 100; turn++) {
      expect(bucket.take(1, 0)).toBe(6_000);
      expect(bucket.take(1, 5_000)).toBe(1_000);
    }
    expect(bucket.take(1, 6_000)).toBe(0);
  });

  test("serves a burst that comes back many times within a millisecond", () => {
    const bucket = new Bucket({ perSecond: 1_000_000, burst: 10 }, 0);
    let given = 0;
    for (let at = 0; at < 1_000; at += 10) if (bucket.take(10, at) === 0) given += 10;
    expect(given).toBe(1_000);
  });
});
