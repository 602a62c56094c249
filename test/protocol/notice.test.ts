import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toCode } from "../../src/protocol/code.ts";
import { readNotice } from "../../src/protocol/control.ts";
import { ProtocolFault } from "../../src/protocol/fault.ts";
import * as wire from "../../src/protocol/frame.ts";
import { type Notice, Type } from "../../src/protocol/frame.ts";
import { encodeTlvs } from "../../src/protocol/tlv.ts";
import { RawPeer, rawFrame } from "../support/raw-peer.ts";
import { Collected, sessionPair } from "../support/session-pair.ts";

/** A client's session, a gateway made by hand, and what the client was told. */
function client(): { peer: RawPeer; told: Notice[] } {
  const told: Notice[] = [];
  const peer = new RawPeer({
    role: "client",
    parameters: { maxStreamId: 9 },
    session: { events: { notice: (notice) => void told.push(notice), closed: () => {} } },
  });
  return { peer, told };
}

const notice = (payload: Buffer | string): Buffer => rawFrame(Type.NOTICE, 0, 0, payload);
const moment = (seconds: bigint): Buffer => {
  const value = Buffer.alloc(8);
  value.writeBigUInt64BE(seconds);
  return value;
};
const expires = (seconds: bigint): Buffer => notice(encodeTlvs([{ key: 1, value: moment(seconds) }]));

describe("a notice", () => {
  test("goes from the gateway to the client, in whole seconds, and changes nothing", () => {
    const told: Notice[] = [];
    const pair = sessionPair({ client: { events: { notice: (one) => void told.push(one), closed: () => {} } } });
    pair.clock.turn();
    const stream = pair.client.open("echo", { messages: false });
    pair.gateway.notice({ certificateExpiresAt: 1_800_000_000_999 });
    pair.clock.turn();
    expect(told).toEqual([{ certificateExpiresAt: 1_800_000_000_000 }]);
    expect(pair.client.draining).toBe(false);
    expect([stream.accepted, stream.closed]).toEqual([true, false]);
  });
  test("is no business of a client's: it sends none, and a gateway passes over what comes", () => {
    const pair = sessionPair();
    pair.clock.turn();
    const before = pair.toGateway.bytes;
    pair.client.notice({ certificateExpiresAt: 1_000 });
    pair.clock.turn();
    expect(pair.toGateway.bytes).toBe(before);
    const heard: unknown[] = [];
    const events = { notice: (one: Notice) => void heard.push(one), closed: (broken: unknown) => void heard.push(broken) };
    const peer = new RawPeer({ session: { events } });
    peer.send(notice("not even parameters"), expires(1_800_000_000n));
    expect([peer.session.ready, peer.finalCode(), heard]).toEqual([true, undefined, []]);
  });
  test("is not sent before the client was welcomed, or after the end", () => {
    const peer = new RawPeer({ silent: true });
    peer.session.notice({ certificateExpiresAt: 1_000 });
    expect(peer.seen(Type.NOTICE)).toEqual([]);
    const other = new RawPeer();
    other.session.close();
    other.session.notice({ certificateExpiresAt: 1_000 });
    expect(other.seen(Type.NOTICE)).toEqual([]);
  });
  test("is sent, and believed, sixteen times a session at most", () => {
    const gateway = new RawPeer();
    for (let n = 0; n < 20; n++) gateway.session.notice({ certificateExpiresAt: n * 1000 });
    expect(gateway.seen(Type.NOTICE)).toHaveLength(16);
    const { peer, told } = client();
    for (let n = 0n; n < 20n; n++) peer.send(expires(n));
    expect(told.map((one) => one.certificateExpiresAt)).toEqual(Array.from({ length: 16 }, (_, n) => n * 1000));
    expect(peer.session.ready).toBe(true);
  });
  test("costs its sender as any frame that may be ignored, also when it is believed no more", () => {
    const { peer } = client();
    peer.fresh();
    peer.send(Buffer.concat(Array.from({ length: 1001 }, () => expires(1n))));
    expect(peer.finalCode()).toBe(toCode("excessive_load"));
  });
  test("may say what this version does not know", () => {
    const { peer, told } = client();
    peer.send(
      notice(""),
      notice(
        encodeTlvs([
          { key: 1, value: moment(7n) },
          { key: 2, value: Buffer.from("later") },
        ]),
      ),
    );
    expect(told).toEqual([{}, { certificateExpiresAt: 7000 }]);
  });
  test.each([
    ["a moment of seven bytes", notice(encodeTlvs([{ key: 1, value: Buffer.alloc(7) }])), "protocol_error"],
    ["a moment after the year 9999", expires(253_402_300_800n), "protocol_error"],
    ["a moment beyond 2^53-1", expires(1n << 53n), "protocol_error"],
    ["a critical key", notice(encodeTlvs([{ key: 0x8002, value: Buffer.alloc(0) }])), "protocol_error"],
    ["parameters that are cut off", notice("abc"), "protocol_error"],
    ["more than 1,024 bytes", notice(Buffer.alloc(1025)), "frame_size"],
    ["a flag", rawFrame(Type.NOTICE, 1, 0), "protocol_error"],
    ["a stream", rawFrame(Type.NOTICE, 0, 1), "protocol_error"],
  ] as const)("is a violation with %s", (_, frame, reason) => {
    const { peer, told } = client();
    peer.fresh();
    peer.send(frame);
    expect(peer.finalCode()).toBe(toCode(reason));
    expect(told).toEqual([]);
  });
  test("comes back as it was written, within what a moment can be", () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), (at) => {
        const written = wire.encodeNotice({ certificateExpiresAt: at });
        const { certificateExpiresAt: back } = readNotice(written.subarray(wire.HEADER));
        const bounded = Math.min(wire.MAX_MOMENT_S, Math.max(0, Math.floor(at / 1000))) * 1000;
        expect(back).toBe(bounded);
        expect(Number.isNaN(new Date(back!).getTime())).toBe(false);
      }),
    );
  });
  test("of any bytes is read or is a violation, never another failure", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          const { certificateExpiresAt: at = 0 } = readNotice(Buffer.from(bytes));
          expect(at).toBeLessThanOrEqual(wire.MAX_MOMENT_S * 1000);
        } catch (fault) {
          expect(fault).toBeInstanceOf(ProtocolFault);
        }
      }),
    );
  });
});

describe("a session that is retired", () => {
  test("ends in order at once when nothing is open", () => {
    const pair = sessionPair();
    pair.clock.turn();
    pair.client.retire();
    pair.clock.advance(2_000);
    expect(pair.closed).toEqual({ client: { broken: undefined }, gateway: { broken: undefined } });
    expect(pair.clock.waiting).toBe(0);
  });
  test("ends in order after its last stream, also after those that wait for a place", () => {
    const pair = sessionPair({ gateway: { maxStreams: 1 } });
    pair.clock.turn();
    const streams = [0, 1, 2].map(() => pair.client.open("x", { messages: false }));
    const ends = streams.map((stream) => new Collected(stream));
    pair.client.retire();
    for (const [index, stream] of streams.entries()) {
      pair.clock.turn();
      expect(pair.closed).toEqual({});
      const far = pair.incoming[index]!;
      expect(far.target).toBe("x");
      const got = new Collected(far);
      stream.write(Buffer.from(`stream ${index}`), false);
      stream.closeWrite();
      far.closeWrite();
      pair.clock.turn();
      expect([got.bytes.toString(), got.ended]).toEqual([`stream ${index}`, true]);
      far.release();
    }
    pair.clock.advance(2_000);
    expect(ends.map(({ closed }) => closed)).toEqual([0, 1, 2].map(() => ({ broken: undefined })));
    expect(pair.closed).toEqual({ client: { broken: undefined }, gateway: { broken: undefined } });
  });
});
