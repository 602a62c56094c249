import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sourceOf } from "../../src/tls/source.ts";

const key = (remoteAddress: string): string | undefined => sourceOf({ remoteAddress, remotePort: 1 }, "tcp")?.key;

describe("the source of a connection", () => {
  test.each([
    ["192.0.2.7", "192.0.2.7", "192.0.2.7:1"],
    ["::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7:1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "[2001:db8:1:2:3:4:5:6]:1"],
    ["2001:db8::1", "2001:db8:0:0::/64", "[2001:db8::1]:1"],
    ["::1", "0:0:0:0::/64", "[::1]:1"],
    ["fe80::1%eth0", "fe80:0:0:0::/64", "[fe80::1%eth0]:1"],
    ["2001:db8:1:2::", "2001:db8:1:2::/64", "[2001:db8:1:2::]:1"],
  ])("of %s counts as %s", (remoteAddress, counts, text) => {
    expect(sourceOf({ remoteAddress, remotePort: 1 }, "tcp")).toEqual({
      key: counts,
      text,
      address: remoteAddress.replace(/^::ffff:|%.*/g, ""),
    });
  });

  test("is one for a whole /64, whatever the rest, and another for the next", () => {
    const group = fc.integer({ min: 0, max: 0xffff });
    fc.assert(
      fc.property(fc.array(group, { minLength: 4, maxLength: 4 }), fc.array(group, { minLength: 4, maxLength: 4 }), (net, host) => {
        const text = (groups: readonly number[]): string => groups.map((one) => one.toString(16)).join(":");
        const other = [...net.slice(0, 3), net[3]! ^ 1];
        expect(key(text([...net, ...host]))).toBe(`${text(net)}::/64`);
        expect(key(text([...other, ...host]))).not.toBe(key(text([...net, ...host])));
      }),
    );
  });

  test("is nothing for who has left already, and one for a unix socket", () => {
    expect(sourceOf({ remoteAddress: undefined, remotePort: undefined }, "tcp")).toBeUndefined();
    expect(sourceOf({ remoteAddress: undefined, remotePort: undefined }, "unix")).toEqual({
      key: "unix",
      text: "unix",
      address: undefined,
    });
  });
});
