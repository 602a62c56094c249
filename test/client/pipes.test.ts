import { Buffer } from "node:buffer";
import { finished } from "node:stream/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Channel } from "../../src/base/channel.ts";
import { systemClock } from "../../src/base/clock.ts";
import { BytePipe } from "../../src/client/bytes.ts";
import { HeldEnd } from "../../src/client/held-end.ts";
import { JoinedMessages } from "../../src/client/messages.ts";
import { channelPair, type MemoryChannel } from "../support/channel-pair.ts";
import { FakeClock } from "../support/fake-clock.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (chunk: Uint8Array | undefined): string | undefined => (chunk ? new TextDecoder().decode(chunk) : undefined);
const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

interface Far {
  readonly channel: MemoryChannel;
  readonly chunks: { readonly text: string; readonly last: boolean }[];
  readonly happened: string[];
}

/** The other side of a pipe, writing down what it sees. */
function watch(channel: MemoryChannel): Far {
  const far: Far = { channel, chunks: [], happened: [] };
  channel.attach({
    data: (chunk, last) => void far.chunks.push({ text: Buffer.from(chunk).toString("latin1"), last }),
    end: () => void far.happened.push("end"),
    drained: () => void far.happened.push("drained"),
    closed: (broken) => void far.happened.push(broken ? `closed: ${broken.reason}` : "closed"),
  });
  return far;
}

function hold(channel: Channel, clock = new FakeClock()): HeldEnd {
  return new HeldEnd(channel, { clock, closeGraceMs: 5000 });
}

function bytePipe(clock?: FakeClock): { pipe: BytePipe; far: Far } {
  const [near, other] = channelPair();
  return { pipe: new BytePipe("echo", hold(near, clock)), far: watch(other) };
}

function messagePipe(bounds = { incomingBytes: 1000, outgoingBytes: 1000 }): { pipe: JoinedMessages; far: Far } {
  const [near, other] = channelPair({ messages: true });
  return { pipe: new JoinedMessages("jobs", { end: hold(near), bounds }), far: watch(other) };
}

describe("a pipe as web streams", () => {
  test("carries bytes both ways and ends each way for itself", async () => {
    const { pipe, far } = bytePipe();
    const writer = pipe.writable.getWriter();
    await writer.write(bytes("hello"));
    await writer.close();
    await turn();
    expect(far.chunks.map((chunk) => chunk.text).join("")).toBe("hello");
    expect(far.happened).toEqual(["end"]);
    far.channel.write(bytes("answer"), false);
    far.channel.closeWrite();
    expect(await new Response(pipe.readable).text()).toBe("answer");
    await pipe.closed;
    await turn();
    expect(far.happened).toEqual(["end", "closed"]);
  });
  test("lets the program use its buffer again after a write", async () => {
    const { pipe, far } = bytePipe();
    far.channel.pause();
    const writer = pipe.writable.getWriter();
    const buffer = bytes("first");
    await writer.write(buffer);
    buffer.set(bytes("XXXXX"));
    far.channel.resume();
    await turn();
    expect(far.chunks[0]!.text).toBe("first");
  });
  test("lets a write wait until the other side takes more", async () => {
    const { pipe, far } = bytePipe();
    far.channel.pause();
    const writer = pipe.writable.getWriter();
    let settled = false;
    const write = writer.write(new Uint8Array(100_000)).then(() => (settled = true));
    await turn();
    expect(settled).toBe(false);
    far.channel.resume();
    await write;
    expect(settled).toBe(true);
  });
  test("holds the other side back while nobody reads, and loses nothing", async () => {
    const { pipe, far } = bytePipe();
    const reader = pipe.readable.getReader();
    let sent = 0;
    while (far.channel.write(new Uint8Array(10_000).fill(sent % 251), false)) {
      sent += 10_000;
      await turn();
      expect(sent).toBeLessThan(1_000_000);
    }
    sent += 10_000;
    far.channel.closeWrite();
    let received = 0;
    for (let part = await reader.read(); !part.done; part = await reader.read()) received += part.value.length;
    expect(received).toBe(sent);
  });
  test("shows a break as an error with its reason on both streams and in closed, never as an end", async () => {
    const { pipe, far } = bytePipe();
    const reader = pipe.readable.getReader();
    const writer = pipe.writable.getWriter();
    const read = reader.read();
    far.channel.reset({ reason: "target_reset", detail: "ECONNRESET\r\n" });
    await expect(read).rejects.toMatchObject({ name: "PipegateError", code: "target_reset" });
    await expect(writer.write(bytes("x"))).rejects.toMatchObject({ code: "target_reset" });
    await expect(pipe.closed).rejects.toThrow(/^the target broke the connection off \(ECONNRESET\\u\{d\}\\u\{a\}\)$/u);
  });
  test("shows a break that came before anybody looked", async () => {
    const { pipe, far } = bytePipe();
    far.channel.reset({ reason: "revoked" });
    await turn();
    await expect(pipe.readable.getReader().read()).rejects.toMatchObject({ code: "revoked" });
    await expect(pipe.writable.getWriter().write(bytes("x"))).rejects.toMatchObject({ code: "revoked" });
  });
  test("settles a waiting write when the pipe breaks", async () => {
    const { pipe, far } = bytePipe();
    far.channel.pause();
    const write = pipe.writable.getWriter().write(new Uint8Array(100_000));
    await turn();
    far.channel.reset({ reason: "slow_reader" });
    await expect(write).rejects.toMatchObject({ code: "slow_reader" });
  });
  test("breaks off when the reader cancels or the writer aborts", async () => {
    for (const act of [
      async (pipe: BytePipe): Promise<void> => pipe.readable.cancel(),
      async (pipe: BytePipe): Promise<void> => pipe.writable.abort(),
      async (pipe: BytePipe): Promise<void> => pipe.abort(),
    ]) {
      const { pipe, far } = bytePipe();
      await act(pipe);
      await turn();
      expect(far.happened).toEqual(["closed: cancelled"]);
      await expect(pipe.closed).rejects.toMatchObject({ code: "cancelled" });
    }
  });
  test("refuses to be read in two ways", () => {
    const { pipe } = bytePipe();
    pipe.duplex();
    expect(() => pipe.readable).toThrow(/already read through duplex\(\)/u);
  });
});

describe("leaving a pipe", () => {
  test("without having ended the writing side breaks it off, so that half a payload does not look whole", async () => {
    const { pipe, far } = bytePipe();
    await pipe.writable.getWriter().write(bytes("half"));
    await pipe[Symbol.asyncDispose]();
    await turn();
    expect(far.happened).toEqual(["closed: cancelled"]);
  });
  test("after having ended it throws the rest of the answer away and waits for its end", async () => {
    const { pipe, far } = bytePipe();
    await pipe.writable.getWriter().close();
    const left = pipe[Symbol.asyncDispose]();
    far.channel.write(new Uint8Array(10), false);
    far.channel.closeWrite();
    await left;
    await turn();
    expect(far.happened).toEqual(["end", "closed"]);
  });
  test("breaks it off when the other side does not end within the grace", async () => {
    const clock = new FakeClock();
    const { pipe, far } = bytePipe(clock);
    const left = pipe.close();
    await turn();
    clock.advance(5000);
    await left;
    expect(far.happened).toContain("closed: cancelled");
    expect(clock.waiting).toBe(0);
  });
});

describe("a pipe as a Node stream", () => {
  test("carries bytes both ways and ends each way for itself", async () => {
    const { pipe, far } = bytePipe();
    const duplex = pipe.duplex();
    duplex.end("hello");
    await turn();
    expect(far.chunks).toEqual([{ text: "hello", last: false }]);
    expect(far.happened).toEqual(["end"]);
    far.channel.write(bytes("answer"), false);
    far.channel.closeWrite();
    const parts: Buffer[] = [];
    for await (const part of duplex) parts.push(part as Buffer);
    expect(Buffer.concat(parts).toString()).toBe("answer");
    await finished(duplex);
    await pipe.closed;
  });
  test("is destroyed with the reason when the pipe breaks, and breaks the pipe when it is destroyed", async () => {
    const one = bytePipe();
    const duplex = one.pipe.duplex();
    one.far.channel.reset({ reason: "idle_timeout" });
    await expect(finished(duplex)).rejects.toMatchObject({ code: "idle_timeout" });
    const two = bytePipe();
    two.pipe.duplex().destroy();
    await turn();
    expect(two.far.happened).toEqual(["closed: cancelled"]);
  });
  test("carries whatever sizes are written, both ways, unchanged", async () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 50_000 }), { minLength: 1, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(sizes, async (lengths) => {
        const [near, other] = channelPair();
        const a = new BytePipe("a", hold(near)).duplex();
        const b = new BytePipe("b", hold(other));
        const sent = Buffer.concat(lengths.map((length, index) => Buffer.alloc(length, index + 1)));
        void b.readable.pipeTo(b.writable);
        const parts: Buffer[] = [];
        const got = (async () => {
          for await (const part of a) parts.push(part as Buffer);
        })();
        let offset = 0;
        for (const length of lengths) {
          if (!a.write(sent.subarray(offset, offset + length))) await new Promise((resolve) => void a.once("drain", resolve));
          offset += length;
        }
        a.end();
        await got;
        expect(Buffer.concat(parts).equals(sent)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });
});

describe("a pipe of messages", () => {
  test("sends each message as one and joins what comes in pieces", async () => {
    const { pipe, far } = messagePipe();
    await pipe.send(bytes("one"));
    await pipe.send(bytes(""));
    await turn();
    expect(far.chunks).toEqual([
      { text: "one", last: true },
      { text: "", last: true },
    ]);
    for (const [piece, last] of [
      ["a", false],
      ["b", false],
      ["c", true],
      ["", true],
      ["d", true],
    ] as const)
      far.channel.write(bytes(piece), last);
    far.channel.closeWrite();
    const got: string[] = [];
    for await (const message of pipe) got.push(text(message)!);
    expect(got).toEqual(["abc", "", "d"]);
    expect(await pipe.receive()).toBeUndefined();
    pipe.closeWrite();
    await pipe.closed;
  });
  test("brings messages back as they were cut, however their pieces fell", async () => {
    const piece = fc.record({ size: fc.integer({ min: 0, max: 9000 }), last: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 40 }), async (pieces) => {
        const { pipe, far } = messagePipe({ incomingBytes: 1 << 20, outgoingBytes: 1 });
        const expected: number[] = [];
        let size = 0;
        for (const one of [...pieces, { size: 1, last: true }]) {
          far.channel.write(new Uint8Array(one.size), one.last);
          size += one.size;
          if (one.last) expected.push(size);
          if (one.last) size = 0;
        }
        far.channel.closeWrite();
        const got: number[] = [];
        for await (const message of pipe) got.push(message.length);
        expect(got).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });
  test("refuses to send a message that is too large, and lives on", async () => {
    const { pipe, far } = messagePipe();
    await expect(pipe.send(new Uint8Array(1001))).rejects.toMatchObject({ code: "message_too_large" });
    await pipe.send(new Uint8Array(1000));
    await turn();
    expect(far.chunks).toHaveLength(1);
  });
  test("breaks off when a message grows too large, before it is whole", async () => {
    const { pipe, far } = messagePipe();
    far.channel.write(new Uint8Array(600), false);
    far.channel.write(new Uint8Array(600), false);
    await expect(pipe.receive()).rejects.toMatchObject({ code: "message_too_large" });
    await turn();
    expect(far.happened).toEqual(["closed: message_too_large"]);
  });
  test("never delivers a message that was cut off", async () => {
    const { pipe, far } = messagePipe();
    far.channel.write(bytes("half"), false);
    await turn();
    far.channel.reset({ reason: "session_lost" });
    await expect(pipe.receive()).rejects.toMatchObject({ code: "session_lost" });
  });
  test("holds the other side back while nobody receives", async () => {
    const { pipe, far } = messagePipe();
    let sent = 0;
    while (far.channel.write(new Uint8Array(1000), true)) {
      if (++sent % 10 === 0) await turn();
      expect(sent).toBeLessThan(5000);
    }
    far.channel.closeWrite();
    let received = 0;
    for await (const message of pipe) received += message.length / 1000;
    expect(received).toBe(sent + 1);
  });
  test("leaves the pipe open when a loop over it is left early", async () => {
    const { pipe, far } = messagePipe();
    far.channel.write(bytes("one"), true);
    far.channel.write(bytes("two"), true);
    for await (const message of pipe) {
      expect(text(message)).toBe("one");
      break;
    }
    expect(text(await pipe.receive())).toBe("two");
    expect(far.happened).toEqual([]);
  });
  test("does not keep a large chunk alive for a small message", async () => {
    const { pipe, far } = messagePipe();
    far.channel.write(new Uint8Array(1 << 16).subarray(5, 15), true);
    expect((await pipe.receive())!.buffer.byteLength).toBe(10);
  });
});

test("the system's clock runs the grace without keeping the process alive", async () => {
  const [near, other] = channelPair();
  watch(other);
  const end = new HeldEnd(near, { clock: systemClock, closeGraceMs: 1 });
  await end.close();
  await expect(end.closed).rejects.toMatchObject({ code: "cancelled" });
});
