import fc from "fast-check";
import { expect, test } from "vitest";
import { Holder } from "../../src/policy/holder.ts";
import { type Connected, Limiter, limiterMemory, type PipeLease } from "../../src/policy/limiter.ts";
import type { Limits, Rule } from "../../src/policy/rule.ts";
import type { Clock } from "../../src/base/clock.ts";
import { FakeClock } from "../support/fake-clock.ts";

const named = (name: string): Holder => new Holder(`spiffe://dev/${name}`);
const ruleWith = (limits: Limits): Rule => ({ clients: ["*"], targets: ["*"], limits, line: 0 });

/** `clock` with timers of whole milliseconds, as real ones are. */
function coarse(clock: FakeClock): Clock {
  return {
    wall: () => clock.wall(),
    now: () => clock.now(),
    soon: (act) => clock.soon(act),
    after: (ms, act) => clock.after(Math.max(1, Math.ceil(ms)), act),
  };
}

/** What one account is, in the plainest words: microseconds and millionths of a token. */
class Model {
  readonly connects = { rate: 2, level: 3e6, burst: 3e6 };
  readonly opens = { rate: 3, level: 4e6, burst: 4e6 };
  connections = 0;
  pipes = 0;
  at = 0;

  moveTo(at: number): this {
    for (const bucket of [this.connects, this.opens]) bucket.level = Math.min(bucket.burst, bucket.level + (at - this.at) * bucket.rate);
    this.at = at;
    return this;
  }
  take(bucket: Model["connects"]): number {
    const wait = Math.ceil(Math.ceil(Math.max(0, 1e6 - bucket.level) / bucket.rate) / 1000);
    if (wait === 0) bucket.level -= 1e6;
    return wait;
  }
  get isBusy(): boolean {
    return this.connections > 0 || this.pipes > 0 || [this.connects, this.opens].some(({ level, burst }) => level < burst);
  }
}

const capacity = 6;
const acts = ["connect", "disconnect", "open", "close", "charge"] as const;
const step = fc.record({
  pause: fc.constantFrom(0, 1, 250_000, 333_333, 333_334, 500_000, 2_000_000),
  by: fc.nat(2),
  who: fc.nat(9),
  act: fc.constantFrom(...acts),
});

test("limiters on one memory answer as one with plain accounts would, also when there are too few for all", () => {
  const rule = ruleWith({ connects: { perSecond: 2, burst: 3 }, connections: 2, opens: { perSecond: 3, burst: 4 }, pipes: 2 });
  const busy = { ok: false, reason: "rate_limited", retryAfter: 1_000 };
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
      const clock = new FakeClock();
      const memory = limiterMemory(capacity);
      const limiters = [0, 1, 2].map(() => new Limiter({ clock, memory }));
      const models = Array.from({ length: 10 }, () => new Model());
      const seats = models.map((): Connected[] => []);
      const leases = models.map((): PipeLease[] => []);
      let at = 0;
      for (const { pause, by, who, act } of steps) {
        at += pause;
        clock.advance(at / 1000 - clock.now());
        for (const model of models) model.moveTo(Math.floor(clock.now() * 1000));
        const [limiter, model] = [limiters[by]!, models[who]!];
        const isFull = models.filter((other) => other !== model && other.isBusy).length >= capacity;
        if (act === "connect") {
          const answer = limiter.connect(named(`n${who}`), rule);
          const wait = isFull ? 0 : model.take(model.connects);
          if (isFull) expect(answer).toEqual(busy);
          else if (wait > 0) expect(answer).toEqual({ ok: false, reason: "rate_limited", retryAfter: wait });
          else if (model.connections === 2) expect(answer).toMatchObject({ reason: "too_many_connections" });
          else model.connections += seats[who]!.push(answer as Connected) > 0 ? 1 : 0;
        } else if (act === "open") {
          const answer = limiter.openPipe(named(`n${who}`), rule);
          const wait = isFull ? 0 : model.take(model.opens);
          if (isFull) expect(answer).toEqual(busy);
          else if (wait > 0) expect(answer).toEqual({ ok: false, reason: "rate_limited", retryAfter: wait });
          else if (model.pipes === 2) expect(answer).toMatchObject({ reason: "too_many_pipes" });
          else if (!answer.ok) expect.unreachable(answer.reason);
          else model.pipes += leases[who]!.push(answer.lease) > 0 ? 1 : 0;
        } else if (act === "charge") {
          expect(limiter.chargeRefusedOpen(named(`n${who}`), rule)).toBe(isFull ? 1_000 : model.take(model.opens));
        } else {
          const held = act === "close" ? leases[who]!.shift() : seats[who]!.shift();
          held?.release();
          held?.release();
          if (held !== undefined && act === "close") model.pipes--;
          else if (held !== undefined) model.connections--;
        }
        expect(new Set(limiters.map(({ accounts }) => accounts)).size).toBe(1);
        expect(limiters[0]!.accounts).toBeLessThanOrEqual(capacity);
      }
    }),
    { numRuns: 500 },
  );
});

test("throttles of limiters on one memory give the rate in sum, call everyone once, and starve nobody", () => {
  const offer = fc.record({
    pauseMs: fc.double({ min: 0, max: 30, noNaN: true }),
    by: fc.nat(2),
    bytes: fc.integer({ min: 0, max: 2_000 }),
    cancels: fc.option(fc.nat(50), { freq: 6 }),
  });
  const rate = fc.record({ perSecond: fc.integer({ min: 1_000, max: 200_000 }), burst: fc.integer({ min: 1, max: 5_000 }) });
  fc.assert(
    fc.property(fc.array(offer, { maxLength: 60 }), rate, (offers, bytes) => {
      const clock = new FakeClock();
      const memory = limiterMemory(10);
      const leases = [0, 1, 2].map(() => {
        const answer = new Limiter({ clock: coarse(clock), memory }).openPipe(named("bob"), ruleWith({ bytes }));
        if (!answer.ok) throw new Error(answer.reason);
        return answer.lease;
      });
      const waiting = new Map<number, { by: number; resume: () => void }>();
      let given = 0;
      const count = (size: number): void => {
        given += size;
        expect(given).toBeLessThanOrEqual(bytes.burst + 2_000 + (bytes.perSecond * clock.now()) / 1000);
      };
      offers.forEach((one, order) => {
        clock.advance(one.pauseMs);
        const resume = (): void => {
          const mine = [...waiting].filter(([, { by }]) => by === one.by);
          expect(mine[0]?.[0], "in the order of coming within a thread").toBe(order);
          waiting.delete(order);
          count(one.bytes);
        };
        if (leases[one.by]!.inbound.admit(one.bytes, 0, resume)) count(one.bytes);
        else waiting.set(order, { by: one.by, resume });
        if (one.cancels === null || waiting.size === 0) return;
        const [key, gone] = [...waiting][one.cancels % waiting.size]!;
        waiting.delete(key);
        leases[gone.by]!.inbound.cancel(gone.resume);
      });
      clock.advance(3_600_000);
      expect(waiting.size).toBe(0);
      expect(clock.waiting).toBe(0);
      expect(
        leases[0]!.inbound.admit(bytes.burst, 0, () => {}),
        "nothing is owed for ever",
      ).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test("a thread with small chunks does not starve one with large ones, and the rate is held in sum", () => {
  const clock = new FakeClock();
  const memory = limiterMemory(10);
  const given = [0, 0];
  [1_000, 60_000].forEach((size, index) => {
    const answer = new Limiter({ clock: coarse(clock), memory }).openPipe(
      named("bob"),
      ruleWith({ bytes: { perSecond: 1_000_000, burst: 64_000 } }),
    );
    if (!answer.ok) throw new Error(answer.reason);
    const next = (): void => {
      given[index]! += size;
      clock.after(0.01, offer);
    };
    const offer = (): void => {
      if (answer.lease.inbound.admit(size, 0, next)) next();
    };
    offer();
  });
  clock.advance(10_000);
  expect(given[1]).toBeGreaterThan(5_000_000);
  expect(given[0]).toBeGreaterThan(100_000);
  expect(Math.abs(given[0]! + given[1]! - 10_064_000)).toBeLessThan(120_000);
});

test("an account of which a thread has something open is not forgotten by another", () => {
  const clock = new FakeClock();
  const memory = limiterMemory(1);
  const [first, second] = [new Limiter({ clock, memory }), new Limiter({ clock, memory })];
  const rule = ruleWith({ pipes: 1 });
  const open = first.openPipe(named("bob"), rule);
  expect(second.openPipe(named("amy"), rule)).toMatchObject({ reason: "rate_limited" });
  expect(second.openPipe(named("bob"), rule)).toMatchObject({ reason: "too_many_pipes" });
  if (open.ok) open.lease.release();
  expect(second.openPipe(named("amy"), rule).ok).toBe(true);
});
