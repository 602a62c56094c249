import { Buffer } from "node:buffer";
import { expect, test } from "vitest";
import { copyPart, toKeep } from "../../src/base/bytes.ts";

test("a part of a chunk is copied to its place, of a view of a larger buffer, too, and nothing beside it changes", () => {
  const whole = Uint8Array.from({ length: 100 }, (_, n) => n);
  for (const chunk of [whole.subarray(10, 60), Buffer.from(whole.buffer, 10, 50)]) {
    const target = Buffer.alloc(20, 0xff);
    copyPart(target, 3, chunk, 5, 15);
    copyPart(target, 20, chunk, 50, 50);
    expect([...target]).toEqual([255, 255, 255, ...whole.subarray(15, 25), ...Buffer.alloc(7, 255)]);
  }
});

test("what is kept is a copy of its own where it would keep more than five times its size alive, else the chunk itself", () => {
  const record = new Uint8Array(64 << 10).fill(7);
  for (const length of [0, 1, 4_095, 5_000, 13_107]) {
    const kept = toKeep(record.subarray(100, 100 + length));
    expect([kept.length, kept.buffer.byteLength, kept.every((byte) => byte === 7)]).toEqual([length, length, true]);
  }
  const large = record.subarray(100, 100 + 13_108);
  expect(toKeep(large)).toBe(large);
});
