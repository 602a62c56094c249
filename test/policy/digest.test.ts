import fc from "fast-check";
import { expect, test } from "vitest";
import { Digester } from "../../src/policy/digest.ts";

const key = Int32Array.of(0x33221100, 0x77665544, 0xbbaa9988 | 0, 0xffeeddcc | 0);
const hex = (digest: Int32Array): string => Buffer.from(digest.slice().buffer).toString("hex");

/** Chaskey as its paper has it, on numbers without end. */
function reference(words: readonly number[], text: string): string {
  const mask = 2n ** 128n - 1n;
  const number = (of: readonly number[]): bigint => of.reduceRight((sum, word) => (sum << 32n) | BigInt(word >>> 0), 0n);
  const doubled = (value: bigint): bigint => ((value << 1n) & mask) ^ (value >> 127n ? 0x87n : 0n);
  const rotated = (value: number, by: number): number => (value << by) | (value >>> (32 - by));
  const permuted = (value: bigint): bigint => {
    let [a, b, c, d] = [0n, 32n, 64n, 96n].map((at) => Number((value >> at) & 0xffffffffn) | 0) as [number, number, number, number];
    for (let round = 0; round < 8; round++) {
      [a, c] = [(a + b) | 0, (c + d) | 0];
      [b, d] = [rotated(b, 5) ^ a, rotated(d, 8) ^ c];
      [a, c] = [(rotated(a, 16) + d) | 0, (c + b) | 0];
      [b, d] = [rotated(b, 7) ^ c, rotated(d, 13) ^ a];
      c = rotated(c, 16);
    }
    return number([a, b, c, d]);
  };
  const bytes = [...Buffer.from(text, "latin1")];
  const block = (at: number): bigint => bytes.slice(at, at + 16).reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  let state = number(words);
  const whole = bytes.length > 0 && bytes.length % 16 === 0;
  const end = whole ? bytes.length - 16 : bytes.length - (bytes.length % 16);
  for (let at = 0; at < end; at += 16) state = permuted(state ^ block(at));
  const last = whole ? doubled(number(words)) : doubled(doubled(number(words)));
  const padding = whole ? 0n : 1n << BigInt(8 * (bytes.length - end));
  state = permuted(state ^ block(end) ^ padding ^ last) ^ last;
  const out = Buffer.alloc(16);
  for (let index = 0; index < 16; index++) out[index] = Number((state >> BigInt(8 * index)) & 0xffn);
  return out.toString("hex");
}

const ascii = fc.string({ unit: "grapheme-ascii", maxLength: 70 });

test("a digest under the first key is Chaskey's", () => {
  fc.assert(
    fc.property(fc.tuple(fc.integer(), fc.integer(), fc.integer(), fc.integer()), ascii, (words, text) => {
      const digester = new Digester(Int32Array.from(words));
      expect(hex(digester.of(Int32Array.from(words), text))).toBe(reference(words, text));
    }),
  );
});

test("names, rules and keys that differ give digests that differ, whatever looks alike", () => {
  const texts = ["", "\u0001", "a", "a\u0001", "a\0", "a".repeat(15), "a".repeat(16), "a".repeat(17), "a".repeat(32)];
  texts.push("é", "\u0165", "e", "\u0165\u0165", "\ud800", "\udfff", '"\\u0165"', "\\u0165", "ť".repeat(20), "😀");
  const digester = new Digester(key);
  const seeds = ["", "[1]", "[2]", "[ť]"].map((text) => digester.seed(text));
  const all = seeds.flatMap((seed) => texts.map((text) => hex(digester.of(seed, text))));
  const other = new Digester(key.map((word) => word ^ 1));
  all.push(...texts.map((text) => hex(other.of(seeds[0]!, text))));
  expect(new Set(all).size).toBe(all.length);
});

test("the same gives the same, also after names of another kind", () => {
  const digester = new Digester(key);
  const seed = digester.seed("rule");
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 40 }), ascii, (one, two) => {
      const before = hex(digester.of(seed, two));
      digester.of(seed, one);
      expect(hex(digester.of(seed, two))).toBe(before);
    }),
  );
});
