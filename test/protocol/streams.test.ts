import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import type { Reason } from "../../src/base/reason.ts";
import { toCode } from "../../src/protocol/code.ts";
import * as wire from "../../src/protocol/frame.ts";
import { Flag, Type } from "../../src/protocol/frame.ts";
import type { Stream } from "../../src/protocol/stream.ts";
import { dataFrame, RawPeer, rawFrame } from "../support/raw-peer.ts";
import { Collected, sessionPair } from "../support/session-pair.ts";

/** An opened stream, both ends collected. */
function opened(messages = false) {
  const pair = sessionPair();
  const stream = pair.client.open("db", { messages });
  const near = new Collected(stream);
  pair.clock.turn();
  const other = pair.incoming[0] as Stream;
  const far = new Collected(other);
  pair.clock.turn();
  return { ...pair, stream, near, other, far };
}

describe("the end of a stream", () => {
  test.each(["near", "far"] as const)("comes to each side on its own when %s closes first, and the other direction goes on", (first) => {
    const { stream, other, near, far, clock, client, gateway } = opened();
    const [early, late] = first === "near" ? [stream, other] : [other, stream];
    const [earlyGot, lateGot] = first === "near" ? [near, far] : [far, near];
    early.write(Buffer.from("question"), false);
    early.closeWrite();
    clock.turn();
    expect(lateGot.ended).toBe(true);
    expect(lateGot.closed).toBeUndefined();
    late.write(Buffer.from("a whole answer after the half-close"), false);
    clock.turn();
    expect(earlyGot.bytes.toString()).toBe("a whole answer after the half-close");
    late.closeWrite();
    clock.turn();
    expect(near.closed).toEqual({ broken: undefined });
    expect(far.closed).toEqual({ broken: undefined });
    expect(client.streams.size + gateway.streams.size).toBe(0);
  });

  test("travels with the last bytes as well as alone", () => {
    const peer = new RawPeer();
    peer.open(1);
    peer.open(3);
    const [one, two] = peer.streams.map((stream) => new Collected(stream));
    peer.send(dataFrame(1, "with", Flag.FIN), dataFrame(3, "alone"), dataFrame(3, "", Flag.FIN));
    expect([one!.bytes.toString(), one!.ended, two!.bytes.toString(), two!.ended]).toEqual(["with", true, "alone", true]);
  });

  test("waits behind what a paused reader has not taken", () => {
    const { stream, other, far, clock } = opened();
    other.pause();
    stream.write(Buffer.from("kept"), false);
    stream.closeWrite();
    clock.turn();
    expect([far.chunks.length, far.ended]).toEqual([0, false]);
    other.resume();
    expect([far.bytes.toString(), far.ended]).toEqual(["kept", true]);
  });

  test("is a break, never an end, when the stream is reset, and unsent bytes are dropped", () => {
    const { stream, near, far, clock } = opened();
    stream.write(Buffer.from("lost"), false);
    stream.reset({ reason: "cancelled", detail: "no more wanted" });
    clock.turn();
    expect(far.closed?.broken).toMatchObject({ reason: "cancelled", detail: "no more wanted" });
    expect(far.ended).toBe(false);
    expect(near.closed?.broken?.reason).toBe("cancelled");
  });

  test("is a break when the connection goes away", () => {
    const { near, far, clock, toClient, toGateway } = opened();
    toClient.destroy();
    toGateway.destroy();
    clock.turn();
    expect(near.closed?.broken?.reason).toBe("session_lost");
    expect(far.closed?.broken?.reason).toBe("session_lost");
    expect(near.ended || far.ended).toBe(false);
  });

  test("survives RESETs that cross", () => {
    const { stream, other, client, gateway, clock, near, far } = opened();
    stream.reset({ reason: "cancelled" });
    other.reset({ reason: "target_reset" });
    clock.turn();
    expect(near.closed?.broken?.reason).toBe("cancelled");
    expect(far.closed?.broken?.reason).toBe("target_reset");
    expect(client.ready && gateway.ready).toBe(true);
  });

  test("can be a RESET in every state", () => {
    for (const state of ["pending", "open", "half-closed by us", "half-closed by them", "closed"]) {
      const peer = new RawPeer(state === "pending" ? { open: () => {} } : {});
      peer.open(1);
      const got = new Collected(peer.streams[0]!);
      if (state === "half-closed by us" || state === "closed") peer.streams[0]!.closeWrite();
      if (state === "half-closed by them" || state === "closed") peer.send(dataFrame(1, "", Flag.FIN));
      peer.send(wire.encodeReset(1, { code: toCode("cancelled") }));
      expect([state, got.closed?.broken?.reason]).toEqual([state, state === "closed" ? undefined : "cancelled"]);
      expect([state, peer.session.ready]).toEqual([state, true]);
    }
  });
});

describe("OPEN", () => {
  const violations: [string, (peer: RawPeer) => void, Reason][] = [
    ["id 0", (peer) => peer.send(rawFrame(Type.OPEN, 0, 0, Buffer.alloc(20))), "protocol_error"],
    ["an even id", (peer) => peer.open(2), "protocol_error"],
    ["a gap", (peer) => (peer.open(1), peer.open(5)), "protocol_error"],
    ["an id again", (peer) => (peer.open(1), peer.open(1)), "protocol_error"],
    ["the reserved bit", (peer) => peer.send(rawFrame(Type.OPEN, 0, 0x80000001, Buffer.alloc(20))), "protocol_error"],
    ["weight 0", (peer) => peer.open(1, { weight: 0 }), "protocol_error"],
    ["mode 2", (peer) => peer.send(rawFrame(Type.OPEN, 0, 1, Buffer.from([0, 0, 1, 0, 2, 16, 0, 1, 0x61]))), "protocol_error"],
    [
      "a name longer than its frame",
      (peer) => peer.send(rawFrame(Type.OPEN, 0, 1, Buffer.from([0, 0, 1, 0, 0, 16, 0, 9, 0x61]))),
      "protocol_error",
    ],
    [
      "a name that is not UTF-8",
      (peer) => peer.send(rawFrame(Type.OPEN, 0, 1, Buffer.from([0, 0, 1, 0, 0, 16, 0, 1, 0xff]))),
      "protocol_error",
    ],
    ["a name with a control character", (peer) => peer.open(1, { target: "a\u0007" }), "protocol_error"],
    ["critical metadata", (peer) => peer.open(1, { metadata: [{ key: 0x8001, value: Buffer.alloc(0) }] }), "protocol_error"],
    ["more metadata than 4 KiB", (peer) => peer.send(rawFrame(Type.OPEN, 0, 1, Buffer.alloc(4400, 1))), "frame_size"],
    ["a flag", (peer) => peer.send(rawFrame(Type.OPEN, 1, 1, Buffer.from([0, 0, 1, 0, 0, 16, 0, 1, 0x61]))), "protocol_error"],
  ];
  test.each(violations)("with %s ends the connection", (_name, act, reason) => {
    const peer = new RawPeer();
    act(peer);
    expect(peer.finalCode()).toBe(toCode(reason));
  });

  test("over the credit ends the connection, up to the credit not", () => {
    const peer = new RawPeer({ open: () => {} });
    for (let id = 1; id <= 127; id += 2) peer.open(id);
    expect(peer.session.ready).toBe(true);
    peer.open(129);
    expect(peer.finalCode()).toBe(toCode("flow_control"));
  });

  test("credit comes back only when the back end is torn down", () => {
    const peer = new RawPeer({ open: () => {} });
    for (let id = 1; id <= 127; id += 2) peer.open(id);
    for (const stream of peer.streams) stream.reset({ reason: "forbidden" });
    expect(peer.seen(Type.CREDIT).filter((frame) => frame.id === 0 && frame.payload.readUInt32BE(8) > 127)).toEqual([]);
    for (const stream of peer.streams) stream.release();
    const credit = peer.seen(Type.CREDIT).at(-1);
    expect(credit?.payload.readUInt32BE(8)).toBe(255);
  });

  test("lets 256 streams be open at once, and the next waits for a place", () => {
    const pair = sessionPair();
    pair.clock.turn();
    const streams = Array.from({ length: 300 }, () => pair.client.open("x", { messages: false }));
    pair.clock.turn();
    expect(pair.incoming.length).toBe(256);
    for (const stream of streams.slice(0, 44)) stream.reset({ reason: "cancelled" });
    pair.clock.turn();
    expect(pair.incoming.length).toBe(256);
    for (const stream of pair.incoming.slice(0, 44)) stream.release();
    pair.clock.turn();
    expect(pair.incoming.length).toBe(300);
  });

  test.each(["forbidden", "rate_limited", "target_unavailable", "target_timeout", "draining", "too_many_pipes"] as Reason[])(
    "refused with %s tells the opener so, with the time to wait, and closes nothing else",
    (reason) => {
      const pair = sessionPair({ open: (stream) => stream.reset({ reason, retryAfter: 1234 }) });
      const got = new Collected(pair.client.open("x", { messages: false }));
      pair.clock.turn();
      expect(got.closed?.broken).toEqual({ reason, retryAfter: 1234 });
      expect(pair.client.ready).toBe(true);
    },
  );

  test("of an unknown target looks like a forbidden one on the wire", () => {
    const pair = sessionPair({ open: (stream) => stream.reset({ reason: "unknown_target" }) });
    const got = new Collected(pair.client.open("x", { messages: false }));
    pair.clock.turn();
    expect(got.closed?.broken).toEqual({ reason: "forbidden" });
  });

  test("carries weight, mode, target and metadata", () => {
    const pair = sessionPair();
    pair.client.open("Zürich", { messages: true, weight: 200, metadata: [{ key: 0x7001, value: Buffer.from("m") }] });
    pair.clock.turn();
    expect(pair.incoming[0]).toMatchObject({
      target: "Zürich",
      messages: true,
      weight: 200,
      metadata: [{ key: 0x7001, value: Buffer.from("m") }],
    });
  });
});

describe("DATA", () => {
  const violations: [string, (peer: RawPeer) => void, Reason][] = [
    ["on stream 0", (peer) => peer.send(dataFrame(0, "x")), "protocol_error"],
    ["on a stream that was never opened", (peer) => peer.send(dataFrame(9, "x")), "protocol_error"],
    ["on an id of the gateway's own", (peer) => peer.send(dataFrame(2, "x")), "protocol_error"],
    ["after FIN", (peer) => peer.send(dataFrame(1, "x", Flag.FIN), dataFrame(1, "y")), "protocol_error"],
    [
      "after both ends",
      (peer) => (peer.streams[0]!.closeWrite(), peer.send(dataFrame(1, "", Flag.FIN)), peer.send(dataFrame(1, "y"))),
      "flow_control",
    ],
    ["empty without a flag", (peer) => peer.send(dataFrame(1, "")), "protocol_error"],
    ["with an undefined flag", (peer) => peer.send(dataFrame(1, "x", 0x10)), "protocol_error"],
    ["with END_MESSAGE on bytes", (peer) => peer.send(dataFrame(1, "x", Flag.END_MESSAGE)), "protocol_error"],
    ["larger than agreed", (peer) => peer.send(dataFrame(1, Buffer.alloc(16_377))), "frame_size"],
  ];
  test.each(violations)("%s ends the connection", (_name, act, reason) => {
    const peer = new RawPeer();
    peer.open(1);
    for (const stream of peer.streams) new Collected(stream);
    act(peer);
    expect(peer.finalCode()).toBe(toCode(reason));
  });

  test("before ACCEPT is a violation of the accepter, early data of the opener is not", () => {
    const client = new RawPeer({ role: "client", parameters: { maxStreamId: 127 } });
    client.session.open("x", { messages: false });
    client.send(dataFrame(1, "too soon"));
    expect(client.finalCode()).toBe(toCode("protocol_error"));

    const gateway = new RawPeer({ open: () => {} });
    gateway.open(1);
    gateway.send(dataFrame(1, "early"));
    const got = new Collected(gateway.streams[0]!);
    gateway.streams[0]!.accept();
    gateway.clock.turn();
    expect(got.bytes.toString()).toBe("early");
  });

  test("beyond the early window before ACCEPT ends the connection", () => {
    const peer = new RawPeer({ open: () => {} });
    peer.open(1);
    peer.send(dataFrame(1, Buffer.alloc(16_320 - 64)));
    expect(peer.session.ready).toBe(true);
    peer.send(dataFrame(1, Buffer.alloc(1)));
    expect(peer.finalCode()).toBe(toCode("flow_control"));
  });

  test("on its way when we reset is forgiven once, and its session credit given back", () => {
    const peer = new RawPeer();
    peer.open(1);
    peer.streams[0]!.reset({ reason: "cancelled" });
    for (let n = 0; n < 15; n++) peer.send(dataFrame(1, Buffer.alloc(16_376)));
    expect(peer.session.ready).toBe(true);
    peer.send(dataFrame(1, Buffer.alloc(16_376)));
    expect(peer.finalCode()).toBe(toCode("flow_control"));
  });
});

describe("messages", () => {
  test("keep their boundaries whatever the frames, the empty one included", () => {
    const peer = new RawPeer();
    peer.open(1, { messages: true });
    const got = new Collected(peer.streams[0]!);
    peer.send(
      dataFrame(1, "one", Flag.END_MESSAGE),
      dataFrame(1, "t"),
      dataFrame(1, "w"),
      dataFrame(1, "o", Flag.END_MESSAGE),
      dataFrame(1, "", Flag.END_MESSAGE),
      dataFrame(1, "end"),
      dataFrame(1, "", Flag.END_MESSAGE | Flag.FIN),
    );
    expect(got.messages.map(String)).toEqual(["one", "two", "", "end"]);
    expect(got.ended).toBe(true);
  });

  test("survive being cut anew by a small payload size, both ways", () => {
    const pair = sessionPair({ client: { parameters: { maxPayload: 1024 } }, gateway: { parameters: { maxPayload: 1500 } } });
    pair.clock.turn();
    const stream = pair.client.open("x", { messages: true });
    const near = new Collected(stream);
    pair.clock.turn();
    const far = new Collected(pair.incoming[0]!);
    const sizes = [0, 1, 1023, 1024, 1025, 1500, 1501, 100_000, 7];
    for (const size of sizes) {
      stream.write(Buffer.alloc(size, size), true);
      pair.incoming[0]!.write(Buffer.alloc(size, size + 1), true);
    }
    pair.clock.turn();
    expect(far.messages.map((message) => message.length)).toEqual(sizes);
    expect(near.messages.map((message) => message.length)).toEqual(sizes);
    expect(far.messages.every((message, index) => message.equals(Buffer.alloc(sizes[index]!, sizes[index])))).toBe(true);
  });

  test.each([
    ["with its last bytes", [["half", Flag.FIN]]],
    [
      "after a part",
      [
        ["half", 0],
        ["", Flag.FIN],
      ],
    ],
  ] as [string, [string, number][]][])("cut by FIN %s end the connection", (_name, frames) => {
    const peer = new RawPeer();
    peer.open(1, { messages: true });
    new Collected(peer.streams[0]!);
    peer.send(...frames.map(([text, flags]) => dataFrame(1, text, flags)));
    expect(peer.finalCode()).toBe(toCode("protocol_error"));
  });

  test("over the limit end their stream with MESSAGE_TOO_LARGE, at the limit they pass", () => {
    const peer = new RawPeer({ session: { parameters: { maxMessage: 100 } } });
    peer.open(1, { messages: true });
    const got = new Collected(peer.streams[0]!);
    peer.send(dataFrame(1, Buffer.alloc(60)), dataFrame(1, Buffer.alloc(40), Flag.END_MESSAGE));
    expect(got.messages.length).toBe(1);
    peer.send(dataFrame(1, Buffer.alloc(60)), dataFrame(1, Buffer.alloc(41), Flag.END_MESSAGE));
    expect(got.closed?.broken?.reason).toBe("message_too_large");
    expect(peer.seen(Type.RESET)[0]?.payload.readUInt32BE(0)).toBe(toCode("message_too_large"));
    expect(peer.session.ready).toBe(true);
  });
});

describe("the end of a session", () => {
  test("by draining lets open streams finish, refuses new ones, then closes cleanly", () => {
    const { client, gateway, stream, other, far, clock, closed, near } = opened();
    gateway.drain(30_000);
    clock.turn();
    const late = new Collected(client.open("x", { messages: false }));
    clock.turn();
    expect(late.closed?.broken?.reason).toBe("draining");
    stream.write(Buffer.from("still flows"), false);
    stream.closeWrite();
    other.closeWrite();
    clock.turn();
    expect(far.bytes.toString()).toBe("still flows");
    expect(near.closed).toEqual({ broken: undefined });
    other.release();
    clock.advance(2_000);
    expect(closed).toEqual({ client: { broken: undefined }, gateway: { broken: undefined } });
  });

  test("comes with DRAINING to streams that do not finish in time", () => {
    const { gateway, near, far, clock, closed } = opened();
    gateway.drain(5_000);
    clock.advance(4_999);
    expect(near.closed).toBeUndefined();
    clock.advance(2_000);
    expect(near.closed?.broken?.reason).toBe("draining");
    expect(far.closed?.broken?.reason).toBe("draining");
    expect(closed.client?.broken?.reason).toBe("draining");
  });

  test("by close is orderly for both and leaves no timer", () => {
    const { client, clock, closed } = opened();
    client.close();
    clock.advance(2_000);
    expect(closed).toEqual({ client: { broken: undefined }, gateway: { broken: undefined } });
    expect(clock.waiting).toBe(0);
  });

  test("carries the reason to the other side", () => {
    const { gateway, clock, closed, near } = opened();
    gateway.close({ reason: "revoked", detail: "serial 12" });
    clock.advance(2_000);
    expect(closed.client?.broken).toEqual({ reason: "revoked", detail: "serial 12" });
    expect(near.closed?.broken?.reason).toBe("revoked");
  });

  test("carries its reason also when the socket is full", () => {
    const pair = sessionPair({ open: (stream) => (new Collected(stream), stream.accept(), stream.write(Buffer.alloc(1 << 20), false)) });
    pair.clock.turn();
    const near = new Collected(pair.client.open("x", { messages: false }));
    pair.toClient.held = true;
    pair.clock.turn();
    pair.gateway.close({ reason: "revoked" });
    pair.clock.turn();
    pair.toClient.release();
    pair.clock.advance(2_000);
    expect(pair.closed.client?.broken?.reason).toBe("revoked");
    expect(near.closed?.broken?.reason).toBe("revoked");
  });

  test("does not tell the peer the detail of an internal fault", () => {
    const peer = new RawPeer({
      open: () => {
        throw new Error("secret path /etc/x");
      },
    });
    peer.open(1);
    const goaway = peer.fresh().find((frame) => frame.type === Type.GOAWAY);
    expect(goaway?.payload.readUInt32BE(4)).toBe(toCode("internal"));
    expect(goaway?.payload.length).toBe(12);
    peer.clock.advance(2_000);
    expect(peer.closed?.broken?.detail).toContain("secret path");
  });
});
