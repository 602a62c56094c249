/** Messages that come and go together, over real sessions: the same as those that come one by one, whatever lies between them. */
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Batch } from "../../src/base/channel.ts";
import { toCode } from "../../src/protocol/code.ts";
import * as wire from "../../src/protocol/frame.ts";
import { Flag, FRAME_COST, Type } from "../../src/protocol/frame.ts";
import type { Stream } from "../../src/protocol/stream.ts";
import { ChannelWatch } from "../support/channel-watch.ts";
import { dataFrame, RawPeer } from "../support/raw-peer.ts";
import { sessionPair } from "../support/session-pair.ts";

const END = Flag.END_MESSAGE;
const texts = (messages: readonly Uint8Array[]): string[] => messages.map(String);

/** A stream that a raw peer opened, and what its reader got. */
function opened(): { readonly peer: RawPeer; readonly stream: Stream; readonly got: ChannelWatch } {
  const peer = new RawPeer();
  peer.open(1, { messages: true });
  const stream = peer.streams[0]!;
  return { peer, stream, got: new ChannelWatch(stream, { batches: true }) };
}

describe("messages that come in one chunk", () => {
  test("are one batch, but for those in parts and the one that ends the stream", () => {
    const { peer, got } = opened();
    peer.send(
      dataFrame(1, "a", END),
      dataFrame(1, "b", END),
      dataFrame(1, "", END),
      dataFrame(1, "c"),
      dataFrame(1, "d", END),
      dataFrame(1, "e", END),
      dataFrame(1, "f", END | Flag.FIN),
    );
    expect(texts(got.messages)).toEqual(["a", "b", "", "cd", "e", "f"]);
    expect([got.batches, got.ended, got.faults]).toEqual([2, true, []]);
  });

  test("come before whatever stands behind them: a RESET, a fault of the peer", () => {
    for (const [behind, ends] of [
      [[wire.encodeReset(1, { code: toCode("internal") })], "internal"],
      [[dataFrame(9, "nobody opened it", END)], "protocol_error"],
      [[dataFrame(1, "x", END | 0x40)], "protocol_error"],
    ] as const) {
      const { peer, got } = opened();
      peer.send(dataFrame(1, "a", END), dataFrame(1, "b", END), ...behind);
      peer.clock.turn();
      expect([texts(got.messages).slice(0, 2), got.ended, got.broken?.reason, got.faults]).toEqual([["a", "b"], false, ends, []]);
    }
  });

  test("stop at a reader that pauses or resets in between, for what comes in later chunks", () => {
    const { peer, got } = opened();
    got.onData = (chunk) => void (String(chunk) === "b" && !got.paused && got.pause());
    peer.send(dataFrame(1, "a", END), dataFrame(1, "b", END), dataFrame(1, "c", END));
    peer.send(dataFrame(1, "d", END), dataFrame(1, "e", END));
    expect(texts(got.messages)).toEqual(["a", "b", "c"]); // a batch is one event
    got.resume();
    expect(texts(got.messages)).toEqual(["a", "b", "c", "d", "e"]);
    got.onData = () => got.channel.reset({ reason: "internal" });
    peer.send(dataFrame(1, "f", END), dataFrame(1, "g", END), dataFrame(1, "h"));
    peer.send(dataFrame(1, "i", END));
    peer.clock.turn();
    expect([texts(got.messages).slice(5), got.broken?.reason, got.faults]).toEqual([["f", "g"], "internal", []]);
    expect(peer.session.ready).toBe(true);
  });

  test("are the last that counts when their reader closes the session", () => {
    const { peer, got } = opened();
    got.onData = () => peer.session.close();
    peer.send(dataFrame(1, "a", END), wire.encodeOpen(3, { window: 1_000, messages: true, weight: 16, target: "echo" }));
    expect([texts(got.messages), peer.streams.length]).toEqual([["a"], 1]);
  });

  test("are given back to the sender as credit, every byte of them", () => {
    const { peer, stream, got } = opened();
    const message = dataFrame(1, Buffer.alloc(1_000), END);
    for (let chunk = 0; chunk < 100; chunk++) peer.send(...Array.from({ length: 20 }, () => message));
    expect([got.messages.length, stream.window.pinned]).toEqual([2_000, 0]);
    const limits = peer.seen(Type.CREDIT).filter(({ id }) => id === 1);
    expect(wire.getU64(limits.at(-1)!.payload, 0)).toBeGreaterThanOrEqual(2_000 * (FRAME_COST + 1_000));
  });
});

describe("messages that are written together", () => {
  test.each([
    ["the stream's credit", { maxStreamId: 127, earlyWindow: 1_000 }],
    ["the session's credit", { maxStreamId: 127, sessionLimit: 1_000 }],
  ])("stop at %s, and go on with more of it", (_name, parameters) => {
    const peer = new RawPeer({ role: "client", parameters });
    const stream = peer.session.open("x", { messages: true });
    const messages = [300, 300, 300, 0, 5].map((length, n) => Buffer.alloc(length, n));
    stream.writeBatch(batchOf(messages));
    const sent = peer.seen(Type.DATA);
    expect(sent.map(({ flags, payload }) => [flags, payload.length])).toEqual([
      [END, 300],
      [END, 300],
      [0, 1_000 - 2 * (FRAME_COST + 300) - FRAME_COST],
    ]);
    peer.send(wire.encodeAccept(1, 10_000), wire.encodeSessionCredit(10_000, 127));
    const rest = peer.seen(Type.DATA);
    expect(rest.map(({ flags }) => flags)).toEqual([END, END, END]);
    expect(Buffer.concat([...sent, ...rest].map(({ payload }) => payload)).equals(Buffer.concat(messages))).toBe(true);
  });

  test("ask to wait once much waits, and say when there is room", () => {
    const peer = new RawPeer({ role: "client", parameters: { maxStreamId: 127, earlyWindow: 1_000 } });
    const stream = peer.session.open("x", { messages: true });
    const watch = new ChannelWatch(stream);
    const batch = (): Batch => batchOf(Array.from({ length: 100 }, () => Buffer.alloc(256)));
    expect([stream.writeBatch(batch()), stream.writeBatch(batch()), stream.writeBatch(batch())]).toEqual([true, true, false]);
    peer.send(wire.encodeAccept(1, 1 << 20));
    expect([watch.drains, peer.seen(Type.DATA).length]).toEqual([1, 300]);
  });
});

interface Step {
  readonly stream: number;
  readonly act: "write" | "parts" | "batch" | "pause" | "resume" | "turn";
  readonly sizes: readonly number[];
}

const size = fc.oneof(fc.nat(300), fc.nat(300), fc.constantFrom(0, 16_376, 16_384, 20_000, 70_000));
const step: fc.Arbitrary<Step> = fc.record({
  stream: fc.nat(2),
  act: fc.constantFrom("write", "parts", "batch", "batch", "pause", "resume", "turn"),
  sizes: fc.array(size, { minLength: 1, maxLength: 40 }),
});

/** Messages of these sizes in one chunk, with something between them, as a back end's framing leaves them. */
function batchOf(messages: readonly Buffer[]): Batch {
  const places: number[] = [];
  let end = 0;
  const parts = messages.flatMap((message) => {
    places.push(end + 4, (end += 4 + message.length));
    return [Buffer.alloc(4, 0xee), message];
  });
  return { chunk: Buffer.concat(parts), places };
}

test("messages of two streams in one chunk are a batch for each turn of one", () => {
  const peer = new RawPeer();
  for (const id of [1, 3]) peer.open(id, { messages: true });
  const [one, other] = peer.streams.map((stream) => new ChannelWatch(stream, { batches: true }));
  const frames = [1, 1, 3, 3, 1, 3, 3].map((id, n) => dataFrame(id, `${n}`, END));
  peer.send(...frames);
  expect([texts(one!.messages), one!.batches, texts(other!.messages), other!.batches]).toEqual([
    ["0", "1", "4"],
    2,
    ["2", "3", "5", "6"],
    2,
  ]);
});

test("a message over the limit resets its stream, behind those that came with it", () => {
  const peer = new RawPeer({ session: { parameters: { maxMessage: 100 } } });
  peer.open(1, { messages: true });
  const got = new ChannelWatch(peer.streams[0]!, { batches: true });
  peer.send(dataFrame(1, "a", END), dataFrame(1, Buffer.alloc(100), END), dataFrame(1, Buffer.alloc(101), END), dataFrame(1, "b", END));
  peer.clock.turn();
  expect([got.messages.map(({ length }) => length), got.broken?.reason, peer.session.ready]).toEqual([[1, 100], "message_too_large", true]);
});

test("messages over several streams are the same on the other side, however they were written and read, and whatever the wire did", () => {
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 5, maxLength: 60 }),
      fc.constantFrom(0, 1_000, 16_384, 65_536),
      fc.boolean(),
      (steps, chunkSize, fromGateway) => {
        const pair = sessionPair();
        pair.toGateway.chunkSize = pair.toClient.chunkSize = chunkSize;
        const own = [0, 1, 2].map(() => pair.client.open("x", { messages: true }));
        pair.clock.turn();
        const [writers, readers] = fromGateway ? [pair.incoming, own] : [own, pair.incoming];
        const watched = readers.map((stream) => new ChannelWatch(stream, { batches: true }));
        for (const stream of writers) new ChannelWatch(stream);
        const sent: Buffer[][] = [[], [], []];
        let seed = 0;
        for (const { stream, act, sizes } of steps) {
          const messages = sizes.map((length) => Buffer.alloc(length, ++seed));
          const [writer, reader] = [writers[stream]!, watched[stream]!];
          if (act === "turn") pair.clock.turn();
          else if (act === "pause") reader.pause();
          else if (act === "resume") reader.resume();
          else {
            sent[stream]!.push(...messages);
            if (act === "batch") writer.writeBatch(batchOf(messages));
            else
              for (const message of messages) {
                const middle = act === "parts" ? message.length >> 1 : 0;
                if (middle > 0) writer.write(message.subarray(0, middle), false);
                writer.write(message.subarray(middle), true);
              }
          }
        }
        for (const stream of writers) stream.closeWrite();
        for (const reader of watched) reader.resume();
        pair.clock.turn();
        for (const [n, { messages, ended, faults }] of watched.entries()) {
          expect([messages.length, ended, faults]).toEqual([sent[n]!.length, true, []]);
          expect(messages.every((message, at) => message.equals(sent[n]![at]!))).toBe(true);
        }
      },
    ),
    { numRuns: 300 },
  );
});
