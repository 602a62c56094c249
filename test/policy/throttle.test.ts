import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Clock } from "../../src/base/clock.ts";
import { Bucket, microseconds } from "../../src/policy/bucket.ts";
import type { Limits, Rate } from "../../src/policy/rule.ts";
import { BucketThrottle, type Lane, unlimited } from "../../src/policy/throttle.ts";
import { FakeClock } from "../support/fake-clock.ts";

/** A sequence that is the same in every run. */
function sequence(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** A lane for one throttle, full at `clock`'s now. */
function laneAt(clock: Clock, { bytes, messages }: { bytes?: Bucket | undefined; messages?: Bucket | undefined }): Lane {
  const numbers = Float64Array.of(microseconds(clock.now()), bytes?.full ?? 0, messages?.full ?? 0);
  return { numbers, at: 0, words: new Int32Array(1), graceAt: 0, hold: () => {}, leave: () => {} };
}

function throttleOf(clock: Clock, limits: Pick<Limits, "bytes" | "messages">): BucketThrottle {
  const buckets = { bytes: limits.bytes && new Bucket(limits.bytes), messages: limits.messages && new Bucket(limits.messages) };
  return new BucketThrottle({ clock, lane: laneAt(clock, buckets), ...buckets });
}

/** `clock`, whose timers fire at whole milliseconds and late by up to `lateMs`, as on a busy machine. */
function lateClock(clock: FakeClock, { lateMs, random }: { lateMs: number; random: () => number }): Clock {
  return {
    wall: () => clock.wall(),
    now: () => clock.now(),
    soon: (act) => clock.soon(act),
    after: (ms, act) => clock.after(Math.max(1, Math.ceil(ms)) + random() * lateMs, act),
  };
}

interface Source {
  bytes: number;
  chunks: number;
}

/** A pipe that always has a chunk: the next comes `gapMs` after the last one went. */
function flood(throttle: BucketThrottle, options: { clock: FakeClock; size: () => number; gapMs: number; messages?: number }): Source {
  const source: Source = { bytes: 0, chunks: 0 };
  let held = 0;
  const went = (): void => {
    source.bytes += held;
    source.chunks++;
    options.clock.after(options.gapMs, offer);
  };
  const offer = (): void => {
    held = options.size();
    if (throttle.admit(held, options.messages ?? 0, went)) went();
  };
  offer();
  return source;
}

const KiB = 1024;
const MiB = 1024 * KiB;

describe("a throttle", () => {
  test.each<[string, Rate, { pipes: number; lateMs: number; gapMs: number; seconds?: number }]>([
    ["64 KiB/s, small burst", { perSecond: 64 * KiB, burst: 64 * KiB }, { pipes: 1, lateMs: 15, gapMs: 0.05 }],
    ["1 MiB/s, burst of one chunk", { perSecond: MiB, burst: 64 * KiB }, { pipes: 1, lateMs: 20, gapMs: 0.05 }],
    ["1 MiB/s, 10 pipes", { perSecond: MiB, burst: 2 * MiB }, { pipes: 10, lateMs: 20, gapMs: 0.05 }],
    ["10 MiB/s, very late timers", { perSecond: 10 * MiB, burst: 128 * KiB }, { pipes: 3, lateMs: 200, gapMs: 0.1 }],
    ["100 MiB/s, burst of one chunk", { perSecond: 100 * MiB, burst: 64 * KiB }, { pipes: 1, lateMs: 10, gapMs: 0.05 }],
    ["100 MiB/s, 20 pipes", { perSecond: 100 * MiB, burst: 100 * MiB }, { pipes: 20, lateMs: 10, gapMs: 0.05 }],
    ["1 MiB/s, chunks over the burst", { perSecond: MiB, burst: 4 * KiB }, { pipes: 2, lateMs: 20, gapMs: 0.05 }],
    ["1 MB/s odd", { perSecond: 999_983, burst: 65_537 }, { pipes: 7, lateMs: 5, gapMs: 0.3 }],
  ])("holds %s within 2 %% over ten seconds", (_name, rate, { pipes, lateMs, gapMs }) => {
    const clock = new FakeClock();
    const random = sequence(7);
    const throttle = throttleOf(lateClock(clock, { lateMs, random }), { bytes: rate });
    const size = (): number => 16 * KiB + Math.floor(random() * 48 * KiB);
    const sources = Array.from({ length: pipes }, () => flood(throttle, { clock, size, gapMs }));
    const total = (): number => sources.reduce((sum, source) => sum + source.bytes, 0);
    clock.advance(1_000 + (rate.burst / rate.perSecond) * 1_000); // the burst is gone
    const before = total();
    clock.advance(10_000);
    const given = (total() - before) / (10 * rate.perSecond);
    // A slow rate gives few chunks: the one under way at either end of the measure counts for itself.
    const chunk = (64 * KiB) / (10 * rate.perSecond);
    expect(given).toBeGreaterThan(0.98 - (rate.perSecond < MiB ? chunk : 0));
    expect(given).toBeLessThan(1.02 + (rate.perSecond < MiB ? chunk : 0));
    expect(clock.waiting).toBeLessThanOrEqual(pipes + 1); // one timer of its own
  });

  test("holds 200 identities to their own rates at once", () => {
    const clock = new FakeClock();
    const random = sequence(3);
    const late = lateClock(clock, { lateMs: 12, random });
    const all = Array.from({ length: 200 }, (_, index) => {
      const perSecond = 256 * KiB + index * 8 * KiB;
      const throttle = throttleOf(late, { bytes: { perSecond, burst: perSecond } });
      return { perSecond, source: flood(throttle, { clock, size: () => 16 * KiB, gapMs: 0.1 }) };
    });
    clock.advance(1_500);
    const before = all.map(({ source }) => source.bytes);
    clock.advance(10_000);
    all.forEach(({ perSecond, source }, index) => {
      const given = (source.bytes - before[index]!) / (10 * perSecond);
      expect(Math.abs(given - 1), `${perSecond} bytes a second`).toBeLessThan(0.02);
    });
  });

  test("never gives more than the burst and the rate, whatever comes when, and calls everyone once in the order of coming", () => {
    const offer = fc.record({
      pauseMs: fc.double({ min: 0, max: 40, noNaN: true }),
      bytes: fc.integer({ min: 0, max: 3_000 }),
      messages: fc.integer({ min: 0, max: 1 }),
      cancels: fc.option(fc.nat(50), { freq: 6 }),
    });
    const rate = fc.record({ perSecond: fc.integer({ min: 1_000, max: 200_000 }), burst: fc.integer({ min: 1, max: 5_000 }) });
    const messageRate = fc.record({ perSecond: fc.integer({ min: 20, max: 1_000 }), burst: fc.integer({ min: 1, max: 20 }) });
    fc.assert(
      fc.property(fc.array(offer, { maxLength: 50 }), rate, messageRate, fc.nat(30), (offers, bytes, messages, lateMs) => {
        const clock = new FakeClock();
        const throttle = throttleOf(lateClock(clock, { lateMs, random: sequence(lateMs) }), { bytes, messages });
        const waiting: { order: number; resume: () => void }[] = [];
        const served: number[] = [];
        let given = { bytes: 0, messages: 0 };
        let largest = 0;
        const count = (size: { bytes: number; messages: number }): void => {
          given = { bytes: given.bytes + size.bytes, messages: given.messages + size.messages };
          largest = Math.max(largest, size.bytes);
          const seconds = clock.now() / 1000;
          expect(given.bytes).toBeLessThanOrEqual(bytes.burst + largest + bytes.perSecond * seconds);
          expect(given.messages).toBeLessThanOrEqual(messages.burst + messages.perSecond * seconds);
        };
        offers.forEach((size, order) => {
          clock.advance(size.pauseMs);
          const resume = (): void => {
            expect(waiting.shift()?.order).toBe(order);
            served.push(order);
            count(size);
          };
          if (throttle.admit(size.bytes, size.messages, resume)) {
            expect(waiting).toEqual([]);
            count(size);
          } else waiting.push({ order, resume });
          if (size.cancels === null || waiting.length === 0) return;
          const [gone] = waiting.splice(size.cancels % waiting.length, 1);
          throttle.cancel(gone!.resume);
          throttle.cancel(gone!.resume);
        });
        clock.advance(3_600_000);
        expect(waiting).toEqual([]);
        expect(new Set(served).size).toBe(served.length);
        expect(clock.waiting).toBe(0);
        expect(throttle.idleFrom()).toBeLessThanOrEqual(clock.now() * 1000);
      }),
      { numRuns: 500 },
    );
  });

  test("lets pipes take turns: one with large chunks and many do not starve one that comes late", () => {
    const clock = new FakeClock();
    const throttle = throttleOf(clock, { bytes: { perSecond: MiB, burst: 64 * KiB } });
    const many = Array.from({ length: 30 }, () => flood(throttle, { clock, size: () => 16 * KiB, gapMs: 0 }));
    clock.advance(3_000);
    const late = flood(throttle, { clock, size: () => 16 * KiB, gapMs: 0 });
    const before = many.map((source) => source.chunks);
    clock.advance(10_000);
    const turns = many.map((source, index) => source.chunks - before[index]!);
    expect(late.chunks).toBeGreaterThan(15);
    for (const count of turns) expect(Math.abs(count - late.chunks)).toBeLessThanOrEqual(1);
  });

  test("gives several pipes of small messages their rate, though a timer fires once a millisecond and each holds one message", () => {
    const clock = new FakeClock();
    const throttle = throttleOf(lateClock(clock, { lateMs: 0, random: () => 0 }), { messages: { perSecond: 20_000, burst: 500 } });
    const sources = [0, 1].map(() => {
      const source = { chunks: 0 };
      const went = (): void => {
        source.chunks++;
        offer();
      };
      const offer = (): void => {
        while (throttle.admit(0, 1, went)) source.chunks++;
      };
      offer();
      return source;
    });
    clock.advance(1_000);
    const [one, other] = sources.map(({ chunks }) => chunks) as [number, number];
    expect(one + other).toBeGreaterThan(20_000);
    expect(one + other).toBeLessThanOrEqual(20_501);
    expect(Math.abs(one - other)).toBeLessThan(700); // the burst, which one of them took
  });

  test("takes bytes and messages together: who lacks either takes neither", () => {
    const clock = new FakeClock();
    const throttle = throttleOf(clock, { bytes: { perSecond: 1_000, burst: 1_000 }, messages: { perSecond: 1, burst: 1 } });
    const served: string[] = [];
    expect(throttle.admit(100, 1, () => served.push("a"))).toBe(true);
    expect(throttle.admit(100, 1, () => served.push("b"))).toBe(false); // lacks a message
    clock.advance(999);
    expect(served).toEqual([]);
    clock.advance(1);
    expect(served).toEqual(["b"]);
    expect(throttle.admit(900, 0, () => served.push("c"))).toBe(true); // 1,000 refilled while b waited, 100 for b
    expect(throttle.admit(1, 0, () => served.push("d"))).toBe(false);
    clock.advance(1);
    expect(served).toEqual(["b", "d"]);
  });

  test("with only messages limited lets bytes without an end pass", () => {
    const throttle = throttleOf(new FakeClock(), { messages: { perSecond: 1, burst: 1 } });
    for (let turn = 0; turn < 100; turn++) expect(throttle.admit(MiB, 0, () => {})).toBe(true);
    expect(throttle.admit(1, 1, () => {})).toBe(true);
    expect(throttle.admit(1, 1, () => {})).toBe(false);
  });

  test("admits one chunk larger than its burst and waits for the debt", () => {
    const clock = new FakeClock();
    const throttle = throttleOf(clock, { bytes: { perSecond: 1_000, burst: 100 } });
    let served = 0;
    expect(throttle.admit(1_100, 0, () => {})).toBe(true);
    expect(throttle.admit(100, 0, () => served++)).toBe(false);
    clock.advance(1_099);
    expect(served).toBe(0);
    clock.advance(1);
    expect(served).toBe(1);
  });

  test("forgets who was cancelled, at the head, in the middle and at the end, and costs the others nothing", () => {
    const clock = new FakeClock();
    const throttle = throttleOf(clock, { bytes: { perSecond: 1_000, burst: 1_000 } });
    const served: string[] = [];
    const resumes = ["a", "b", "c", "d", "e"].map((name) => () => void served.push(`${name} ${clock.now()}`));
    throttle.admit(1_000, 0, () => {});
    const sizes = [1_000, 100, 500, 200, 700];
    resumes.forEach((resume, index) => expect(throttle.admit(sizes[index]!, 0, resume)).toBe(false));
    throttle.cancel(resumes[0]!); // a: its second of waiting is not for b to sit out
    throttle.cancel(resumes[2]!);
    throttle.cancel(resumes[4]!);
    throttle.cancel(() => {});
    clock.advance(10_000);
    expect(served).toEqual(["b 100", "d 300"]);
    expect(clock.waiting).toBe(0);
    expect(throttle.admit(1_000, 0, () => {})).toBe(true);
  });

  test("holds no timer when the last waiter is cancelled", () => {
    const clock = new FakeClock();
    const throttle = throttleOf(clock, { bytes: { perSecond: 1, burst: 1 } });
    const resume = (): void => {};
    throttle.admit(1, 0, () => {});
    throttle.admit(1, 0, resume);
    expect(clock.waiting).toBe(1);
    throttle.cancel(resume);
    expect(clock.waiting).toBe(0);
  });

  test("lets a waiter cancel others, itself and come again from within its call", () => {
    const clock = new FakeClock();
    const throttle = throttleOf(clock, { bytes: { perSecond: 1_000, burst: 100 } });
    const served: string[] = [];
    const second = (): void => void served.push("second");
    const third = (): void => void served.push("third");
    const first = (): void => {
      served.push("first");
      throttle.cancel(first);
      throttle.cancel(second);
      if (served.length < 3) throttle.admit(100, 0, first);
    };
    throttle.admit(100, 0, () => {});
    for (const resume of [first, second, third]) throttle.admit(100, 0, resume);
    clock.advance(1_000);
    expect(served).toEqual(["first", "third", "first"]);
    expect(clock.waiting).toBe(0);
  });

  test("strands nobody when a waiter throws", () => {
    const clock = new FakeClock();
    const throttle = throttleOf(clock, { bytes: { perSecond: 1_000, burst: 1_000 } });
    let served = 0;
    throttle.admit(1_000, 0, () => {});
    throttle.admit(10, 0, () => {
      throw new Error("as planned");
    });
    throttle.admit(10, 0, () => served++);
    expect(() => clock.advance(10)).toThrow("as planned");
    clock.advance(10);
    expect(served).toBe(1);
  });

  test("after a pause gives its burst and no more, however long the backlog before was", () => {
    const clock = new FakeClock();
    const throttle = throttleOf(lateClock(clock, { lateMs: 50, random: sequence(1) }), {
      bytes: { perSecond: 100_000, burst: 1_000 },
    });
    for (let turn = 0; turn < 100; turn++) throttle.admit(1_000, 0, () => {});
    clock.advance(60_000);
    let given = 0;
    while (throttle.admit(100, 0, () => {})) given += 100;
    expect(given).toBe(1_000);
  });

  test("is not idle while it may still make up for its lateness, though its bucket is full", () => {
    const clock = new FakeClock();
    const late: Clock = { wall: () => 0, now: () => clock.now(), soon: () => {}, after: (ms, act) => clock.after(ms + 500, act) };
    const throttle = throttleOf(late, { bytes: { perSecond: 1_000, burst: 10 } });
    const admits = (): boolean => throttle.admit(10, 0, () => {});
    expect([admits(), admits()]).toEqual([true, false]);
    clock.advance(510 + 20); // served half a second late, and full again since
    expect(throttle.idleFrom()).toBeGreaterThan(530_000);
    expect([admits(), admits(), admits()]).toEqual([true, true, true]);
    clock.advance(1_000);
    expect(throttle.idleFrom()).toBeLessThanOrEqual(1_530_000);
  });

  test("makes up for its own lateness by a second at most", () => {
    const clock = new FakeClock();
    const asleep: Clock = { wall: () => 0, now: () => clock.now(), soon: () => {}, after: (ms, act) => clock.after(ms + 60_000, act) };
    const throttle = throttleOf(asleep, { bytes: { perSecond: 1_000, burst: 10 } });
    throttle.admit(10, 0, () => {});
    let given = 0;
    for (let turn = 0; turn < 5_000; turn++) throttle.admit(1, 0, () => given++);
    clock.advance(60_001);
    expect(given).toBeGreaterThan(990);
    expect(given).toBeLessThanOrEqual(1_010);
  });

  test("without a limit lets everything pass", () => {
    expect(unlimited.admit(2 ** 40, 1, () => {})).toBe(true);
    unlimited.cancel(() => {});
    expect(Object.isFrozen(unlimited)).toBe(true);
  });
});
