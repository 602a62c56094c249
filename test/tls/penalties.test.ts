import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { configDefaults } from "../../src/config/config.ts";
import { reasons, type Reason } from "../../src/base/reason.ts";
import { createPenalties, penaltyAmounts, type PenaltiesOptions } from "../../src/tls/penalties.ts";
import { sourceOf, type Source } from "../../src/tls/source.ts";
import { FakeClock } from "../support/fake-clock.ts";

const from = (remoteAddress: string): Source => sourceOf({ remoteAddress, remotePort: 1 }, "tcp")!;
const mallory = from("192.0.2.7");
const options: PenaltiesOptions = { mode: "enforce", thresholdMs: 15_000, longestMs: 600_000, exempt: [] };
const open = (more: Partial<PenaltiesOptions> = {}, maxSources?: number) => {
  const clock = new FakeClock();
  return { clock, penalties: createPenalties({ ...options, ...more }, clock, maxSources === undefined ? {} : { maxSources }) };
};

describe("penalties", () => {
  test("keep a source out once it owes more than the threshold, and until all is paid", () => {
    const { clock, penalties } = open();
    expect(penalties.charge(mallory, "handshake_timeout")).toBeUndefined();
    expect(penalties.charge(mallory, "unknown_issuer")).toBeUndefined(); // 15 s: not over it
    expect(penalties.charge(mallory, "session_lost")).toBe(15_500);
    clock.advance(15_499); // long below the threshold
    expect(penalties.keptOut(mallory)).toBe(1);
    clock.advance(1);
    expect(penalties.keptOut(mallory)).toBeUndefined();
    expect(penalties.charge(mallory, "handshake_timeout")).toBeUndefined(); // it begins anew
  });

  test("decay: who fails now and then is never kept out", () => {
    const { clock, penalties } = open();
    for (let day = 0; day < 10_000; day++) {
      expect(penalties.charge(mallory, "handshake_timeout")).toBeUndefined();
      clock.advance(10_000);
    }
  });

  test("last no longer than the longest, however much failed, also where that is less than the threshold", () => {
    for (const more of [{}, { thresholdMs: 900_000 }]) {
      const { clock, penalties } = open(more);
      for (let n = 0; n < 1_000; n++) penalties.charge(mallory, "unknown_issuer");
      expect(penalties.keptOut(mallory)).toBe(600_000);
      clock.advance(600_000);
      expect(penalties.keptOut(mallory)).toBeUndefined();
    }
  });

  test("leave others alone, but not others of the same IPv6 /64", () => {
    const { penalties } = open();
    for (let n = 0; n < 4; n++) penalties.charge(from(`2001:db8:0:1::${n + 1}`), "unknown_issuer");
    expect(penalties.keptOut(from("2001:db8:0:1:ffff::9"))).toBe(20_000);
    expect(penalties.keptOut(from("2001:db8:0:2::1"))).toBeUndefined();
    expect(penalties.keptOut(mallory)).toBeUndefined();
  });

  test("spare the exempt, a unix socket, and everyone when they are off", () => {
    const { exempt } = configDefaults.penalties;
    const spared: readonly (readonly [Source, Partial<PenaltiesOptions>])[] = [
      [from("127.0.0.9"), { exempt }],
      [from("::ffff:127.0.0.1"), { exempt }],
      [from("::1"), { exempt }],
      [sourceOf({ remoteAddress: undefined, remotePort: undefined }, "unix")!, {}],
      [mallory, { mode: "off" }],
    ];
    for (const [source, more] of spared) {
      const { penalties } = open(more);
      for (let n = 0; n < 100; n++) expect(penalties.charge(source, "handshake_timeout")).toBeUndefined();
      expect([penalties.keptOut(source), penalties.size]).toEqual([undefined, 0]);
    }
  });

  test("let in at once who is made exempt while kept out", () => {
    const { penalties } = open();
    for (let n = 0; n < 4; n++) penalties.charge(mallory, "handshake_timeout");
    penalties.change({ ...options, exempt: [{ bytes: [192, 0, 2, 0], prefix: 24 }] });
    expect(penalties.keptOut(mallory)).toBeUndefined();
  });

  test("are over when a shorter longest says so, and those that are less stay", () => {
    const { clock, penalties } = open();
    const other = from("192.0.2.8");
    for (let n = 0; n < 1_000; n++) penalties.charge(mallory, "unknown_issuer");
    for (let n = 0; n < 2; n++) penalties.charge(other, "handshake_timeout");
    penalties.change({ ...options, longestMs: 60_000 });
    expect([mallory, other].map((source) => penalties.keptOut(source))).toEqual([60_000, 20_000]);
    clock.advance(60_000);
    expect(penalties.keptOut(mallory)).toBeUndefined();
  });

  test("cost nothing for what is decided of a proven identity, or for want of room", () => {
    const free = ["forbidden", "unknown_target", "rate_limited", "too_many_connections", "internal", "draining"] as const;
    expect(free.filter((reason) => Object.hasOwn(penaltyAmounts, reason))).toEqual([]);
  });

  test("know a bounded number of sources: the one that is over soonest goes", () => {
    const { penalties } = open({}, 3);
    const [a, b, c, d] = [from("192.0.2.1"), from("192.0.2.2"), from("192.0.2.3"), from("192.0.2.4")];
    for (const [source, times] of [
      [a, 4],
      [b, 2],
      [c, 3],
      [d, 5],
    ] as const)
      for (let n = 0; n < times; n++) penalties.charge(source, "handshake_timeout");
    expect([penalties.size, penalties.keptOut(a), penalties.keptOut(b), penalties.keptOut(c), penalties.keptOut(d)]).toEqual([
      3,
      40_000,
      undefined,
      30_000,
      50_000,
    ]);
  });

  test("of a million sources cost no more memory than of 65,536, and little time", () => {
    const { clock, penalties } = open();
    const start = process.cpuUsage();
    for (let n = 0; n < 1_000_000; n++) {
      if (n % 1_000 === 0) clock.advance(1);
      penalties.charge({ key: String(n), text: "", address: "192.0.2.1" }, "handshake_timeout");
    }
    expect(penalties.size).toBeLessThanOrEqual(65_536);
    expect(process.cpuUsage(start).user / 1e6).toBeLessThan(20); // about 1 s
    clock.advance(600_000);
    penalties.charge(mallory, "not_tls");
    expect(penalties.size).toBe(1); // those who paid are forgotten
  }, 40_000);

  test("agree with a plain account of the same offences", () => {
    const step = fc.record({
      who: fc.integer({ min: 0, max: 5 }),
      reason: fc.constantFrom<Reason>(...reasons),
      waitMs: fc.integer({ min: 0, max: 8_000 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.integer({ min: 1, max: 40_000 }), (steps, thresholdMs) => {
        const { clock, penalties } = open({ thresholdMs, longestMs: 30_000 });
        const plain = new Map<number, { owed: number; out: boolean }>();
        for (const { who, reason, waitMs } of steps) {
          clock.advance(waitMs);
          for (const account of plain.values()) {
            account.owed = Math.max(0, account.owed - waitMs);
            if (account.owed === 0) account.out = false;
          }
          const account = plain.get(who) ?? { owed: 0, out: false };
          plain.set(who, account);
          const amount = penaltyAmounts[reason] ?? 0;
          account.owed = Math.min(30_000, account.owed + amount);
          if (amount > 0 && (account.owed > thresholdMs || account.owed === 30_000)) account.out = true;
          penalties.charge(from(`192.0.2.${who}`), reason);
          for (const [n, { owed, out }] of plain) expect(penalties.keptOut(from(`192.0.2.${n}`))).toBe(out ? owed : undefined);
        }
      }),
      { numRuns: 200 },
    );
  });
});
