import { describe, expect, test } from "vitest";
import { readTime } from "../../src/cli/connection.ts";
import { readListen } from "../../src/cli/forward.ts";
import { bytesText, progressLine, timeText } from "../../src/cli/progress.ts";

describe("a time", () => {
  test.each([
    ["500ms", 500],
    ["5s", 5000],
    ["2m", 120_000],
  ])("%s is %i ms", (text, ms) => {
    expect(readTime(text)).toBe(ms);
  });
  test.each(["5", "0s", "-1s", "1w", "1.5s", "s", "9999999999999s"])("%s is refused, showing the right form", (text) => {
    expect(() => readTime(text)).toThrow(expect.objectContaining({ code: "usage", next: expect.stringMatching(/5s/u) }));
  });
});

describe("an address to listen on", () => {
  test.each([
    ["5432", { kind: "tcp", host: "127.0.0.1", port: 5432 }],
    ["0.0.0.0:80", { kind: "tcp", host: "0.0.0.0", port: 80 }],
    ["localhost:0", { kind: "tcp", host: "localhost", port: 0 }],
    ["[::1]:5432", { kind: "tcp", host: "::1", port: 5432 }],
    ["unix:/tmp/x.sock", { kind: "unix", path: "/tmp/x.sock" }],
  ])("%s", (text, address) => {
    expect(readListen(text)).toEqual(address);
  });
  test.each(["", "x", "65536", "::1:80", "[::1]", "host:", ":80", "unix:", "a b:1"])("%j is refused", (text) => {
    expect(() => readListen(text)).toThrow(expect.objectContaining({ code: "usage" }));
  });
});

describe("progress", () => {
  test("shows bytes, rate, and the time left when the size is known", () => {
    const line = progressLine({ up: 10 << 20, down: 1536, rate: 1 << 20, total: 30 << 20 });
    expect(line).toBe("10.0 MiB sent, 1.5 KiB received, 1.0 MiB/s, 0:20 left");
    expect(progressLine({ up: 1, down: 0, rate: 0, total: undefined })).toBe("1 B sent, 0 B received, 0 B/s");
  });
  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [150 * 1024, "150 KiB"],
    [5 * 2 ** 40, "5.0 TiB"],
  ])("writes %i bytes as %s", (bytes, text) => {
    expect(bytesText(bytes)).toBe(text);
  });
  test.each([
    [0.2, "0:01"],
    [67, "1:07"],
    [3600, "1:00:00"],
  ])("writes %d s as %s", (seconds, text) => {
    expect(timeText(seconds)).toBe(text);
  });
});
