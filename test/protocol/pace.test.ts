import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { dataFrame, RawPeer } from "../support/raw-peer.ts";
import { Collected } from "../support/session-pair.ts";

const TURN = 64 << 10;

/** A session with `count` streams that are read at once. `feed` gives it frames without an end of the turn. */
function reading(count: number): { readonly peer: RawPeer; feed(frames: readonly Buffer[]): void } {
  const peer = new RawPeer({ open: (stream) => (stream.accept(), new Collected(stream)) });
  for (let n = 0; n < count; n++) peer.open(1 + 2 * n);
  const feed = (frames: readonly Buffer[]): void => {
    for (const frame of frames) peer.session.receive(frame);
  };
  return { peer, feed };
}

const large = (id: number, bytes: number): Buffer[] =>
  Array.from({ length: bytes >>> 14 }, () => dataFrame(id, Buffer.alloc((16 << 10) - 64)));
const little = (id: number): Buffer => dataFrame(id, "tick");

describe("a session reads on for as long as there is something", () => {
  test("from one stream alone", () => {
    const { peer, feed } = reading(1);
    feed(large(1, 2 << 20));
    expect(peer.rests).toBe(0);
  });

  test("from streams that say much in turn, though what a turn leaves over is little", () => {
    const { peer, feed } = reading(8);
    for (let round = 0; round < 16; round++)
      for (let n = 0; n < 8; n++) feed(round % 4 === 3 ? [little(1 + 2 * n)] : large(1 + 2 * n, 16 << 10));
    expect(peer.rests).toBe(0);
  });

  test("from streams that all say little", () => {
    const { peer, feed } = reading(8);
    for (let round = 0; round < 4_000; round++) feed([little(1 + 2 * (round % 8))]);
    expect(peer.rests).toBe(0);
  });
});

describe("beside a stream that says little", () => {
  test("no more than 64 KiB and a chunk are read in a turn, and as much again in the next", () => {
    const { peer, feed } = reading(2);
    feed([...large(1, 32 << 10), little(3), ...large(1, 16 << 10)]);
    peer.clock.turn();
    expect(peer.rests).toBe(0);
    for (let turns = 1; turns <= 3; turns++) {
      feed(large(1, TURN - (16 << 10)));
      expect(peer.rests).toBe(turns - 1);
      feed(large(1, 256 << 10));
      expect(peer.rests).toBe(turns);
      peer.clock.turn();
    }
  });

  test("reading goes on as before once 64 MiB came and it said nothing", () => {
    const { peer, feed } = reading(2);
    feed([...large(1, 32 << 10), little(3), ...large(1, 16 << 10)]);
    for (let mib = 0; mib < 64; mib++) {
      feed(large(1, 1 << 20));
      peer.clock.turn();
    }
    const before = peer.rests;
    expect(before).toBeGreaterThan(60);
    feed(large(1, 1 << 20));
    expect(peer.rests).toBe(before);
  });
});
