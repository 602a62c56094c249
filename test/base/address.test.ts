import { isIPv6 } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addressText,
  collide,
  hostFault,
  MAX_SOCKET_PATH,
  parseDial,
  parseListen,
  parseSocketPath,
  parseTcp,
  parseV6,
  type SocketAddress,
} from "../../src/base/address.ts";

describe("an address to listen on", () => {
  test.each([
    ["0.0.0.0:8443", { kind: "tcp", host: "0.0.0.0", port: 8443 }],
    ["127.0.0.1:0", { kind: "tcp", host: "127.0.0.1", port: 0 }],
    ["[::1]:80", { kind: "tcp", host: "::1", port: 80 }],
    ["[::]:65535", { kind: "tcp", host: "::", port: 65535 }],
    ["[2001:DB8:0:0:0:0:0:1]:1", { kind: "tcp", host: "2001:db8::1", port: 1 }],
    ["[::ffff:10.0.0.1]:1", { kind: "tcp", host: "::ffff:a00:1", port: 1 }],
    ["localhost:80", { kind: "tcp", host: "localhost", port: 80 }],
    ["GW.Example:80", { kind: "tcp", host: "gw.example", port: 80 }],
    ["unix:/run/x.sock", { kind: "unix", path: "/run/x.sock" }],
    ["unix:x.sock", { kind: "unix", path: "x.sock" }],
  ])("%s", (text, value) => {
    expect(parseListen(text)).toEqual({ ok: true, value });
  });
  test.each([
    ["", undefined],
    ["8443", "did you mean 127.0.0.1:8443"],
    ["88443", undefined],
    [":::00", undefined],
    [":8443", "did you mean 0.0.0.0:8443 or [::]:8443"],
    ["*:8443", "did you mean 0.0.0.0:8443 or [::]:8443"],
    ["::1:80", "did you mean [::1]:80"],
    ["[::1]", "the port is missing"],
    ["::1", "the port is missing"],
    ["localhost", "the port is missing"],
    ["localhost:", undefined],
    ["localhost:65536", "ports go from 0 to 65535"],
    ["localhost:99999", "ports go from 0 to 65535"],
    ["localhost:123456", undefined],
    ["localhost:080", "did you mean localhost:80"],
    ["localhost:0x50", undefined],
    ["localhost:-1", undefined],
    ["localhost: 80", undefined],
    [" localhost:80", undefined],
    ["https://gw.example:443", "did you mean gw.example:443"],
    ["https://gw.example:443/", "did you mean gw.example:443"],
    ["tcp://[::1]:443", "did you mean [::1]:443"],
    ["127.1:80", "an IPv4 address is four numbers from 0 to 255"],
    ["0x7f.1:80", "an IPv4 address is four numbers from 0 to 255"],
    ["2130706433:80", "an IPv4 address is four numbers from 0 to 255"],
    ["256.0.0.1:80", "an IPv4 address is four numbers from 0 to 255"],
    ["010.0.0.1:80", "an IPv4 address is four numbers from 0 to 255"],
    ["gw.example.:80", "did you mean gw.example, without the last dot"],
    ["a_b.example:80", null],
    ["-a.example:80", "-a.example is not a host name"],
    ["a..b:80", "a..b is not a host name"],
    ["bücher.example:80", "bücher.example is not a host name"],
    ["[fe80::1%eth0]:80", "fe80::1%eth0 is not an IPv6 address"],
    ["[127.0.0.1]:80", "127.0.0.1 is not an IPv6 address"],
    ["[]:80", " is not an IPv6 address"],
    ["/run/x.sock", "did you mean unix:/run/x.sock"],
    ["unix:", "the path is missing, as in unix:/run/pipegate.sock"],
    ["unix:///run/x.sock", "did you mean unix:/run/x.sock"],
    ["unix:a\0b", "a path has no control characters"],
    [`unix:/${"x".repeat(107)}`, `a socket's path ends at ${MAX_SOCKET_PATH} bytes`],
    [`unix:/${"ü".repeat(54)}`, `a socket's path ends at ${MAX_SOCKET_PATH} bytes`],
  ])("%j: %s", (text, note) => {
    if (note === null) expect(parseListen(text).ok).toBe(true);
    else expect(parseListen(text)).toEqual({ ok: false, ...(note === undefined ? {} : { note }) });
  });
});

describe("an address to dial", () => {
  test("is a host and a port that is not 0", () => {
    for (const parse of [parseDial, parseTcp]) {
      expect(parse("10.0.0.5:5432")).toEqual({ ok: true, value: { kind: "tcp", host: "10.0.0.5", port: 5432 } });
      expect(parse("10.0.0.5:0")).toEqual({ ok: false, note: "ports go from 1 to 65535" });
    }
  });
  test("may be a unix socket, where it may", () => {
    expect(parseDial("unix:/run/x.sock")).toEqual({ ok: true, value: { kind: "unix", path: "/run/x.sock" } });
    expect(parseDial("unix:").ok).toBe(false);
    expect(parseTcp("unix:/run/x.sock").ok).toBe(false);
  });
});

describe("two listeners", () => {
  const listen = (text: string): SocketAddress => {
    const reading = parseListen(text);
    if (!reading.ok) throw new Error(text);
    return reading.value;
  };
  test.each([
    ["127.0.0.1:1", "127.0.0.1:1", true],
    ["127.0.0.1:1", "127.0.0.1:2", false],
    ["127.0.0.1:0", "127.0.0.1:0", false],
    ["0.0.0.0:1", "127.0.0.1:1", true],
    ["0.0.0.0:1", "[::1]:1", false],
    ["[::]:1", "127.0.0.1:1", true],
    ["[::1]:1", "[0:0::1]:1", true],
    ["localhost:1", "LOCALHOST:1", true],
    ["unix:/a", "unix:/a", true],
    ["unix:/a", "unix:/b", false],
    ["unix:/a", "127.0.0.1:1", false],
  ])("on %s and %s collide: %s", (a, b, expected) => {
    expect(collide(listen(a), listen(b))).toBe(expected);
    expect(collide(listen(b), listen(a))).toBe(expected);
  });
});

describe("whatever is written", () => {
  test("as an IPv6 address is taken exactly when the runtime takes it, and once", () => {
    const group = fc.stringMatching(/^[0-9a-fA-F]{0,5}$/);
    const text = fc.oneof(
      fc.ipV6(),
      fc.array(fc.oneof(group, fc.constant(""), fc.ipV4()), { maxLength: 9 }).map((groups) => groups.join(":")),
      fc.string({ maxLength: 20 }),
    );
    fc.assert(
      fc.property(text, (six) => {
        const short = parseV6(six);
        expect({ six, taken: short !== undefined }).toEqual({ six, taken: isIPv6(six) && !six.includes("%") });
        if (short !== undefined) expect(parseV6(short)).toBe(short);
      }),
      { numRuns: 5000 },
    );
  });
  test("as an address is read the same again as we write it", () => {
    const host = fc.oneof(
      fc.ipV4(),
      fc.ipV6().map((six) => `[${six}]`),
      fc.domain(),
    );
    fc.assert(
      fc.property(host, fc.integer({ min: 0, max: 65535 }), (name, port) => {
        const reading = parseListen(`${name}:${port}`);
        if (!reading.ok) throw new Error(`${name}:${port}`);
        expect(parseListen(addressText(reading.value))).toEqual(reading);
      }),
    );
  });
  test("never throws, and a guess is an address", () => {
    const near = fc.stringMatching(/^(https?:\/\/|unix:|\[|)[0-9a-f.:]{0,12}(\]|)(:[0-9]{0,6}|)$/);
    fc.assert(
      fc.property(fc.oneof(near, fc.string({ unit: "binary" })), (text) => {
        const reading = parseListen(text);
        const guess = reading.ok ? undefined : /^did you mean (\S+)$/.exec(reading.note ?? "")?.[1];
        expect({ guess, taken: guess === undefined || parseListen(guess).ok }).toEqual({ guess, taken: true });
        hostFault(text);
        parseSocketPath(text);
      }),
      { numRuns: 3000 },
    );
  });
});
