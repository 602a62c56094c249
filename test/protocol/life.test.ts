import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { toCode } from "../../src/protocol/code.ts";
import * as wire from "../../src/protocol/frame.ts";
import { Flag, Type } from "../../src/protocol/frame.ts";
import { dataFrame, RawPeer, rawFrame } from "../support/raw-peer.ts";
import { Collected, sessionPair } from "../support/session-pair.ts";

describe("heartbeat", () => {
  test("pings after a silent heartbeat and gives a black hole up after four", () => {
    const peer = new RawPeer();
    peer.fresh();
    peer.clock.advance(30_000); // what came during the handshake counts as life
    expect(peer.seen(Type.PING)).toEqual([]);
    for (let beat = 0; beat < 3; beat++) {
      peer.clock.advance(30_000);
      expect(peer.seen(Type.PING).length).toBe(1);
    }
    expect(peer.destroyed).toBe(false);
    peer.clock.advance(30_000);
    expect(peer.destroyed).toBe(true);
    expect(peer.closed?.broken?.reason).toBe("session_lost");
    expect(peer.clock.waiting).toBe(0);
  });

  test("lets any byte count as life", () => {
    const peer = new RawPeer();
    for (let n = 0; n < 20; n++) {
      peer.clock.advance(30_000);
      peer.send(rawFrame(Type.PING, 0, 0, Buffer.alloc(8)));
    }
    expect(peer.session.ready).toBe(true);
  });

  test("keeps two healthy ends together for a day", () => {
    const pair = sessionPair();
    pair.clock.advance(86_400_000);
    expect(pair.client.ready && pair.gateway.ready).toBe(true);
  });

  test("echoes what a PING carries", () => {
    const peer = new RawPeer();
    peer.fresh();
    peer.send(rawFrame(Type.PING, 0, 0, "opaque!!"));
    expect(peer.seen(Type.PONG).map((frame) => frame.payload.toString())).toEqual(["opaque!!"]);
  });

  test("cuts a peer that takes nothing for a heartbeat", () => {
    const pair = sessionPair({ open: (stream) => (new Collected(stream), stream.accept(), stream.write(Buffer.alloc(1 << 20), false)) });
    pair.clock.turn();
    pair.toClient.held = true;
    pair.client.open("x", { messages: false });
    pair.clock.advance(61_000);
    expect(pair.closed.gateway?.broken?.reason).toBe("slow_reader");
  });

  test("spares a peer for which something waits only since a moment ago", () => {
    const pair = sessionPair();
    pair.clock.turn();
    const stream = pair.client.open("x", { messages: false });
    new Collected(stream);
    pair.clock.turn();
    new Collected(pair.incoming[0]!);
    pair.clock.advance(59_999);
    pair.toGateway.held = true;
    stream.write(Buffer.from("just now"), false);
    pair.clock.advance(2);
    expect(pair.closed.client).toBe(undefined);
    pair.toGateway.release();
    pair.clock.advance(120_000);
    expect(pair.client.ready).toBe(true);
  });

  test("measures the round trip once windows are in use, and believes the shortest of four", () => {
    const peer = new RawPeer();
    peer.open(1);
    new Collected(peer.streams[0]!);
    expect(peer.seen(Type.PING)).toEqual([]);
    for (let n = 0; n < 5; n++) peer.send(dataFrame(1, Buffer.alloc(16_000)));
    for (const ms of [90, 40, 60, 70]) {
      const [ping] = peer.seen(Type.PING);
      expect(peer.session.roundTripMs).toBe(0.1);
      peer.clock.advance(ms);
      peer.send(wire.encodePing(Type.PONG, ping!.payload));
    }
    expect(peer.seen(Type.PING)).toEqual([]);
    expect(peer.session.roundTripMs).toBe(40);
  });
});

describe("a peer that wants to cost much", () => {
  const floods: [string, (n: number) => Buffer][] = [
    ["PINGs", () => rawFrame(Type.PING, 0, 0, Buffer.alloc(8))],
    ["PONGs", () => rawFrame(Type.PONG, 0, 0, Buffer.alloc(8))],
    ["session credits", (n) => wire.encodeSessionCredit(1e9 + n, 0)],
    ["stream credits", (n) => wire.encodeStreamCredit(1, 1e6 + n)],
    ["stale credits", () => wire.encodeStreamCredit(1, 1)],
    ["RESETs of closed streams", () => wire.encodeReset(3, { code: 19 })],
    ["GOAWAYs", () => wire.encodeGoaway({ lastStreamId: 0, code: 0, grace: 0, text: "", final: false })],
    ["ignorable frames", () => rawFrame(0x7f, 0, 0, "?")],
  ];
  test.each(floods)("with %s is cut for excessive load after about a thousand", (_name, frame) => {
    const peer = new RawPeer();
    peer.open(1);
    peer.open(3);
    for (const stream of peer.streams) new Collected(stream);
    peer.send(wire.encodeReset(3, { code: 19 }));
    let count = 0;
    while (peer.session.ready && count < 5000) peer.send(frame(count++));
    expect(count).toBeLessThanOrEqual(1100);
    expect(peer.finalCode()).toBe(toCode("excessive_load"));
  });

  test("by opening and resetting (rapid reset) runs out of places and tokens", () => {
    const peer = new RawPeer({ open: () => {} });
    let opened = 0;
    for (let id = 1; peer.session.ready && opened < 10_000; id += 2) {
      peer.open(id);
      peer.send(wire.encodeReset(id, { code: 19 }));
      opened++;
    }
    expect(opened).toBeLessThanOrEqual(65);
  });

  test("by empty frames pays for each", () => {
    const peer = new RawPeer({ open: (stream) => (stream.accept(), stream.pause()) });
    peer.open(1, { messages: true });
    let count = 0;
    while (peer.session.ready && count < 10_000) {
      peer.send(dataFrame(1, "", Flag.END_MESSAGE));
      count++;
    }
    expect(count).toBe((256 << 10) / 64 + 1);
    expect(peer.finalCode()).toBe(toCode("flow_control"));
  });

  test("by not reading our answers is cut at 256 KiB of control frames", () => {
    const pair = sessionPair({ open: (stream) => (new Collected(stream), stream.accept(), stream.write(Buffer.alloc(1 << 20), false)) });
    pair.clock.turn();
    pair.toClient.held = true;
    pair.client.open("x", { messages: false });
    pair.clock.turn();
    for (let n = 0; n < 40_000 && pair.closed.gateway === undefined; n++) {
      pair.gateway.receive(rawFrame(Type.PING, 0, 0, Buffer.alloc(8)));
      pair.clock.advance(6);
    }
    expect(["slow_reader", "excessive_load"]).toContain(pair.closed.gateway?.broken?.reason);
  });

  test.each([
    ["an unknown type", rawFrame(0x33, 0, 0, "x")],
    ["REGISTER, which is reserved", rawFrame(Type.REGISTER, 0, 0, Buffer.alloc(20))],
    ["ACK, which is reserved", rawFrame(Type.ACK, 0, 0, Buffer.alloc(8))],
    ["a PING on a stream", rawFrame(Type.PING, 0, 1, Buffer.alloc(8))],
    ["a PING of 7 bytes", rawFrame(Type.PING, 0, 0, Buffer.alloc(7))],
    ["a GOAWAY that is cut", rawFrame(Type.GOAWAY, 0, 0, Buffer.alloc(11))],
    ["a CREDIT beyond 2^53", rawFrame(Type.CREDIT, 0, 1, Buffer.alloc(8, 0xff))],
    ["a CREDIT of 12 bytes on a stream", rawFrame(Type.CREDIT, 0, 1, Buffer.alloc(12))],
    ["a CREDIT for a stream that is not there", wire.encodeStreamCredit(9, 5)],
    ["a RESET for a stream that is not there", wire.encodeReset(9, { code: 1 })],
    ["an ACCEPT of a stream that it opened itself", wire.encodeAccept(1, 5)],
    ["an ACCEPT of a stream that is not there", wire.encodeAccept(2, 5)],
    ["a RESET with a reason that is not UTF-8", rawFrame(Type.RESET, 0, 1, Buffer.concat([Buffer.alloc(8), Buffer.from([0xc3, 0x28])]))],
    ["a RESET with a line break in its reason", rawFrame(Type.RESET, 0, 1, Buffer.concat([Buffer.alloc(8), Buffer.from("a\nb")]))],
  ])("or sends %s is told so and cut", (_name, frame) => {
    const peer = new RawPeer();
    peer.open(1);
    peer.send(frame);
    expect([toCode("protocol_error"), toCode("frame_size")]).toContain(peer.finalCode());
    peer.clock.advance(2_000);
    expect(peer.destroyed).toBe(true);
  });

  test("cannot say more after it was cut", () => {
    const peer = new RawPeer();
    peer.send(rawFrame(0x33, 0, 0, "x"));
    peer.open(1);
    expect(peer.streams).toEqual([]);
  });
});

describe("fairness", () => {
  /** Streams whose writers always have more; the wire takes 64 KiB at a time. Returns bytes that each got through. */
  function race(weights: readonly number[], rounds: number): number[] {
    const pair = sessionPair();
    pair.clock.turn();
    const streams = weights.map((weight) => {
      const stream = pair.client.open("x", { messages: false, weight });
      const fill = (): void => {
        while (stream.write(Buffer.alloc(32 << 10), false));
      };
      stream.attach({ data: () => {}, end: () => {}, drained: fill, closed: () => {} });
      return { stream, fill };
    });
    pair.clock.turn();
    const got = weights.map(() => 0);
    for (const [n, stream] of pair.incoming.entries()) {
      stream.attach({ data: (chunk) => void (got[n]! += chunk.length), end: () => {}, drained: () => {}, closed: () => {} });
    }
    pair.clock.turn();
    pair.toGateway.held = true; // everyone queues
    for (const { fill } of streams) fill();
    const start = [...got];
    let left = rounds;
    const write = pair.toGateway.write.bind(pair.toGateway);
    pair.toGateway.write = (chunk, written) => {
      if (left-- > 0) write(chunk, written);
    };
    pair.toGateway.release();
    pair.clock.turn();
    return got.map((bytes, n) => bytes - start[n]!);
  }

  test("gives streams of weights 1 to 4 their shares", () => {
    const [one, four] = race([16, 64], 200);
    expect(four! / one!).toBeGreaterThan(3.2);
    expect(four! / one!).toBeLessThan(4.8);
  });

  test("gives one stream beside 200 others as much as each of them", () => {
    const shares = race(
      Array.from({ length: 201 }, () => 16),
      800,
    );
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    expect(shares[0]! / mean).toBeGreaterThan(0.7);
    expect(Math.max(...shares) / mean).toBeLessThan(1.5);
  });

  test.each([1, 60])("lets a small message pass %i bulk streams within one slab", (count) => {
    const pair = sessionPair();
    pair.clock.turn();
    const bulks = Array.from({ length: count }, () => pair.client.open("bulk", { messages: false }));
    const small = pair.client.open("small", { messages: true });
    pair.clock.turn();
    for (const stream of pair.incoming) new Collected(stream);
    pair.clock.turn();
    pair.toGateway.held = true;
    for (const bulk of bulks) while (bulk.write(Buffer.alloc(64 << 10), false)) pair.clock.turn();
    small.write(Buffer.from("tick"), true);
    const before = pair.toGateway.bytes;
    pair.toGateway.release();
    pair.clock.turn();
    const after = Buffer.concat(pair.toGateway.sent).subarray(before);
    expect(after.indexOf("tick")).toBeGreaterThanOrEqual(0);
    expect(after.indexOf("tick")).toBeLessThan(128 << 10);
  });
});
