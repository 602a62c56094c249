import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { frameChannel } from "../../src/target/framing.ts";
import { Gathering, GatheringBudget } from "../../src/target/gathering.ts";
import { channelPair } from "../support/channel-pair.ts";
import { ChannelWatch } from "../support/channel-watch.ts";

interface Held {
  readonly gathering: Gathering;
  evicted: number;
}

function gathering(budget: GatheringBudget, owner: string): Held {
  const held: Held = { gathering: new Gathering({ budget, owner, evict: () => void held.evicted++ }), evicted: 0 };
  return held;
}

describe("a gathering budget", () => {
  test("takes from the owner who holds most, his largest first, and leaves the others alone", () => {
    const budget = new GatheringBudget({ maxBytes: 1000 });
    const honest = gathering(budget, "alice");
    const hoard = Array.from({ length: 4 }, () => gathering(budget, "mallory"));
    honest.gathering.add(new Uint8Array(301));
    for (const [n, { gathering: one }] of hoard.entries()) one.add(new Uint8Array(100 + 50 * n));
    expect([budget.bytes, honest.evicted, hoard.map(({ evicted }) => evicted)]).toEqual([751, 0, [0, 0, 0, 1]]);
    honest.gathering.add(new Uint8Array(240)); // fits
    honest.gathering.add(new Uint8Array(20)); // does not: now alice holds most
    expect([honest.evicted, budget.bytes]).toEqual([1, 450]);
  });

  test("never holds more than it may and counts exactly what is held, whatever is added, taken and dropped", () => {
    const step = fc.record({ who: fc.nat(7), size: fc.nat(400), act: fc.constantFrom("add", "add", "add", "take", "drop") });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const budget = new GatheringBudget({ maxBytes: 1500 });
        const all = Array.from({ length: 8 }, (_, n) => gathering(budget, `owner ${n % 3}`));
        for (const { who, size, act } of steps) {
          const one = (all[who] as Held).gathering;
          if (act === "add") one.add(new Uint8Array(size));
          else one[act]();
          const held = all.reduce((sum, { gathering: each }) => sum + each.bytes, 0);
          expect(budget.bytes).toBe(held);
          expect(held).toBeLessThanOrEqual(1500);
        }
        for (const { gathering: each } of all) each.drop();
        expect(budget.bytes).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test("always has room for two of the largest messages", () => {
    const budget = new GatheringBudget({ maxBytes: 10, maxMessageBytes: 1000 });
    const both = [gathering(budget, "alice"), gathering(budget, "alice")];
    for (const { gathering: one } of both) one.add(new Uint8Array(1000));
    expect(both.map(({ evicted }) => evicted)).toEqual([0, 0]);
  });

  test("breaks the pipe whose message has to go, and takes nothing of the next ones", async () => {
    const budget = new GatheringBudget({ maxBytes: 20_000 });
    const ends = ["mallory", "alice"].map((owner) => {
      const [below, back] = channelPair();
      const channel = frameChannel(below, "u32", { maxMessageBytes: 1 << 20, gathering: { budget, owner } });
      return { near: new ChannelWatch(channel), far: new ChannelWatch(back) };
    });
    const [mallory, alice] = ends as [(typeof ends)[number], (typeof ends)[number]];
    alice.near.channel.write(Buffer.alloc(5_000, "a"), false);
    mallory.near.channel.write(Buffer.alloc(15_000), false);
    mallory.near.channel.write(Buffer.alloc(1), false);
    await mallory.near.closed();
    expect(mallory.near.broken?.reason).toBe("excessive_load");
    expect(mallory.far.bytes).toBe(0);
    alice.near.channel.write(Buffer.alloc(5_000, "a"), true);
    await alice.far.until(() => alice.far.bytes === 10_004);
    expect(budget.bytes).toBe(0);
  });
});

test("a part that keeps a much larger buffer alive is copied out of it", () => {
  const held = new Gathering();
  held.add(Buffer.alloc(64 << 10).subarray(0, 5_000));
  const whole = new Uint8Array(5_000);
  held.add(whole);
  const parts = held.take();
  expect(parts.map(({ length }) => length)).toEqual([5_000, 5_000]);
  expect((parts[0] as Uint8Array).buffer.byteLength).toBeLessThanOrEqual(10_000);
  expect(parts[1]).toBe(whole);
});
