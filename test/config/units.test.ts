import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Reading } from "../../src/base/reading.ts";
import {
  byteRatePattern,
  formatRate,
  formatSize,
  formatTime,
  parseByteRate,
  parseRate,
  parseSize,
  parseTime,
  ratePattern,
  sizePattern,
  timePattern,
} from "../../src/config/units.ts";

function valueOf<T>(reading: Reading<T>): T {
  if (!reading.ok) throw new Error(reading.note ?? "refused");
  return reading.value;
}

describe("a size", () => {
  test.each([
    ["0B", 0],
    ["1B", 1],
    ["1kB", 1000],
    ["1KiB", 1024],
    ["10MB", 10_000_000],
    ["10MiB", 10_485_760],
    ["2GiB", 2 ** 31],
    ["1GB", 1e9],
    ["1TiB", 2 ** 40],
    ["3TB", 3e12],
    ["007MiB", 7 * 2 ** 20],
  ])("%s is %i bytes", (text, bytes) => {
    expect(valueOf(parseSize(text))).toBe(bytes);
  });
  test.each([
    ["10", "did you mean 10B"],
    ["10485760", "did you mean 10MiB"],
    ["10 MiB", "did you mean 10MiB"],
    ["10mib", "did you mean 10MiB"],
    ["10M", "did you mean 10MiB"],
    ["10mb", "did you mean 10MB"],
    ["10KB", "did you mean 10kB"],
    ["1.5MiB", "did you mean 1536KiB"],
    ["64k", "did you mean 64KiB"],
    ["5 bytes", "did you mean 5B"],
    ["9999999TiB", "that is more than can be counted"],
    ["-1MiB", undefined],
    ["", undefined],
    ["MiB", undefined],
    ["1e3B", undefined],
    ["0x10B", undefined],
    ["10MiB/s", undefined],
    ["10Mibit", undefined],
    ["١MiB", undefined],
    ["10MiB\n", "did you mean 10MiB"],
    ["10constructor", undefined],
  ])("%j is refused: %s", (text, note) => {
    expect(parseSize(text)).toEqual({ ok: false, ...(note === undefined ? {} : { note }) });
  });
});

describe("a time", () => {
  test.each([
    ["0s", 0],
    ["500ms", 500],
    ["5s", 5000],
    ["2m", 120_000],
    ["1h", 3_600_000],
    ["7d", 604_800_000],
  ])("%s is %i ms", (text, ms) => {
    expect(valueOf(parseTime(text))).toBe(ms);
  });
  test.each([
    ["5", "did you mean 5s"],
    ["5 s", "did you mean 5s"],
    ["5sec", "did you mean 5s"],
    ["5S", "did you mean 5s"],
    ["1.5s", "did you mean 1500ms"],
    ["2 minutes", "did you mean 2m"],
    ["1w", undefined],
    ["-5s", undefined],
    ["s", undefined],
    ["1h30m", undefined],
    ["never", undefined],
  ])("%j is refused: %s", (text, note) => {
    expect(parseTime(text)).toEqual({ ok: false, ...(note === undefined ? {} : { note }) });
  });
});

describe("a rate", () => {
  test.each([
    ["50/s", 50, 50],
    ["50/s burst 100", 50, 100],
    ["100/s burst 1", 100, 1],
  ])("%s is %i a second and %i at once", (text, perSecond, burst) => {
    expect(valueOf(parseRate(text))).toEqual({ perSecond, burst });
  });
  test.each([
    ["50", "did you mean 50/s"],
    ["50/sec", "did you mean 50/s"],
    ["50 / s", "did you mean 50/s"],
    ["50/s burst=100", "did you mean 50/s burst 100"],
    ["50/s, burst 100", "did you mean 50/s burst 100"],
    ["50/s burst 100/s", "did you mean 50/s burst 100"],
    ["50/s  burst 100", "did you mean 50/s burst 100"],
    ["50/m", undefined],
    ["10MiB/s", undefined],
    ["1.5/s", undefined],
    ["/s", undefined],
    ["50/s burst", undefined],
    ["", undefined],
  ])("%j is refused: %s", (text, note) => {
    expect(parseRate(text)).toEqual({ ok: false, ...(note === undefined ? {} : { note }) });
  });
  test.each([
    ["10MiB/s", 10_485_760, 10_485_760],
    ["10MiB/s burst 20MiB", 10_485_760, 20_971_520],
    ["1MB/s burst 512KiB", 1_000_000, 524_288],
  ])("%s is in bytes", (text, perSecond, burst) => {
    expect(valueOf(parseByteRate(text))).toEqual({ perSecond, burst });
  });
  test.each([
    ["10MiB", "did you mean 10MiB/s"],
    ["10485760", "did you mean 10MiB/s"],
    ["10 MB/s", "did you mean 10MB/s"],
    ["10MiB/s burst 20", "did you mean 10MiB/s burst 20B"],
    ["10MiBps", "did you mean 10MiB/s"],
    ["10Mbit/s", undefined],
    ["fast", undefined],
  ])("%j in bytes is refused: %s", (text, note) => {
    expect(parseByteRate(text)).toEqual({ ok: false, ...(note === undefined ? {} : { note }) });
  });
});

describe("whatever is written", () => {
  const sizes = fc
    .oneof(
      fc.maxSafeNat(),
      fc.nat(40).map((bits) => 2 ** bits),
      fc.nat(15).map((digits) => 10 ** digits),
    )
    .filter((value) => value < 1e15);
  test("as a size or time by us is read as the same number", () => {
    fc.assert(
      fc.property(sizes, (value) => {
        expect(valueOf(parseSize(formatSize(value)))).toBe(value);
        expect(valueOf(parseTime(formatTime(Math.floor(value / 1000))))).toBe(Math.floor(value / 1000));
      }),
    );
  });
  test("as a rate by us is read as the same rate", () => {
    fc.assert(
      fc.property(sizes, sizes, (perSecond, burst) => {
        expect(valueOf(parseRate(formatRate({ perSecond, burst })))).toEqual({ perSecond, burst });
        expect(valueOf(parseByteRate(formatRate({ perSecond, burst }, formatSize)))).toEqual({ perSecond, burst });
      }),
    );
  });
  const near = fc.stringMatching(
    /^[0-9]{0,17}[ .]?[0-9]{0,3} ?(B|kB|KiB|mb|MiB|TiB|ms|s|m|h|d|min|)(\/s|\/m|)( burst ?[0-9]{0,4}(MiB|kB|)|)$/,
  );
  test.each([
    ["size", parseSize, sizePattern],
    ["time", parseTime, timePattern],
    ["rate", parseRate, ratePattern],
    ["byte rate", parseByteRate, byteRatePattern],
  ] as const)("a %s is taken only if it has the form that editors are told, and a guess always has it", (_, parse, pattern) => {
    fc.assert(
      fc.property(fc.oneof(near, fc.string({ maxLength: 40 }), fc.string({ unit: "binary", maxLength: 20 })), (text) => {
        const reading = parse(text);
        expect(reading.ok && !pattern.test(text)).toBe(false);
        const guess = reading.ok ? undefined : /^did you mean (.*)$/s.exec(reading.note ?? "")?.[1];
        expect({ guess, taken: guess === undefined || parse(guess).ok }).toEqual({ guess, taken: true });
      }),
      { numRuns: 2000 },
    );
  });
  test("a hostile text is refused in no time", () => {
    const before = performance.now();
    for (const text of ["9".repeat(1e6), "1 ".repeat(5e5), `1/s burst ${" ".repeat(1e6)}`, "a,".repeat(5e5)]) {
      for (const parse of [parseSize, parseTime, parseRate, parseByteRate]) expect(parse(text).ok).toBe(false);
    }
    expect(performance.now() - before).toBeLessThan(1000);
  });
});
