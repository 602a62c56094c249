import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createCutter, type Cutter } from "../../src/target/cutter.ts";
import type { Framing } from "../../src/target/target.ts";
import { encode, kept, split } from "./frame-reference.ts";

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 });

interface Cut {
  readonly messages: Buffer[];
  readonly open: number;
}

/** Feeds the pieces; `stops` says at which parts the taker asks for a pause. */
function feed(cutter: Cutter, pieces: readonly Uint8Array[], stops: (part: number) => boolean = () => false): Cut {
  const messages: Buffer[] = [];
  const open: Uint8Array[] = [];
  let part = 0;
  for (const piece of pieces) {
    let at = 0;
    while (at < piece.length && cutter.fault === undefined) {
      const before = at;
      at = cutter.cut(piece, at, (bytes, last) => {
        open.push(bytes);
        if (last) messages.push(Buffer.concat(open.splice(0)));
        return !stops(part++);
      });
      if (at === before && cutter.fault === undefined) throw new Error("the cutter does not move on");
    }
  }
  return { messages, open: open.reduce((sum, each) => sum + each.length, 0) };
}

const begun = new WeakMap<Cutter, Uint8Array[]>();

/** The messages that end in `piece`: those that lie in it whole together. */
function together(cutter: Cutter, piece: Uint8Array): string[] {
  const found: string[] = [];
  const parts = begun.get(cutter) ?? [];
  begun.set(cutter, parts);
  const take = (part: Uint8Array, last: boolean): boolean => {
    parts.push(part);
    if (last) found.push(Buffer.concat(parts.splice(0)).toString("hex"));
    return !last;
  };
  for (let at = 0; at < piece.length && cutter.fault === undefined; at = cutter.cut(piece, at, take)) {
    const places: number[] = [];
    at = cutter.whole(piece, at, places);
    for (let n = 0; n < places.length; n += 2) found.push(Buffer.from(piece.slice(places[n], places[n + 1])).toString("hex"));
    if (at === piece.length) break;
  }
  return found;
}

describe("cutting a stream into messages", () => {
  for (const framing of kept) {
    test(`${framing}: the messages are the same wherever the stream is split and wherever the taker pauses`, () => {
      const byte = framing === "lines" ? fc.integer({ min: 11, max: 255 }) : fc.integer({ min: 0, max: 255 });
      const message = fc.array(byte, { maxLength: 300 }).map((bytes) => Uint8Array.from(bytes));
      fc.assert(
        fc.property(fc.array(message, { maxLength: 20 }), sizes, fc.integer({ min: 1, max: 5 }), (messages, lengths, every) => {
          const cutter = createCutter(framing, 1_000);
          const { messages: found } = feed(cutter, split(encode(messages, framing), lengths), (part) => part % every === 0);
          expect(found.map((each) => each.toString("hex"))).toEqual(messages.map((each) => Buffer.from(each).toString("hex")));
          expect(cutter.inside).toBe(false);
          expect(cutter.fault).toBeUndefined();
        }),
        { numRuns: 300 },
      );
    });

    test(`${framing}: messages that are whole in a piece are the same when they are taken together`, () => {
      const byte = framing === "lines" ? fc.integer({ min: 11, max: 255 }) : fc.integer({ min: 0, max: 255 });
      const message = fc.array(byte, { maxLength: 300 }).map((bytes) => Uint8Array.from(bytes));
      const pieceSizes = fc.array(fc.integer({ min: 1, max: 2_000 }), { minLength: 1, maxLength: 8 });
      fc.assert(
        fc.property(fc.array(message, { maxLength: 20 }), pieceSizes, fc.integer({ min: 100, max: 300 }), (messages, lengths, max) => {
          const bytes = encode(messages, framing);
          const [plain, cutter] = [createCutter(framing, max), createCutter(framing, max)];
          const { messages: expected } = feed(plain, split(bytes, lengths));
          const found: string[] = [];
          for (const piece of split(bytes, lengths)) found.push(...together(cutter, piece));
          expect(found).toEqual(expected.map((each) => each.toString("hex")));
          expect([cutter.inside, cutter.fault]).toEqual([plain.inside, plain.fault]);
        }),
        { numRuns: 500 },
      );
    });

    test(`${framing}: a stream that stops anywhere but between messages is inside one`, () => {
      const whole = encode([Buffer.from("first"), Buffer.from("second, which is longer")], framing);
      const between = encode([Buffer.from("first")], framing).length;
      for (let length = 0; length <= whole.length; length++) {
        const cutter = createCutter(framing, 1_000);
        feed(cutter, [whole.subarray(0, length)]);
        expect([length, cutter.inside]).toEqual([length, length !== 0 && length !== between && length !== whole.length]);
      }
    });

    test(`${framing}: random bytes never throw, never yield a message over the limit, and never hold the cutter up`, () => {
      fc.assert(
        fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }), fc.integer({ min: 0, max: 300 }), (pieces, max) => {
          const cutter = createCutter(framing, max);
          const { messages, open } = feed(cutter, pieces);
          for (const message of messages) expect(message.length).toBeLessThanOrEqual(max);
          expect(open).toBeLessThanOrEqual(max);
        }),
        { numRuns: 1_000 },
      );
    });

    test(`${framing}: a message of the limit passes and one byte more is a fault before any of it is given`, () => {
      const limit = createCutter(framing, 100);
      expect(feed(limit, [encode([Buffer.alloc(100, 65)], framing)]).messages).toHaveLength(1);
      expect(limit.fault).toBeUndefined();
      const over = createCutter(framing, 100);
      expect(feed(over, [encode([Buffer.alloc(101, 65)], framing)])).toEqual({ messages: [], open: 0 });
      expect(over.fault).toContain("more than 100 bytes");
    });
  }

  test("a carriage return before the line break is part of the line", () => {
    expect(feed(createCutter("lines", 100), [Buffer.from("a\r\n\n")]).messages.map(String)).toEqual(["a\r", ""]);
  });

  test("a varint that goes on for more than five bytes is a fault", () => {
    const cutter = createCutter("varint", 1_000);
    feed(cutter, split(Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), [1]));
    expect(cutter.fault).toBeDefined();
  });

  test("nothing comes after a fault, not even from a cutter that is asked again", () => {
    for (const framing of kept) {
      const cutter = createCutter(framing, 4);
      feed(cutter, [encode([Buffer.from("too long")], framing)]);
      let taken = 0;
      cutter.cut(encode([Buffer.from("ok")], framing), 0, () => taken++ >= 0);
      expect([framing, taken]).toEqual([framing, 0]);
    }
  });

  test("with boundaries given up each chunk is a message, in pieces where it is over the limit", () => {
    const { messages } = feed(createCutter("bytes" satisfies Framing, 4), [Buffer.from("abcdefghij"), Buffer.from("k")]);
    expect(messages.map(String)).toEqual(["abcd", "efgh", "ij", "k"]);
  });
});
