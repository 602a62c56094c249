import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as read from "../../src/identity/der.ts";
import { DerFault, DerReader, Tag } from "../../src/identity/der.ts";
import * as write from "../support/der.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const inside = (whole: Uint8Array): Buffer => new DerReader(whole).next().content;

describe("a reader of DER", () => {
  test.each([
    ["nothing", ""],
    ["a tag alone", "30"],
    ["a content that is cut off", "04 03 01 02"],
    ["a length that is cut off", "04 82 01"],
    ["an indefinite length", "30 80 00 00"],
    ["a length of four bytes", "04 84 00 00 00 01 00"],
    ["a length of 127 bytes", "04 ff 00"],
    ["a short length in the long form", "04 81 01 00"],
    ["a length with a zero before it", "04 82 00 80 00"],
    ["a tag of many bytes", "1f 81 01 00"],
  ])("refuses %s", (_name, bytes) => {
    expect(() => new DerReader(hex(bytes)).next()).toThrow(DerFault);
  });

  test("refuses another tag than the one that belongs there, and what stands behind the end", () => {
    expect(() => new DerReader(hex("04 00")).next(Tag.SEQUENCE)).toThrow("tag 4 where 48 belongs");
    const reader = new DerReader(hex("30 00 00"));
    reader.next();
    expect(() => reader.end()).toThrow(DerFault);
  });

  test("reads what was written: any bytes under any low tag, whole, in order", () => {
    const any = fc.tuple(
      fc.integer({ min: 0, max: 255 }).filter((tag) => (tag & 0x1f) !== 0x1f),
      fc.uint8Array({ maxLength: 400 }),
    );
    fc.assert(
      fc.property(fc.array(any, { maxLength: 5 }), (elements) => {
        const written = elements.map(([tag, bytes]) => write.element(tag, bytes));
        const reader = new DerReader(Buffer.concat(written));
        for (const [index, [tag, bytes]] of elements.entries()) {
          const found = reader.next(tag);
          expect(found.content.equals(bytes) && found.whole.equals(written[index]!)).toBe(true);
        }
        expect(reader.done).toBe(true);
        expect(reader.tag).toBe(-1);
      }),
    );
  });

  test("takes lengths at every edge of their form, and the writer beside it writes them so", () => {
    for (const length of [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000]) {
      const content = new Uint8Array(length).fill(7);
      const written = write.octets(content);
      expect(inside(written).length).toBe(length);
      const halves = [content.subarray(0, length >> 1), content.subarray(length >> 1)];
      expect(read.element(Tag.OCTET_STRING, ...halves).equals(written)).toBe(true);
    }
  });

  test("answers noise with a DerFault or an element inside of it, and any cut of an element with a DerFault", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (noise) => {
        try {
          const { whole, content } = new DerReader(noise).next();
          expect(whole.length <= noise.length && content.length <= whole.length - 2).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(DerFault);
        }
      }),
      { numRuns: 5_000 },
    );
    const whole = write.sequence(write.octets(new Uint8Array(200)));
    for (let cut = 0; cut < whole.length; cut++) expect(() => new DerReader(whole.subarray(0, cut)).next()).toThrow(DerFault);
  });
});

describe("values of DER", () => {
  test("reads OIDs of every size as they were written", () => {
    const arc = fc.oneof(fc.nat({ max: 200 }), fc.nat(), fc.bigInt({ min: 0n, max: 2n ** 128n }));
    fc.assert(
      fc.property(fc.constantFrom(0, 1, 2), fc.nat({ max: 39 }), fc.array(arc, { maxLength: 3 }), (first, second, arcs) => {
        expect(read.oidText(oidContent([40n * BigInt(first) + BigInt(second), ...arcs.map(BigInt)]))).toBe(
          [first, second, ...arcs].join("."),
        );
      }),
    );
    expect(read.oidText(oidContent([80n + 999n, 3n]))).toBe("2.999.3");
    expect(read.oidText(oidContent([80n + 25n, 2n ** 127n + 1n]))).toBe(`2.25.${2n ** 127n + 1n}`);
  });

  test.each([
    ["empty", ""],
    ["cut off", "2a 86"],
    ["not minimal", "2a 80 01"],
    ["not minimal at its beginning", "80 01"],
    ["larger than 64 bytes", "2a".repeat(65)],
  ])("refuses an OID that is %s", (_name, bytes) => {
    expect(() => read.oidText(hex(bytes))).toThrow(DerFault);
  });

  test.each([
    ["00", "00"],
    ["01", "01"],
    ["0b", "0b"],
    ["00 80", "80"],
    ["00 ff 00", "ff00"],
    [`7f ${"00".repeat(19)}`, `7f${"00".repeat(19)}`],
    [`00 ff ${"00".repeat(19)}`, `ff${"00".repeat(19)}`],
  ])("reads the serial %s as %s", (bytes, text) => {
    expect(read.serialHex(hex(bytes))).toBe(text);
  });

  test.each([
    ["empty", ""],
    ["negative: its hex would be that of another", "80"],
    ["negative and not minimal", "ff 80"],
    ["not minimal", "00 01"],
    ["of 21 bytes", `01 ${"00".repeat(20)}`],
    ["of 21 bytes behind the sign", `00 80 ${"00".repeat(20)}`],
  ])("refuses a serial that is %s", (_name, bytes) => {
    expect(() => read.serialHex(hex(bytes))).toThrow(DerFault);
  });

  test("gives different serials different texts", () => {
    const content = fc.uint8Array({ minLength: 1, maxLength: 20 }).map((bytes) => inside(write.integer(bytes)));
    fc.assert(
      fc.property(content, content, (one, other) => {
        expect(read.serialHex(one) === read.serialHex(other)).toBe(one.equals(other));
      }),
    );
  });

  test("counts the bits of a positive INTEGER", () => {
    expect(["00", "01", "7f", "00 80", "01 00", "00 ff ff"].map((bytes) => read.bitLength(hex(bytes)))).toEqual([0, 1, 7, 8, 9, 16]);
    for (const bytes of ["", "80", "00 01"]) expect(() => read.bitLength(hex(bytes))).toThrow(DerFault);
  });

  test("takes small INTEGERs from 0 to 2^31 - 1, and no others", () => {
    for (const value of [0, 1, 127, 128, 65_535, 65_536, 2 ** 31 - 1]) expect(read.smallInteger(inside(write.integer(value)))).toBe(value);
    for (const bytes of ["", "80", "ff", "00 01", "00 80 00 00 00"]) expect(() => read.smallInteger(hex(bytes))).toThrow(DerFault);
  });

  test("takes the two BOOLEANs of DER", () => {
    expect([read.boolean(hex("ff")), read.boolean(hex("00"))]).toEqual([true, false]);
    for (const bytes of ["", "01", "ff ff"]) expect(() => read.boolean(hex(bytes))).toThrow(DerFault);
  });

  test("reads bits by their number, and whole bytes of bits", () => {
    expect(read.namedBits(hex("07 80"))).toBe(0x8000);
    expect(read.namedBits(hex("07 00 80"))).toBe(0x0080);
    expect(read.namedBits(hex("00"))).toBe(0);
    for (const bytes of ["", "08 00", "07 81", "01", "00 01 02 03"]) expect(() => read.namedBits(hex(bytes))).toThrow(DerFault);
    expect(read.wholeBits(hex("00 01 02"))).toEqual(hex("01 02"));
    for (const bytes of ["", "01 02"]) expect(() => read.wholeBits(hex(bytes))).toThrow(DerFault);
  });

  test("reads every second from the year 0 to 9999 as it was written", () => {
    const edges = [
      Date.UTC(1950, 0),
      Date.UTC(1999, 11, 31, 23, 59, 59),
      Date.UTC(2000, 1, 29),
      Date.UTC(2049, 11, 31),
      Date.UTC(2050, 0),
      Date.parse("0050-03-01"),
    ];
    const second = fc.integer({ min: Date.parse("0000-01-01") / 1000, max: Date.parse("9999-12-31T23:59:59Z") / 1000 });
    fc.assert(
      fc.property(second, (seconds) => {
        const at = seconds * 1000;
        expect(read.time(generalized(compact(at)))).toBe(at);
        if (at >= Date.UTC(1950, 0) && at < Date.UTC(2050, 0)) expect(read.time(new DerReader(write.time(at)).next())).toBe(at);
      }),
      { examples: edges.map((at) => [at / 1000]) },
    );
  });

  test.each([
    "20230229000000Z", // no such day
    "20231301000000Z",
    "20230001000000Z",
    "20230100000000Z",
    "20230101240000Z",
    "20230101006000Z",
    "20230101000060Z",
    "20230101000000",
    "20230101000000z",
    "202301010000Z",
    "20230101000000.5Z",
    "20230101000000+0000",
    "2023010100000 Z",
    "20-30101000000Z",
    "20230101000000Z\n",
    "٢٠٢٣٠١٠١",
    "",
  ])("refuses %j as a time", (text) => {
    expect(() => read.time(generalized(text))).toThrow(DerFault);
    const utc = { ...generalized(text.slice(2)), tag: Tag.UTC_TIME };
    expect(() => read.time(utc)).toThrow(DerFault);
    expect(() => read.time({ ...generalized("20230101000000Z"), tag: Tag.UTF8 })).toThrow(DerFault);
  });
});

function generalized(text: string): read.Element {
  const content = Buffer.from(text);
  return { tag: Tag.GENERALIZED_TIME, content, whole: content };
}

function compact(at: number): string {
  return new Date(at).toISOString().replace(/[-:T]|\.\d+/gu, "");
}

function oidContent(arcs: readonly bigint[]): Buffer {
  const digits = (arc: bigint): number[] => (arc < 128n ? [Number(arc)] : [...digits(arc >> 7n), Number(arc & 127n)]);
  return Buffer.from(arcs.flatMap((arc) => digits(arc).map((digit, n, all) => (n < all.length - 1 ? digit | 0x80 : digit))));
}
