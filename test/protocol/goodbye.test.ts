import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { Collected, sessionPair, type Pair } from "../support/session-pair.ts";
import type { Stream } from "../../src/protocol/stream.ts";

/** A stream that was opened and accepted, from both sides. */
function opened(pair: Pair): { readonly near: Stream; readonly far: Stream; readonly got: Collected; readonly asked: Collected } {
  pair.clock.turn();
  const near = pair.client.open("echo", { messages: false });
  pair.clock.turn();
  const far = pair.incoming.at(-1) as Stream;
  return { near, far, got: new Collected(near), asked: new Collected(far) };
}

const answer = Buffer.alloc(100_000, "answer");

/** A question and its whole answer, which the client has not read when the gateway drains and says goodbye. */
function answeredUnread(): Pair & ReturnType<typeof opened> {
  const pair = sessionPair();
  const stream = opened(pair);
  stream.near.pause();
  stream.near.closeWrite();
  pair.clock.turn();
  stream.far.write(answer, false);
  stream.far.closeWrite();
  pair.gateway.drain(10_000);
  pair.clock.turn();
  stream.far.release();
  pair.clock.turn();
  return { ...pair, ...stream };
}

/** A question and its whole answer of 50,000 bytes, which the transport has not sent when the gateway drains and says goodbye. */
function answeredUnsent(): Pair & ReturnType<typeof opened> {
  const pair = sessionPair();
  const stream = opened(pair);
  stream.near.closeWrite();
  pair.clock.turn();
  pair.toClient.held = true;
  stream.far.write(answer.subarray(0, 50_000), false);
  stream.far.closeWrite();
  pair.gateway.drain(60_000);
  pair.clock.turn();
  stream.far.release();
  return { ...pair, ...stream };
}

describe("after an orderly goodbye", () => {
  test("what has come whole is read to its end, and only then is the session closed", () => {
    const { near, got, closed, clock, toClient } = answeredUnread();
    clock.advance(5_000);
    expect([toClient.destroyed, closed.gateway?.broken, got.closed, closed.client]).toEqual([true, undefined, undefined, undefined]);
    near.resume();
    clock.turn();
    expect([got.bytes.equals(answer), got.ended, got.closed]).toEqual([true, true, { broken: undefined }]);
    expect(closed.client).toEqual({ broken: undefined });
    expect(clock.waiting).toBe(0);
  });

  test("what nobody reads within 30 s breaks, never ends", () => {
    const { got, closed, clock } = answeredUnread();
    clock.advance(40_000);
    expect([got.ended, got.closed?.broken?.reason, closed.client]).toEqual([false, "slow_reader", { broken: undefined }]);
    expect(clock.waiting).toBe(0);
  });

  test("our own close breaks what is still unread", () => {
    const { got, closed, client, clock } = answeredUnread();
    client.close();
    clock.advance(2_000);
    expect([got.ended, got.closed?.broken?.reason, closed.client]).toEqual([false, "session_lost", { broken: undefined }]);
    expect(clock.waiting).toBe(0);
  });

  test("a stream of which something is missing breaks at once", () => {
    const pair = sessionPair();
    const { far, got } = opened(pair);
    far.write(answer, false);
    far.closeWrite(); // but the client's own direction is open
    pair.clock.turn();
    pair.gateway.close();
    pair.clock.turn();
    expect(got.closed?.broken?.reason).toBe("session_lost");
  });

  test("bytes that the transport has not sent yet still leave, for 30 s at most", () => {
    for (const sends of [true, false]) {
      const { got, ...pair } = answeredUnsent();
      pair.clock.advance(20_000);
      expect([pair.toClient.destroyed, got.bytes.length]).toEqual([false, 0]);
      if (sends) {
        pair.toClient.release();
        pair.clock.advance(2_000);
        expect([got.bytes.length, got.ended, got.closed]).toEqual([50_000, true, { broken: undefined }]);
      } else {
        pair.clock.advance(12_000);
        expect([pair.toClient.destroyed, pair.closed.gateway]).toEqual([true, { broken: undefined }]);
      }
    }
  });

  test("who closes again with a reason has no more patience", () => {
    const pair = answeredUnsent();
    pair.clock.turn();
    pair.gateway.close({ reason: "draining" });
    expect(pair.toClient.destroyed).toBe(true);
  });
});
