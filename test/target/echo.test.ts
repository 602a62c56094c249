import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { echoChannel } from "../../src/target/echo.ts";
import { ChannelWatch } from "../support/channel-watch.ts";
import { collect, collectUntil } from "../support/collect.ts";

describe("the echo target", () => {
  test("whatever is written comes back in order, and the end after it, however the reader pauses", async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("write" as const), length: fc.integer({ min: 0, max: 9_000 }), last: fc.boolean() }),
      fc.record({ kind: fc.constantFrom("pause" as const, "resume" as const, "turn" as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), async (steps, messages) => {
        const channel = echoChannel({ messages });
        const watch = new ChannelWatch(channel);
        const sent: Buffer[] = [];
        for (const [at, each] of steps.entries()) {
          if (each.kind === "write") {
            const chunk = Buffer.alloc(each.length, at);
            sent.push(chunk);
            channel.write(chunk, each.last);
          } else if (each.kind === "turn") await new Promise((resolve) => setImmediate(resolve));
          else watch[each.kind]();
        }
        channel.closeWrite();
        watch.resume();
        await watch.closed();
        expect(watch.content.equals(Buffer.concat(sent))).toBe(true);
        const lasts = messages ? steps.filter((each) => each.kind === "write" && each.last).length : 0;
        expect(watch.messages).toHaveLength(lasts);
        expect([watch.ended, watch.broken, watch.faults]).toEqual([true, undefined, []]);
      }),
      { numRuns: 200 },
    );
  });

  test("what is written before anybody listens is kept, with the end", async () => {
    const channel = echoChannel({ messages: true });
    channel.write(Buffer.from("early"), true);
    channel.closeWrite();
    const watch = new ChannelWatch(channel);
    await watch.closed();
    expect([watch.messages.map(String), watch.ended, watch.faults]).toEqual([["early"], true, []]);
  });

  test("a reader that pauses makes write ask for a pause, and drained comes once it has read", async () => {
    const channel = echoChannel({ messages: false });
    const watch = new ChannelWatch(channel, { paused: true });
    expect(channel.write(Buffer.alloc(1_000), false)).toBe(false);
    expect([watch.bytes, watch.drains]).toEqual([0, 0]);
    watch.resume();
    await watch.until(() => watch.drains === 1);
    expect([watch.bytes, channel.write(Buffer.alloc(10), false)]).toEqual([1_000, true]);
  });

  test("what waits for a reader keeps little more alive than itself", async () => {
    const channels = Array.from({ length: 20 }, () => echoChannel({ messages: false }));
    const held = (): number => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
    collect();
    const before = held();
    for (const channel of channels) for (let n = 0; n < 12; n++) channel.write(new Uint8Array(64 << 10).subarray(n, n + 5_000), false);
    expect(await collectUntil(2 << 20, () => held() - before)).toBeLessThan(2 << 20); // 1.2 MB, in buffers of 15.7
    expect(channels.length).toBe(20);
  });

  test("drained comes also to who writes on before it", async () => {
    const channel = echoChannel({ messages: false });
    const watch = new ChannelWatch(channel, { paused: true });
    expect(channel.write(Buffer.alloc(10), false)).toBe(false);
    await Promise.resolve();
    channel.resume();
    watch.paused = false;
    channel.write(Buffer.alloc(10), false);
    await watch.until(() => watch.drains === 1);
    expect([watch.bytes, watch.faults]).toEqual([20, []]);
  });

  test("a reset is told once as a break, and nothing comes after", async () => {
    const channel = echoChannel({ messages: false });
    const watch = new ChannelWatch(channel, { paused: true });
    channel.write(Buffer.from("lost"), false);
    channel.reset({ reason: "cancelled", detail: "first" });
    channel.reset({ reason: "internal" });
    watch.resume();
    channel.write(Buffer.from("x"), false);
    channel.closeWrite();
    await watch.closed();
    await new Promise((resolve) => setImmediate(resolve));
    expect([watch.broken, watch.bytes, watch.ended, watch.faults]).toEqual([{ reason: "cancelled", detail: "first" }, 0, false, []]);
  });

  test("an empty message comes back as an empty message", async () => {
    const channel = echoChannel({ messages: true });
    const watch = new ChannelWatch(channel);
    channel.write(new Uint8Array(0), true);
    channel.write(Buffer.from("a"), false);
    channel.write(new Uint8Array(0), true);
    expect(watch.messages.map(String)).toEqual(["", "a"]);
  });
});
