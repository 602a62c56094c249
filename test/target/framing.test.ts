import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Batch } from "../../src/base/channel.ts";
import { frameChannel, type FramedChannel } from "../../src/target/framing.ts";
import type { Framing } from "../../src/target/target.ts";
import { type MemoryChannel, channelPair } from "../support/channel-pair.ts";
import { ChannelWatch } from "../support/channel-watch.ts";
import { encode, kept, split } from "./frame-reference.ts";

interface Ends {
  readonly framed: FramedChannel;
  /** The client's side: messages. */
  readonly near: ChannelWatch;
  /** The back end: bytes. */
  readonly far: ChannelWatch;
  readonly below: MemoryChannel;
}

function ends(framing: Framing, { max = 1 << 20, batches = false }: { readonly max?: number; readonly batches?: boolean } = {}): Ends {
  const [below, back] = channelPair();
  const framed = frameChannel(below, framing, { maxMessageBytes: max });
  return { framed, near: new ChannelWatch(framed, { batches }), far: new ChannelWatch(back), below };
}

const sizes = fc.array(fc.integer({ min: 1, max: 9_000 }), { minLength: 1, maxLength: 6 });

function messagesFor(framing: Framing): fc.Arbitrary<Uint8Array[]> {
  const length = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 20_000 }));
  const fill = framing === "lines" ? fc.integer({ min: 11, max: 255 }) : fc.integer({ min: 0, max: 255 });
  const message = fc
    .tuple(length, fill)
    .map(([size, first]) => Uint8Array.from({ length: size }, (_, at) => (at === 0 ? first : framing === "lines" ? 11 + (at % 200) : at)));
  return fc.array(message, { maxLength: 12 });
}

const hex = (messages: readonly Uint8Array[]): string[] => messages.map((each) => Buffer.from(each).toString("hex"));

/** Messages in one chunk, as they come from a session. */
function batchOf(messages: readonly Uint8Array[]): Batch {
  const places = messages.flatMap((_, n) =>
    [n, n + 1].map((count) => messages.slice(0, count).reduce((sum, { length }) => sum + length, 0)),
  );
  return { chunk: Buffer.concat(messages), places };
}

describe("messages to a stream back end", () => {
  for (const framing of kept) {
    test(`${framing}: whole messages that come together leave and come back as those that come one by one`, async () => {
      await fc.assert(
        fc.asyncProperty(messagesFor(framing), fc.nat(3), sizes, fc.nat(4), async (messages, single, answers, every) => {
          const { framed, near, far } = ends(framing, { batches: true });
          const [first, ...rest] = [messages.slice(0, single), messages.slice(single)];
          for (const message of first) framed.write(message, true);
          for (const batch of rest) if (batch.length > 0) framed.writeBatch!(batchOf(batch));
          framed.closeWrite();
          await far.until(() => far.ended);
          const wire = encode(messages, framing);
          expect(far.content.equals(wire)).toBe(true);
          near.onData = () => {
            if (every === 0 || near.messages.length % every > 0 || near.paused) return;
            near.pause();
            setImmediate(() => near.resume());
          };
          for (const piece of split(wire, answers)) far.channel.write(piece, false);
          far.channel.closeWrite();
          await Promise.all([near.closed(), far.closed()]);
          expect(hex(near.messages)).toEqual(hex(messages));
          expect({ ended: near.ended, broken: near.broken, faults: near.faults }).toEqual({ ended: true, broken: undefined, faults: [] });
        }),
        { numRuns: 200 },
      );
    });

    test(`${framing}: a message over the limit among others that came together breaks the pipe, and nothing behind it leaves`, async () => {
      const { framed, near, far } = ends(framing, { max: 100 });
      framed.writeBatch!(batchOf([Buffer.alloc(100, 65), Buffer.alloc(101, 66), Buffer.alloc(1, 67)]));
      await Promise.all([near.closed(), far.closed()]);
      expect([near.broken?.reason, far.broken?.reason, far.content.includes("B"), far.content.includes("C")]).toEqual([
        "message_too_large",
        "message_too_large",
        false,
        false,
      ]);
    });

    test(`${framing}: any messages in any chunks leave as the reference says, and come back as the same messages`, async () => {
      await fc.assert(
        fc.asyncProperty(messagesFor(framing), sizes, sizes, async (messages, chunks, answers) => {
          const { framed, near, far } = ends(framing);
          for (const message of messages) {
            const pieces = split(message, chunks);
            for (const piece of pieces.slice(0, -1)) framed.write(piece, false);
            framed.write(pieces.at(-1) ?? new Uint8Array(0), true);
          }
          expect(framed.pending).toBe(0);
          framed.closeWrite();
          await far.until(() => far.ended);
          const wire = encode(messages, framing);
          expect(far.content.equals(wire)).toBe(true);
          for (const piece of split(wire, answers)) far.channel.write(piece, false);
          far.channel.closeWrite();
          await Promise.all([near.closed(), far.closed()]);
          expect(hex(near.messages)).toEqual(hex(messages));
          expect({ ended: near.ended, broken: near.broken, faults: near.faults }).toEqual({ ended: true, broken: undefined, faults: [] });
        }),
        { numRuns: 60 },
      );
    });

    test(`${framing}: an answer that ends inside a message is a break, never an end`, async () => {
      const whole = encode([Buffer.from("kept"), Buffer.from("cut off")], framing);
      for (let length = 1; length < whole.length; length++) {
        if (length === encode([Buffer.from("kept")], framing).length) continue;
        const { near, far } = ends(framing);
        far.channel.write(whole.subarray(0, length), false);
        far.channel.closeWrite();
        await near.closed();
        expect([length, near.ended, near.broken?.reason, near.faults]).toEqual([length, false, "target_reset", []]);
      }
    });

    test(`${framing}: an answer over the limit breaks the pipe with message_too_large`, async () => {
      const { near, far } = ends(framing, { max: 1_000 });
      far.channel.write(encode([Buffer.alloc(1_001, 65)], framing), false);
      await near.closed();
      expect([near.bytes, near.ended, near.broken?.reason]).toEqual([0, false, "message_too_large"]);
      await far.closed();
      expect(far.broken?.reason).toBe("message_too_large");
    });

    test(`${framing}: a reader that pauses at any message gets no more until it resumes, and then all, with the end behind`, async () => {
      const messages = Array.from({ length: 40 }, (_, at) => Buffer.from(`message ${at}`));
      for (const every of [1, 2, 7]) {
        const { near, far } = ends(framing);
        near.onData = () => {
          if (near.messages.length % every !== 0) return;
          near.pause();
          setImmediate(() => near.resume());
        };
        for (const piece of split(encode(messages, framing), [17, 100])) far.channel.write(piece, false);
        far.channel.closeWrite();
        near.channel.closeWrite();
        await near.closed();
        expect(near.messages.map(String)).toEqual(messages.map(String));
        expect([near.ended, near.broken, near.faults]).toEqual([true, undefined, []]);
      }
    });
  }

  test("whole messages that come together wait for a back end that reads nothing, and are told when it does", async () => {
    const { framed, near, far } = ends("u32");
    far.pause();
    const batch = Array.from({ length: 100 }, () => Buffer.alloc(300, 7));
    let written = 0;
    while (framed.writeBatch!(batchOf(batch)) && written < 20) {
      written++;
      await Promise.resolve(); // what was written together leaves
    }
    expect(written).toBeLessThan(6); // 64 KiB, and what was under way
    expect(near.drains).toBe(0);
    far.resume();
    await near.until(() => near.drains === 1);
    expect(framed.writeBatch!(batchOf(batch))).toBe(true);
    await far.until(() => far.bytes === (written + 2) * 100 * 304);
  });

  test("a reader that pauses in a burst of empty messages gets a thousand of them, and the others when it goes on", async () => {
    for (const framing of kept) {
      const { near, far } = ends(framing, { batches: true });
      near.onData = () => void (near.paused || near.pause());
      const burst = encode(
        Array.from({ length: 10_000 }, () => new Uint8Array(0)),
        framing,
      );
      far.channel.write(burst, false);
      await near.until(() => near.paused);
      await new Promise((resolve) => setImmediate(resolve));
      expect([framing, near.messages.length]).toEqual([framing, 1_024]);
      near.onData = () => {};
      near.resume();
      await near.until(() => near.messages.length === 10_000);
      expect(near.faults).toEqual([]);
    }
  });

  test("a message that comes in parts is held and counted until it is whole, and then not any more", async () => {
    const { framed, far } = ends("u32");
    framed.write(Buffer.alloc(10_000, 1), false);
    framed.write(Buffer.alloc(7, 2), false);
    expect(framed.pending).toBe(10_007);
    framed.write(new Uint8Array(0), true);
    expect(framed.pending).toBe(0);
    await far.until(() => far.bytes === 10_011);
    expect(far.content.readUInt32BE(0)).toBe(10_007);
  });

  test("a hundred thousand one-byte parts of large buffers are held as little more than their bytes", () => {
    const { framed } = ends("u32");
    const before = process.memoryUsage();
    for (let at = 0; at < 100_000; at++) framed.write(new Uint8Array(16 << 10).subarray(0, 1), false);
    (globalThis as { gc?: () => void }).gc?.();
    expect(framed.pending).toBe(100_000);
    const { arrayBuffers } = process.memoryUsage();
    expect(arrayBuffers - before.arrayBuffers).toBeLessThan(800 << 20); // 1.6 GB if each part pinned its buffer
  });

  test("a message over the limit is refused by counting, in one chunk or in many, and the back end sees a break", async () => {
    for (const framing of [...kept, "bytes"] as const) {
      for (const chunks of [[1_001], [1_000, 1], [400, 400, 400]]) {
        const { framed, near, far } = ends(framing, { max: 1_000 });
        for (const length of chunks) framed.write(Buffer.alloc(length, 65), false);
        await Promise.all([near.closed(), far.closed()]);
        expect([framing, near.broken?.reason, far.ended, framed.pending]).toEqual([framing, "message_too_large", false, 0]);
      }
    }
  });

  test("u16 refuses a message that its prefix cannot count", async () => {
    const fits = ends("u16");
    fits.framed.write(Buffer.alloc(65_535), true);
    await fits.far.until(() => fits.far.bytes === 65_537);
    const over = ends("u16");
    over.framed.write(Buffer.alloc(65_536), true);
    await over.near.closed();
    expect(over.near.broken?.reason).toBe("message_too_large");
  });

  test("a line break inside a message for lines is refused with a break, wherever it stands", async () => {
    for (const chunks of [["a\nb"], ["a", "\n"], ["abc", "", "d\n"]]) {
      const { framed, near, far } = ends("lines");
      for (const chunk of chunks) framed.write(Buffer.from(chunk), false);
      await Promise.all([near.closed(), far.closed()]);
      expect([near.broken?.reason, far.ended]).toEqual(["protocol_error", false]);
    }
  });

  test("ending inside a message is a break to the back end, never an end", async () => {
    const { framed, near, far } = ends("u32");
    framed.write(Buffer.from("half"), false);
    framed.closeWrite();
    await Promise.all([near.closed(), far.closed()]);
    expect([near.broken?.reason, far.ended, far.bytes]).toEqual(["protocol_error", false, 0]);
  });

  test("with boundaries given up the bytes pass as they are, both ways", async () => {
    const { framed, near, far } = ends("bytes");
    framed.write(Buffer.from("ab"), true);
    framed.write(Buffer.from("c"), false);
    framed.write(Buffer.from("d"), true);
    framed.closeWrite();
    await far.until(() => far.ended);
    expect(far.content.toString()).toBe("abcd");
    far.channel.write(Buffer.from("answer"), false);
    far.channel.closeWrite();
    await near.closed();
    expect([Buffer.concat(near.messages).toString(), near.ended, near.broken]).toEqual(["answer", true, undefined]);
  });

  test("a back end that does not read makes write ask for a pause, and drained comes when it reads", async () => {
    const { framed, near, far } = ends("u32");
    far.pause();
    let written = 0;
    while (written < 10_000 && framed.write(Buffer.alloc(256), true)) {
      written++;
      if (written % 64 === 0) await Promise.resolve();
    }
    expect(written * 260).toBeLessThan(256 << 10);
    expect(near.drains).toBe(0);
    far.resume();
    await near.until(() => near.drains === 1);
    expect(framed.write(Buffer.alloc(256), true)).toBe(true);
  });

  test("many small messages of one callback leave in few writes", async () => {
    const { framed, far } = ends("u32");
    for (let at = 0; at < 1_000; at++) framed.write(Buffer.alloc(16, at), true);
    await far.until(() => far.bytes === 20_000);
    expect(far.chunks.length).toBeLessThanOrEqual(2);
  });

  test("messages of several channels written in turns stay with their channel", async () => {
    const all = Array.from({ length: 5 }, () => ends("varint"));
    for (let at = 0; at < 2_000; at++) all[at % 5]!.framed.write(Buffer.from(`${at % 5}:${at}`), true);
    for (const [index, { framed, far }] of all.entries()) {
      framed.closeWrite();
      await far.until(() => far.ended);
      const mine = Array.from({ length: 400 }, (_, turn) => Buffer.from(`${index}:${turn * 5 + index}`));
      expect(far.content.equals(encode(mine, "varint"))).toBe(true);
    }
  });

  test("a break below reaches the client once, with its reason, and nothing comes after", async () => {
    const { framed, near, below } = ends("u32");
    framed.write(Buffer.from("x"), true);
    below.reset({ reason: "target_reset", detail: "gone" });
    framed.reset({ reason: "cancelled" });
    await near.closed();
    framed.write(Buffer.from("y"), true);
    framed.closeWrite();
    framed.pause();
    framed.resume();
    framed.reset({ reason: "internal" });
    await new Promise((resolve) => setImmediate(resolve));
    expect(near.faults).toEqual([]);
    expect(near.ended).toBe(false);
  });
});
