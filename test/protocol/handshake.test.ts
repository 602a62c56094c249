import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { toCode } from "../../src/protocol/code.ts";
import * as wire from "../../src/protocol/frame.ts";
import { Flag, Type } from "../../src/protocol/frame.ts";
import { RawPeer, rawFrame } from "../support/raw-peer.ts";
import { Collected, sessionPair } from "../support/session-pair.ts";

const hello = (versions = { min: 1, max: 1 }, tail: Buffer = Buffer.alloc(0)): Buffer => {
  const frame = wire.encodeHello(versions, []);
  const whole = Buffer.concat([frame, tail]);
  whole.writeUInt16BE(whole.length - 8, 0);
  return whole;
};
const tlv = (key: number, value: Buffer): Buffer => {
  const head = Buffer.alloc(4);
  head.writeUInt16BE(key, 0);
  head.writeUInt16BE(value.length, 2);
  return Buffer.concat([head, value]);
};
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

describe("a gateway's session before HELLO", () => {
  const refusals: [string, Buffer][] = [
    ["a first frame that is not HELLO", wire.encodeOpen(1, { window: 1, messages: false, weight: 16, target: "x" })],
    ["HTTP instead of frames", Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n")],
    ["a wrong magic number", rawFrame(Type.HELLO, 0, 0, Buffer.from("PGT9\x01\x01\x00\x00", "latin1"))],
    ["versions that it does not speak", hello({ min: 2, max: 9 })],
    ["a smallest version above the largest", hello({ min: 2, max: 1 })],
    ["a HELLO on a stream", rawFrame(Type.HELLO, 0, 1, Buffer.from("PGT1\x01\x01\x00\x00", "latin1"))],
    ["a HELLO with a flag", rawFrame(Type.HELLO, 1, 0, Buffer.from("PGT1\x01\x01\x00\x00", "latin1"))],
    ["a HELLO that is too short", rawFrame(Type.HELLO, 0, 0, "PGT1")],
    ["a HELLO of more than 4 KiB", rawFrame(Type.HELLO, 0, 0, Buffer.alloc(5000))],
    ["an unknown critical parameter", hello(undefined, tlv(0x8100, u32(1)))],
    ["parameters out of order", hello(undefined, Buffer.concat([tlv(3, Buffer.alloc(8)), tlv(2, u32(2048))]))],
    ["a parameter twice", hello(undefined, Buffer.concat([tlv(2, u32(2048)), tlv(2, u32(2048))]))],
    ["a parameter longer than the frame", hello(undefined, Buffer.from([0, 2, 0, 9, 0]))],
    ["a cut parameter", hello(undefined, Buffer.from([0, 2, 0]))],
    ["a payload size of 10", hello(undefined, tlv(2, u32(10)))],
    ["software that is not UTF-8", hello(undefined, tlv(1, Buffer.from([0xff, 0xfe])))],
    ["software with a line break", hello(undefined, tlv(1, Buffer.from("a\nb")))],
    ["a session limit beyond 2^53", hello(undefined, tlv(3, Buffer.alloc(8, 0xff)))],
    ["an agent", hello(undefined, tlv(8, Buffer.from([1])))],
  ];
  test.each(refusals)("refuses %s with WELCOME refused and GOAWAY FINAL, and opens nothing", (_name, bytes) => {
    const peer = new RawPeer({ silent: true });
    peer.send(bytes);
    const frames = peer.fresh();
    expect(frames.map((frame) => frame.type)).toEqual([Type.WELCOME, Type.GOAWAY]);
    expect(frames[0]?.payload[5]).toBe(wire.Resumed.REFUSED);
    expect(frames[1]?.flags).toBe(Flag.FINAL);
    expect(peer.ended).toBe(true);
    peer.clock.advance(1_000);
    expect(peer.destroyed).toBe(true);
    expect(["protocol_error", "frame_size"]).toContain(peer.closed?.broken?.reason);
    expect(peer.clock.waiting).toBe(0);
  });

  test("says HANDSHAKE_TIMEOUT to who stays silent for five seconds", () => {
    const peer = new RawPeer({ silent: true });
    peer.clock.advance(4_999);
    expect(peer.ended).toBe(false);
    peer.clock.advance(1);
    expect(peer.finalCode()).toBe(toCode("preface_timeout"));
  });

  test("is not kept waiting by a HELLO that comes byte by byte and never ends", () => {
    const peer = new RawPeer({ silent: true });
    const bytes = hello(undefined, tlv(1, Buffer.from("slow")));
    for (let at = 0; at < bytes.length - 1; at++) {
      peer.session.receive(bytes.subarray(at, at + 1));
      peer.clock.advance(400);
    }
    expect(peer.closed?.broken?.reason).toBe("preface_timeout");
  });

  test("ignores an unknown parameter that is not critical and takes a HELLO of several versions", () => {
    const peer = new RawPeer({ silent: true });
    peer.send(hello({ min: 1, max: 7 }, tlv(0x0700, u32(1))));
    expect(peer.session.ready).toBe(true);
  });

  test("refuses a second HELLO", () => {
    const peer = new RawPeer();
    peer.send(hello());
    expect(peer.finalCode()).toBe(toCode("protocol_error"));
  });

  test("tells who has not said HELLO yet that it drains", () => {
    const peer = new RawPeer({ silent: true });
    peer.session.drain(10_000);
    const [welcome, goaway] = peer.fresh();
    expect(welcome?.payload.readUInt16BE(6)).toBe(toCode("draining"));
    expect(goaway?.payload.readUInt32BE(4)).toBe(toCode("draining"));
  });

  test("answers the refusal of its guard and lets nothing else through", () => {
    const peer = new RawPeer({ silent: true, session: { refusal: { reason: "revoked" } } });
    peer.send(hello(), wire.encodeOpen(1, { window: 1, messages: false, weight: 16, target: "x" }));
    const [welcome, goaway] = peer.fresh();
    expect(welcome?.payload.readUInt16BE(6)).toBe(toCode("revoked"));
    expect(goaway?.payload.readUInt32BE(4)).toBe(toCode("revoked"));
    expect(peer.streams).toEqual([]);
  });
});

describe("a client's session", () => {
  test("sends HELLO first and nothing else before WELCOME", () => {
    const peer = new RawPeer({ role: "client", silent: true });
    peer.session.open("echo", { messages: false }).write(Buffer.from("early"), false);
    peer.clock.advance(1_000);
    expect(peer.fresh().map((frame) => frame.type)).toEqual([Type.HELLO]);
  });

  test("fails with preface_timeout when no WELCOME comes, and says nothing more on the wire", () => {
    const peer = new RawPeer({ role: "client", silent: true });
    peer.fresh();
    peer.clock.advance(10_000);
    expect(peer.closed?.broken?.reason).toBe("preface_timeout");
    expect(peer.fresh()).toEqual([]);
  });

  test.each([
    ["a GOAWAY follows", true],
    ["the connection just ends", false],
  ])("tells the reason of a refused WELCOME when %s", (_name, withGoaway) => {
    const peer = new RawPeer({ role: "client", silent: true });
    const stream = new Collected(peer.session.open("echo", { messages: false }));
    peer.send(wire.encodeWelcome({ resumed: 2, refusal: toCode("cert_expired") }, []));
    if (withGoaway) peer.send(wire.encodeGoaway({ lastStreamId: 0, code: toCode("cert_expired"), grace: 0, text: "", final: true }));
    peer.session.transportClosed();
    peer.clock.advance(2_000);
    expect(peer.closed?.broken?.reason).toBe("cert_expired");
    expect(stream.closed?.broken?.reason).toBe("cert_expired");
  });

  test("hears when it may come again, from a gateway that has enough of it", () => {
    const pair = sessionPair({ gateway: { refusal: { reason: "rate_limited", retryAfter: 1_500 } } });
    const stream = new Collected(pair.client.open("echo", { messages: false }));
    pair.clock.advance(2_000);
    expect(stream.closed?.broken).toMatchObject({ reason: "rate_limited", retryAfter: 1_500 });
    expect(pair.closed.client?.broken).toMatchObject({ reason: "rate_limited", retryAfter: 1_500 });
  });

  test("refuses a first frame that is not WELCOME", () => {
    const peer = new RawPeer({ role: "client", silent: true });
    peer.send(rawFrame(Type.PING, 0, 0, Buffer.alloc(8)));
    peer.clock.advance(2_000);
    expect(peer.closed?.broken?.reason).toBe("protocol_error");
  });
});

describe("both sides", () => {
  test("carry their parameters to each other", () => {
    const pair = sessionPair({
      client: { parameters: { software: "tester/1", maxMessage: 5000 } },
      gateway: { parameters: { maxPayload: 2048 } },
    });
    pair.clock.turn();
    expect(pair.gateway.peer).toMatchObject({ software: "tester/1", maxMessage: 5000, maxPayload: 16_376 });
    expect(pair.client.peer).toMatchObject({ maxPayload: 2048, maxStreamId: 127 });
  });

  test("shake hands also when every byte comes alone", () => {
    const pair = sessionPair();
    pair.toGateway.chunkSize = pair.toClient.chunkSize = 1;
    const stream = pair.client.open("echo", { messages: false });
    stream.write(Buffer.from("bytewise"), false);
    pair.clock.turn();
    const [incoming] = pair.incoming;
    const got = new Collected(incoming!);
    pair.clock.turn();
    expect(got.bytes.toString()).toBe("bytewise");
  });
});
