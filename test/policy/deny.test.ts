import { expect, test } from "vitest";
import { createDenyList, denial, isSerial } from "../../src/policy/deny.ts";
import { identityOf } from "../support/identity.ts";

const mallory = identityOf({
  uri: "spiffe://dev/agent/mallory",
  serial: "0a1b2c",
  fingerprint: `sha256:${"ab".repeat(32)}`,
  twin: `sha256:${"ba".repeat(32)}`,
});

test.each([
  ["serial:0a1b2c", true],
  ["serial:0A:1B:2C", true],
  ["serial:a1b2c", true],
  ["serial:0a1b2d", false],
  [`sha256:${"AB".repeat(32)}`, true],
  [`sha256:${"BA".repeat(32)}`, true],
  [`sha256:${"ac".repeat(32)}`, false],
  ["spiffe://dev/agent/mallory", true],
  ["spiffe://dev/agent/*", true],
  ["spiffe://dev/agent/alice", false],
  ["cn:mallory", false],
])("%s turns the bearer away: %s", (entry, turned) => expect(denial(createDenyList([entry]), mallory)).toBe(turned ? entry : undefined));

test.each(["serial:", "serial:0x1a", "serial:0a:1", "serial:zz", `serial:${"0".repeat(82)}`, "0a1b"])("%s is no serial", (text) =>
  expect(isSerial(text)).toBe(false),
);

test("an empty list turns nobody away, a bad entry is refused", () => {
  expect(denial(createDenyList([]), mallory)).toBeUndefined();
  expect(() => createDenyList(["mallory"])).toThrow(expect.objectContaining({ code: "config" }));
});
