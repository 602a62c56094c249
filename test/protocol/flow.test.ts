import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { toCode } from "../../src/protocol/code.ts";
import * as wire from "../../src/protocol/frame.ts";
import { FRAME_COST, Type } from "../../src/protocol/frame.ts";
import { ReceiveWindow } from "../../src/protocol/window.ts";
import { collect, collectUntil } from "../support/collect.ts";
import { echo } from "../support/echo-stream.ts";
import { dataFrame, RawPeer } from "../support/raw-peer.ts";
import { Collected, sessionPair } from "../support/session-pair.ts";

const MiB = 1 << 20;

test("a reader that never catches up costs its window, however much goes through", async () => {
  const pair = sessionPair();
  const stream = pair.client.open("x", { messages: false });
  const fill = (): void => {
    while (stream.write(Buffer.alloc(16_000), false));
  };
  stream.attach({ data: () => {}, end: () => {}, drained: fill, closed: () => {} });
  pair.clock.turn();
  const [incoming] = pair.incoming;
  let read = 0;
  incoming!.attach({
    data: (chunk) => {
      read += chunk.length;
      incoming!.pause();
      pair.clock.after(1, () => incoming!.resume());
    },
    end: () => {},
    drained: () => {},
    closed: () => {},
  });
  for (const way of [pair.toClient, pair.toGateway]) way.sent.push = () => 0; // the wire of the test keeps no copy
  fill();
  collect();
  const before = process.memoryUsage().arrayBuffers;
  for (let turns = 0; read < 64 * MiB && turns < 100_000; turns++) pair.clock.advance(1);
  expect(read).toBeGreaterThanOrEqual(64 * MiB);
  expect(incoming!.window.pinned).toBeGreaterThan(0);
  expect(await collectUntil(16 * MiB, () => process.memoryUsage().arrayBuffers - before)).toBeLessThan(16 * MiB);
});

describe("a sender", () => {
  test("stops exactly at the stream's limit and goes on with credit", () => {
    const peer = new RawPeer({ role: "client", parameters: { maxStreamId: 127, earlyWindow: 1000 } });
    const stream = peer.session.open("x", { messages: false });
    stream.write(Buffer.alloc(5000), false);
    const early = peer.seen(Type.DATA);
    expect(early.map((frame) => frame.payload.length)).toEqual([1000 - FRAME_COST]);
    peer.send(wire.encodeAccept(1, 1000 + FRAME_COST)); // room for the frame's cost, none for a byte
    expect(peer.seen(Type.DATA)).toEqual([]);
    peer.send(wire.encodeStreamCredit(1, 1000 + FRAME_COST + 1));
    expect(peer.seen(Type.DATA).map((frame) => frame.payload.length)).toEqual([1]);
  });

  test("stops exactly at the session's limit, whichever stream it is", () => {
    const peer = new RawPeer({ role: "client", parameters: { maxStreamId: 127, sessionLimit: 3000 } });
    const streams = [1, 3].map((id) => {
      const stream = peer.session.open("x", { messages: false });
      peer.send(wire.encodeAccept(id, MiB));
      return stream;
    });
    peer.fresh();
    for (const stream of streams) stream.write(Buffer.alloc(2000), false);
    const sent = peer.seen(Type.DATA).reduce((sum, frame) => sum + FRAME_COST + frame.payload.length, 0);
    expect(sent).toBe(3000);
    peer.send(wire.encodeSessionCredit(10_000, 127));
    expect(peer.seen(Type.DATA).reduce((sum, frame) => sum + frame.payload.length, 0)).toBe(4000 - (3000 - 2 * FRAME_COST));
  });

  test("asks its writer to wait at 64 KiB and tells it once to go on", () => {
    const pair = sessionPair();
    const stream = pair.client.open("x", { messages: false });
    const near = new Collected(stream);
    let accepted = true;
    let written = 0;
    while (accepted) {
      accepted = stream.write(Buffer.alloc(8192), false);
      written += 8192;
    }
    expect(written).toBeLessThanOrEqual(72 << 10);
    pair.clock.turn();
    expect(near.drained).toBe(1);
    expect(stream.write(Buffer.alloc(1), false)).toBe(true);
  });

  test("tells who was asked to wait, also when more was written meanwhile and would have had room", () => {
    const peer = new RawPeer({ role: "client", parameters: { maxStreamId: 127, earlyWindow: 0 } });
    const stream = peer.session.open("x", { messages: false });
    const near = new Collected(stream);
    peer.send(wire.encodeAccept(1, 100));
    expect(stream.write(Buffer.alloc(70_000), false)).toBe(false);
    peer.send(wire.encodeStreamCredit(1, 20_000)); // about 50,000 are left: less than asks for a pause, more than ends one
    expect([stream.write(Buffer.alloc(1), false), near.drained]).toEqual([false, 0]);
    peer.send(wire.encodeStreamCredit(1, MiB));
    expect(near.drained).toBe(1);
  });

  test("says nothing to who broke its stream off while it stood in line", () => {
    const peer = new RawPeer({ role: "client", parameters: { maxStreamId: 127, sessionLimit: 0 } });
    const stream = peer.session.open("x", { messages: false });
    const near = new Collected(stream);
    peer.send(wire.encodeAccept(1, MiB));
    expect(stream.write(Buffer.alloc(70_000), false)).toBe(false);
    stream.reset({ reason: "cancelled" });
    peer.send(wire.encodeSessionCredit(MiB, 127));
    expect([near.drained, near.closed?.broken?.reason]).toEqual([0, "cancelled"]);
  });

  test("keeps nothing of closed streams for a peer that gives the session no credit", async () => {
    const peer = new RawPeer({
      parameters: { sessionLimit: 0 },
      open: (stream) => {
        const released = (): void => stream.release();
        stream.attach({ data: () => {}, end: () => {}, drained: () => {}, closed: released });
        stream.accept();
        stream.write(Buffer.alloc(100), false);
      },
    });
    let kept = 0;
    const collected = new FinalizationRegistry(() => void kept--);
    for (let id = 1; id < 2_000; id += 2) {
      peer.open(id);
      peer.send(wire.encodeReset(id, { code: toCode("cancelled") }));
      kept++;
      collected.register(peer.streams.pop()!, undefined);
      peer.fresh();
    }
    expect(peer.session.ready).toBe(true);
    expect(await collectUntil(10, () => kept)).toBeLessThan(10);
  });

  test("is not moved by credit that is lower than or equal to the last", () => {
    const peer = new RawPeer({ role: "client", parameters: { maxStreamId: 127, earlyWindow: 0 } });
    const stream = peer.session.open("x", { messages: false });
    peer.send(wire.encodeAccept(1, 200));
    peer.send(wire.encodeStreamCredit(1, 100), wire.encodeStreamCredit(1, 200));
    stream.write(Buffer.alloc(500), false);
    expect(peer.seen(Type.DATA).map((frame) => frame.payload.length)).toEqual([200 - FRAME_COST]);
  });
});

describe("a receiver", () => {
  test.each([
    ["a stream's limit", 256 << 10, "stream"],
    ["the session's limit", 4 * MiB, "session"],
  ])("takes up to %s and closes at one byte more", (_name, limit, which) => {
    const peer = new RawPeer({ open: (stream) => (stream.accept(), stream.pause()) });
    const count = which === "stream" ? 1 : 16;
    for (let n = 0; n < count; n++) peer.open(1 + 2 * n);
    for (let n = 0; n < count; n++) {
      const id = 1 + 2 * n;
      let left = limit / count;
      while (left > 0) {
        const length = Math.min(16_376, left - FRAME_COST);
        peer.send(dataFrame(id, Buffer.alloc(length)));
        left -= length + FRAME_COST;
        if (left > 0 && left <= FRAME_COST) throw new Error("the test's sizes do not fit");
      }
    }
    expect(peer.session.ready).toBe(true);
    if (which === "session") peer.open(1 + 2 * count);
    peer.send(dataFrame(which === "session" ? 1 + 2 * count : 1, Buffer.alloc(1)));
    expect(peer.finalCode()).toBe(toCode("flow_control"));
  });

  test("judges the header before it keeps a byte of the payload", () => {
    const peer = new RawPeer({ open: (stream) => (stream.accept(), stream.pause()), session: { parameters: { streamWindow: 16 << 10 } } });
    peer.open(1);
    const frame = dataFrame(1, Buffer.alloc(16_376));
    peer.send(frame.subarray(0, 8));
    expect(peer.finalCode()).toBe(toCode("flow_control"));
  });

  test("grants only what was consumed, at a quarter of the window", () => {
    const peer = new RawPeer();
    peer.open(1);
    const stream = peer.streams[0]!;
    const got = new Collected(stream);
    stream.pause();
    peer.fresh();
    for (let n = 0; n < 8; n++) peer.send(dataFrame(1, Buffer.alloc(16_320)));
    expect(got.chunks.length).toBe(0);
    expect(peer.seen(Type.CREDIT)).toEqual([]);
    stream.resume();
    const grants = peer.seen(Type.CREDIT).filter((frame) => frame.id === 1);
    expect(grants.map((frame) => wire.getU64(frame.payload, 0))).toEqual([(256 << 10) + 4 * 16_384, (256 << 10) + 8 * 16_384]);
  });

  interface Play {
    readonly roundTrip: number;
    readonly rate: number;
    readonly from?: number;
    readonly ms: number;
    readonly shared?: boolean;
  }

  /** Plays a sender that is held back by the window alone, over `roundTrip`, or by a reader that takes `rate` bytes a millisecond. */
  function play(window: ReceiveWindow, { roundTrip, rate, from = 0, ms, shared = false }: Play): void {
    let credit = 0;
    for (let now = from; now < from + ms; now++) {
      credit = Math.min(credit + Math.min(rate, window.size / roundTrip), window.size);
      for (; credit >= 16_384; credit -= 16_384) {
        window.receive(16_384);
        if (window.consume(16_384)) window.grant({ now, roundTrip, shared });
      }
    }
  }

  test("grows its window to 4 MiB where the round trip is what holds the sender back, and is small again after an idle minute", () => {
    const window = new ReceiveWindow({ initial: 1 << 18, max: 4 << 20 }, 1 << 18);
    play(window, { roundTrip: 50, rate: Infinity, ms: 5_000 });
    expect(window.size).toBe(4 << 20);
    for (let n = 0; n < 300; n++) {
      window.receive(16_384);
      if (window.consume(16_384)) window.grant({ now: 100_000, roundTrip: 50, shared: false });
    }
    expect(window.size).toBe(1 << 18);
  });

  test("does not grow its window where the reader is what holds the sender back: that would only make a queue", () => {
    const window = new ReceiveWindow({ initial: 1 << 18, max: 4 << 20 }, 1 << 18);
    play(window, { roundTrip: 5, rate: 40_000, ms: 5_000 });
    expect(window.size).toBeLessThanOrEqual(1 << 19);
  });

  test("grows its window to 2 MiB on a near path for a stream that is alone, and back to its first size as soon as another has bytes", () => {
    const window = new ReceiveWindow({ initial: 1 << 18, max: 4 << 20 }, 1 << 18);
    const near = { roundTrip: 0.2, rate: 700_000 };
    play(window, { ...near, ms: 100 });
    expect(window.size).toBe(2 << 20);
    play(window, { ...near, from: 100, ms: 20, shared: true });
    expect(window.size).toBe(1 << 18);
    expect(window.left).toBeLessThanOrEqual(1 << 18);
  });

  test("lets streams that share a far path have the windows that its round trip needs", () => {
    const window = new ReceiveWindow({ initial: 1 << 18, max: 4 << 20 }, 1 << 18);
    play(window, { roundTrip: 50, rate: Infinity, ms: 5_000, shared: true });
    expect(window.size).toBe(4 << 20);
  });

  test("never takes back what it granted", () => {
    const window = new ReceiveWindow({ initial: 1000, max: 8000 }, 1000);
    let limit = 0;
    let now = 0;
    for (let n = 0; n < 1000; n++) {
      window.receive(100);
      if (window.consume(100)) {
        const next = window.grant({ now: (now += n % 7 === 0 ? 70_000 : 1), roundTrip: 10, shared: n % 3 === 0 });
        expect(next).toBeGreaterThanOrEqual(limit);
        limit = next;
      }
    }
  });
});

describe("many streams", () => {
  test("have small windows where they share a near path, and a large one where a stream is alone for 10 s", () => {
    const pair = sessionPair({ open: (stream) => (new Collected(stream), stream.accept()) });
    const bulk = pair.client.open("bulk", { messages: false });
    const small = pair.client.open("small", { messages: false });
    new Collected(bulk);
    pair.clock.turn();
    const flow = (ms: number, act: () => void = () => {}): void => {
      for (let passed = 0; passed < ms; passed++) {
        bulk.write(Buffer.alloc(1 << 18), false);
        act();
        pair.clock.advance(1);
      }
    };
    const window = (): number => pair.incoming[0]!.window.size;
    flow(100);
    expect(window()).toBe(2 << 20);
    flow(30, () => small.write(Buffer.alloc(64), false));
    expect(window()).toBe(1 << 18);
    pair.clock.advance(9_000);
    flow(30);
    expect(window()).toBe(1 << 18);
    pair.clock.advance(1_000);
    flow(100);
    expect(window()).toBe(2 << 20);
  });

  test("do not deadlock when both directions are full on both sides", () => {
    const pair = sessionPair({ open: echo });
    const size = 6 * MiB;
    const all = Array.from({ length: 8 }, (_, n) => {
      const stream = pair.client.open("echo", { messages: false });
      const got = new Collected(stream);
      stream.write(Buffer.alloc(size, n), false);
      stream.closeWrite();
      return got;
    });
    pair.clock.turn();
    for (const [n, got] of all.entries()) {
      expect(got.bytes.equals(Buffer.alloc(size, n))).toBe(true);
      expect(got.closed).toEqual({ broken: undefined });
    }
  });

  test("go on beside one that nobody reads", () => {
    const pair = sessionPair();
    const stalled = pair.client.open("stalled", { messages: false });
    const busy = pair.client.open("busy", { messages: false });
    stalled.write(Buffer.alloc(MiB), false);
    busy.write(Buffer.alloc(8 * MiB), false);
    pair.clock.turn();
    pair.incoming[0]!.pause();
    new Collected(pair.incoming[0]!);
    const got = new Collected(pair.incoming[1]!);
    pair.clock.turn();
    expect(got.bytes.length).toBe(8 * MiB);
  });

  test("that are all stalled stay within the session's cap, and the worst is reset instead of stalling the others", () => {
    const pair = sessionPair({ open: (stream) => (stream.pause(), new Collected(stream), stream.accept()) });
    pair.clock.turn();
    const stalled = Array.from({ length: 256 }, () => new Collected(withBytes(pair.client.open("x", { messages: false }), MiB)));
    pair.clock.turn();
    const seen = (): number => pair.incoming.reduce((sum, stream) => sum + stream.window.pinned, 0);
    expect(seen()).toBeLessThanOrEqual(4 * MiB);
    pair.clock.advance(60_000);
    expect(seen()).toBeLessThanOrEqual(16 * MiB);
    const reset = stalled.filter((got) => got.closed?.broken?.reason === "slow_reader");
    expect(reset.length).toBeGreaterThan(0);
    expect(pair.client.ready).toBe(true);
  });
});

function withBytes<T extends { write(chunk: Uint8Array, last: boolean): boolean }>(channel: T, size: number): T {
  channel.write(Buffer.alloc(size), false);
  return channel;
}

describe("a path of 100 Mbit/s with a round trip of 100 ms", () => {
  test("is filled to at least 80 % once the windows have grown", () => {
    // A link in fake time: bytes leave at 12,500 a millisecond and arrive 50 ms later; answers take 50 ms back.
    const pair = sessionPair();
    const { clock } = pair;
    for (const way of [pair.toGateway, pair.toClient]) {
      const { other } = way;
      let freeAt = 0;
      way.write = (chunk, written) => {
        const copy = Buffer.from(chunk);
        freeAt = Math.max(freeAt, clock.now()) + copy.length / 12_500;
        clock.after(freeAt - clock.now(), written);
        clock.after(freeAt - clock.now() + 50, () => other?.receive(copy));
      };
    }
    const stream = pair.client.open("far", { messages: false });
    stream.attach({ data: () => {}, end: () => {}, drained: () => fill(), closed: () => {} });
    const fill = (): void => {
      while (stream.write(Buffer.alloc(64 << 10), false));
    };
    fill();
    clock.advance(300);
    let received = 0;
    pair.incoming[0]!.attach({ data: (chunk) => void (received += chunk.length), end: () => {}, drained: () => {}, closed: () => {} });
    clock.advance(5_000);
    const before = received;
    clock.advance(5_000);
    expect((received - before) / (12_500 * 5_000)).toBeGreaterThan(0.8);
  });
});
