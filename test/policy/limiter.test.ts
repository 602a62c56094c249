import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Holder } from "../../src/policy/holder.ts";
import { Limiter, type Connected, type PipeLease } from "../../src/policy/limiter.ts";
import type { Limits, Rule } from "../../src/policy/rule.ts";
import { unlimited } from "../../src/policy/throttle.ts";
import { FakeClock } from "../support/fake-clock.ts";

function ruleWith(limits: Limits, targets: readonly string[] = ["*"]): Rule {
  return { clients: ["*"], targets, limits, line: 0 };
}

function setup(maxAccounts?: number): { clock: FakeClock; limiter: Limiter } {
  const clock = new FakeClock();
  return { clock, limiter: new Limiter(maxAccounts === undefined ? { clock } : { clock, maxAccounts }) };
}

function opened(limiter: Limiter, [name, rule]: [name: string, rule: Rule]): PipeLease {
  const answer = limiter.openPipe(named(name), rule);
  if (!answer.ok) throw new Error(answer.reason);
  return answer.lease;
}

const named = (name: string): Holder => new Holder(`spiffe://dev/${name}`);
const bob = named("bob");
const amy = named("amy");

describe("connections", () => {
  test("are held to their rate, and told when to come again", () => {
    const { clock, limiter } = setup();
    const rule = ruleWith({ connects: { perSecond: 2, burst: 3 } });
    for (let turn = 0; turn < 3; turn++) expect(limiter.connect(bob, rule).ok).toBe(true);
    expect(limiter.connect(bob, rule)).toEqual({ ok: false, reason: "rate_limited", retryAfter: 500 });
    expect(limiter.connect(amy, rule).ok).toBe(true);
    clock.advance(499.5);
    expect(limiter.connect(bob, rule)).toMatchObject({ ok: false, retryAfter: 1 });
    clock.advance(0.5);
    expect(limiter.connect(bob, rule).ok).toBe(true);
  });

  test("are counted until they are released, once each", () => {
    const { limiter } = setup();
    const rule = ruleWith({ connections: 2 });
    const first = limiter.connect(bob, rule) as Connected;
    limiter.connect(bob, rule);
    expect(limiter.connect(bob, rule)).toEqual({ ok: false, reason: "too_many_connections", retryAfter: 1_000 });
    first.release();
    first.release();
    expect(limiter.connect(bob, rule).ok).toBe(true);
    expect(limiter.connect(bob, rule).ok).toBe(false);
  });

  test("that are refused for the cap are charged to the rate", () => {
    const { limiter } = setup();
    const rule = ruleWith({ connections: 1, connects: { perSecond: 1, burst: 2 } });
    limiter.connect(bob, rule);
    expect(limiter.connect(bob, rule)).toMatchObject({ reason: "too_many_connections" });
    expect(limiter.connect(bob, rule)).toMatchObject({ reason: "rate_limited" });
  });
});

describe("pipes", () => {
  test("are held to the rate of opens and to their cap; refused opens are charged", () => {
    const { clock, limiter } = setup();
    const rule = ruleWith({ opens: { perSecond: 10, burst: 3 }, pipes: 1 });
    const lease = opened(limiter, ["bob", rule]);
    expect(limiter.openPipe(bob, rule)).toEqual({ ok: false, reason: "too_many_pipes", retryAfter: 1_000 });
    expect(limiter.openPipe(bob, rule)).toMatchObject({ reason: "too_many_pipes" });
    expect(limiter.openPipe(bob, rule)).toEqual({ ok: false, reason: "rate_limited", retryAfter: 100 });
    lease.release();
    lease.release();
    clock.advance(100);
    expect(limiter.openPipe(bob, rule).ok).toBe(true);
    clock.advance(100);
    expect(limiter.openPipe(bob, rule)).toMatchObject({ reason: "too_many_pipes" });
  });

  test("that no rule allows are charged to the rule of the connection", () => {
    const { limiter } = setup();
    const rule = ruleWith({ opens: { perSecond: 10, burst: 2 } });
    expect(limiter.chargeRefusedOpen(bob, rule)).toBe(0);
    expect(limiter.chargeRefusedOpen(bob, rule)).toBe(0);
    expect(limiter.chargeRefusedOpen(bob, rule)).toBe(100);
    expect(limiter.openPipe(bob, rule)).toMatchObject({ reason: "rate_limited", retryAfter: 100 });
    expect(limiter.chargeRefusedOpen(bob, ruleWith({ pipes: 1 }))).toBe(0);
  });

  test("of one identity share a throttle each way, across connections and renewed certificates; others have their own", () => {
    const { limiter } = setup();
    const rule = ruleWith({ bytes: { perSecond: 1_000, burst: 1_000 } });
    const first = opened(limiter, ["bob", rule]);
    const renewed = named("bob"); // another connection, whatever its certificate
    const again = limiter.openPipe(renewed, rule);
    if (!again.ok) throw new Error(again.reason);
    expect(again.lease.inbound).toBe(first.inbound);
    expect(again.lease.outbound).toBe(first.outbound);
    expect(first.inbound).not.toBe(first.outbound);
    expect(opened(limiter, ["amy", rule]).inbound).not.toBe(first.inbound);
    expect(opened(limiter, ["bob", ruleWith(rule.limits, ["db"])]).inbound).not.toBe(first.inbound);
  });

  test("that come later find the buckets as those before left them", () => {
    const { clock, limiter } = setup();
    const rule = ruleWith({ bytes: { perSecond: 1_000, burst: 1_000 } });
    const first = opened(limiter, ["bob", rule]);
    expect(first.inbound.admit(900, 0, () => {})).toBe(true);
    first.release();
    clock.advance(50);
    const later = opened(limiter, ["bob", rule]);
    expect(later.outbound.admit(1_000, 0, () => {})).toBe(true);
    expect(later.inbound.admit(150, 0, () => {})).toBe(true);
    expect(later.inbound.admit(1, 0, () => {})).toBe(false);
  });

  test("that have ended let nothing pass: their place may be another's", () => {
    const { clock, limiter } = setup(1);
    const rule = ruleWith({ bytes: { perSecond: 1_000, burst: 1_000 } });
    const gone = opened(limiter, ["bob", rule]);
    gone.inbound.admit(1_000, 0, () => {});
    let calls = 0;
    expect(gone.inbound.admit(500, 0, () => calls++)).toBe(false);
    gone.release();
    clock.advance(60_000);
    const next = opened(limiter, ["amy", rule]);
    expect(gone.inbound.admit(1_000, 0, () => calls++)).toBe(false);
    clock.advance(60_000);
    expect(calls).toBe(0);
    expect(next.inbound.admit(1_000, 0, () => {})).toBe(true);
  });

  test("of a rule that a reload left as it was keep their account", () => {
    const { limiter } = setup();
    const limits = { opens: { perSecond: 1, burst: 1 } };
    expect(limiter.openPipe(bob, { ...ruleWith(limits), line: 3 }).ok).toBe(true);
    expect(limiter.openPipe(bob, { ...ruleWith({ opens: { burst: 1, perSecond: 1 } }), line: 4 }).ok).toBe(false);
    expect(limiter.openPipe(bob, ruleWith({ opens: { perSecond: 1, burst: 2 } })).ok).toBe(true);
  });

  test("without limits cost no account, and their throttle is the shared one", () => {
    const { limiter } = setup();
    const rule = ruleWith({});
    const lease = opened(limiter, ["bob", rule]);
    expect(lease.inbound).toBe(unlimited);
    expect(limiter.connect(bob, rule).ok).toBe(true);
    expect(limiter.accounts).toBe(0);
    expect(opened(limiter, ["bob", ruleWith({ pipes: 3 })]).outbound).toBe(unlimited);
  });

  test("of one connection are held to each rule that they come under, in turn and with other limiters", () => {
    const [{ limiter }, other] = [setup(), setup()];
    const [few, more] = [ruleWith({ pipes: 1 }), ruleWith({ pipes: 2 })];
    expect([few, more, few, more, more].map((rule) => limiter.openPipe(bob, rule).ok)).toEqual([true, true, false, true, false]);
    expect([few, more, few].map((rule) => other.limiter.openPipe(bob, rule).ok)).toEqual([true, true, false]);
    expect(limiter.openPipe(named("bob"), few).ok).toBe(false);
  });

  test("do not care for odd names", () => {
    const { limiter } = setup();
    const rule = ruleWith({ pipes: 1 });
    for (const principal of ["__proto__", "constructor", "", "hasOwnProperty"]) {
      const holder = new Holder(principal);
      expect(limiter.openPipe(holder, rule).ok).toBe(true);
      expect(limiter.openPipe(holder, rule).ok).toBe(false);
    }
  });
});

describe("accounts", () => {
  test("are forgotten when nothing is open and all is full, and not before", () => {
    const { clock, limiter } = setup(1);
    const rule = ruleWith({ opens: { perSecond: 1, burst: 10 }, bytes: { perSecond: 10, burst: 100 } });
    /** There is room for one: another comes in when it is forgotten. */
    const isKept = (): boolean => {
      const other = limiter.openPipe(amy, ruleWith({ pipes: 1 }));
      if (other.ok) other.lease.release();
      return !other.ok;
    };
    const open = opened(limiter, ["bob", rule]);
    clock.advance(60_000);
    expect(isKept(), "it is open").toBe(true);
    open.release();
    expect(isKept(), "all is full").toBe(false);
    opened(limiter, ["bob", rule]).release();
    clock.advance(999.999);
    expect(isKept(), "its opens are not full").toBe(true);
    clock.advance(0.001);
    expect(isKept(), "all is full again").toBe(false);
    for (const way of ["inbound", "outbound"] as const) {
      const lease = opened(limiter, ["bob", rule]);
      lease[way].admit(100, 0, () => {});
      lease.release();
      clock.advance(9_999);
      expect(isKept(), `${way} is not full`).toBe(true);
      clock.advance(1);
      expect(isKept(), `${way} is full`).toBe(false);
    }
    limiter.chargeRefusedOpen(bob, rule);
    clock.advance(999);
    expect(isKept(), "a refused open was charged").toBe(true);
    clock.advance(1);
    expect(isKept(), "and has come back").toBe(false);
  });

  test("go when they are idle, as others come", () => {
    const { clock, limiter } = setup();
    const rule = ruleWith({ opens: { perSecond: 1, burst: 10 } });
    for (let index = 0; index < 10_000; index++) opened(limiter, [`old${index}`, rule]).release();
    expect(limiter.accounts).toBe(10_000);
    clock.advance(1_000);
    for (let index = 0; index < 5_000; index++) opened(limiter, [`new${index}`, rule]).release();
    expect(limiter.accounts).toBeLessThan(5_100);
  });

  test("are never more than allowed: full of busy ones, a new identity is refused and the known go on", () => {
    const { clock, limiter } = setup(100);
    const rule = ruleWith({ pipes: 2, opens: { perSecond: 1, burst: 5 } });
    const leases = Array.from({ length: 100 }, (_, index) => opened(limiter, [`busy${index}`, rule]));
    expect(limiter.openPipe(bob, rule)).toEqual({ ok: false, reason: "rate_limited", retryAfter: 1_000 });
    expect(limiter.connect(bob, ruleWith({ connections: 1 }))).toEqual({ ok: false, reason: "rate_limited", retryAfter: 1_000 });
    expect(limiter.chargeRefusedOpen(bob, rule)).toBe(1_000);
    expect(limiter.accounts).toBe(100);
    expect(limiter.openPipe(named("busy7"), rule).ok).toBe(true);
    leases[50]!.release();
    expect(limiter.openPipe(bob, rule).ok, "its bucket is not full yet").toBe(false);
    clock.advance(1_000);
    expect(limiter.openPipe(bob, rule).ok).toBe(true);
    expect(limiter.openPipe(amy, rule).ok).toBe(false);
    expect(limiter.accounts).toBe(100);
  });

  test("forgotten or not give the same answers (random schedules, against a limiter that forgets nothing)", () => {
    const step = fc.record({
      pauseMs: fc.oneof(fc.constantFrom(0, 1, 499, 500, 501, 5_000), fc.double({ min: 0, max: 1_000, noNaN: true })),
      who: fc.nat(4),
      act: fc.constantFrom("connect", "disconnect", "open", "close", "charge", "send"),
      strangers: fc.nat(3),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const clock = new FakeClock();
        const rule = ruleWith({
          connects: { perSecond: 2, burst: 3 },
          connections: 2,
          opens: { perSecond: 2, burst: 3 },
          pipes: 3,
          bytes: { perSecond: 100, burst: 150 },
        });
        const sweeping = new Limiter({ clock, maxAccounts: 1_000 });
        // One limiter for each identity: nobody else comes, so nothing is ever swept.
        const keeping = Array.from({ length: 5 }, () => new Limiter({ clock, maxAccounts: 10 }));
        const connections = Array.from({ length: 5 }, (): Connected[][] => []);
        const pipes = Array.from({ length: 5 }, (): PipeLease[][] => []);
        let stranger = 0;
        for (const { pauseMs, who, act, strangers } of steps) {
          clock.advance(pauseMs);
          for (let turn = 0; turn < strangers; turn++) sweeping.chargeRefusedOpen(named(`stranger${stranger++}`), rule);
          const holder = named(`known${who}`);
          const both = [sweeping, keeping[who]!];
          if (act === "connect") {
            const answers = both.map((limiter) => limiter.connect(holder, rule));
            expect(answers[0]!.ok).toBe(answers[1]!.ok);
            if (answers[0]!.ok) connections[who]!.push(answers as Connected[]);
            else expect(answers[0]).toEqual(answers[1]);
          } else if (act === "open") {
            const answers = both.map((limiter) => limiter.openPipe(holder, rule));
            if (answers.every((answer) => answer.ok)) pipes[who]!.push(answers.map((answer) => answer.lease));
            else expect(answers[0]).toEqual(answers[1]);
          } else if (act === "charge") {
            expect(sweeping.chargeRefusedOpen(holder, rule)).toBe(keeping[who]!.chargeRefusedOpen(holder, rule));
          } else if (act === "send") {
            const resume = (): void => {};
            const admitted = pipes[who]!.at(-1)?.map((lease) => lease.inbound.admit(100, 0, resume)) ?? [];
            expect(admitted[0]).toBe(admitted[1]);
            if (admitted[0] === false) for (const lease of pipes[who]!.at(-1)!) lease.inbound.cancel(resume);
          } else {
            const held = act === "close" ? pipes[who]!.shift() : connections[who]!.shift();
            for (const lease of held ?? []) lease.release();
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  test("of a million identities take less than 120 bytes each and 20 us of CPU to find", () => {
    const { clock, limiter } = setup();
    const rule = ruleWith({ connects: { perSecond: 10, burst: 20 }, opens: { perSecond: 50, burst: 100 }, pipes: 100 });
    const count = 1_000_000;
    const names = Array.from({ length: count }, (_, index) => `spiffe://dev/agent/${index}`);
    const before = process.memoryUsage();
    /** CPU nanoseconds for each: what else the machine does is not in it. */
    const timed = (act: (index: number) => void): number => {
      const begin = process.cpuUsage();
      for (let index = 0; index < count; index++) act(index);
      const { user, system } = process.cpuUsage(begin);
      return ((user + system) / count) * 1e3;
    };
    const first = timed((index) => void limiter.chargeRefusedOpen(new Holder(names[index]!), rule));
    const after = process.memoryUsage();
    const bytesEach = (after.external - before.external) / count;
    expect(limiter.accounts).toBe(count);
    expect(limiter.chargeRefusedOpen(named("one-more"), rule)).toBe(1_000); // closed: nobody is idle
    const again = timed((index) => void limiter.chargeRefusedOpen(new Holder(names[(index * 7_919) % count]!), rule));
    clock.advance(60_000);
    for (let index = 0; index < 20_000; index++) expect(limiter.chargeRefusedOpen(named(`late${index}`), rule)).toBe(0);
    expect(limiter.accounts).toBeLessThanOrEqual(count);
    expect(bytesEach).toBeLessThan(120);
    expect((after.heapUsed - before.heapUsed) / count).toBeLessThan(100); // garbage of the loop: nothing of it stays
    expect(first + again).toBeLessThan(20_000); // 2,600 and 2,700 were seen on Node and Deno
  });
});
