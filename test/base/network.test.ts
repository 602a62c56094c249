import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isWithin, parseNetwork, type Network } from "../../src/base/network.ts";

const network = (text: string): Network => {
  const reading = parseNetwork(text);
  if (!reading.ok) throw new Error(text);
  return reading.value;
};

describe("a network", () => {
  test.each([
    ["10.0.0.0/8", "10.255.0.1", true],
    ["10.0.0.0/8", "11.0.0.1", false],
    ["10.0.0.0/8", "::ffff:10.1.2.3", true],
    ["0.0.0.0/0", "203.0.113.9", true],
    ["0.0.0.0/0", "2001:db8::1", false],
    ["192.0.2.128/25", "192.0.2.127", false],
    ["192.0.2.7", "192.0.2.7", true],
    ["192.0.2.7", "192.0.2.6", false],
    ["fd00::/8", "fdff:1::2", true],
    ["fd00::/8", "fe80::1", false],
    ["2001:db8::/33", "2001:db8:7fff::1", true],
    ["2001:db8::/33", "2001:db8:8000::1", false],
    ["::1", "::1", true],
    ["::1", "127.0.0.1", false],
    ["127.0.0.0/8", "unix", false],
  ])("%s holds %s: %s", (text, address, inside) => expect(isWithin(address, [network(text)])).toBe(inside));

  test.each(["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "host", "1.2.3.4/8/9", "01.2.3.4", "[::1]"])(
    "is not %s",
    (text) => expect(parseNetwork(text).ok).toBe(false),
  );

  test("holds exactly the addresses that share its first bits", () => {
    const byte = fc.integer({ min: 0, max: 255 });
    const address = fc.tuple(byte, byte, byte, byte);
    const number = (bytes: readonly number[]): number => bytes.reduce((sum, part) => sum * 256 + part, 0);
    fc.assert(
      fc.property(address, address, fc.integer({ min: 0, max: 32 }), (one, other, prefix) => {
        const size = 2 ** (32 - prefix);
        const same = Math.floor(number(one) / size) === Math.floor(number(other) / size);
        expect(isWithin(other.join("."), [network(`${one.join(".")}/${prefix}`)])).toBe(same);
      }),
    );
  });

  test("is read or refused, whatever the text", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (text) => {
        expect([true, false]).toContain(parseNetwork(text).ok);
      }),
    );
  });
});
