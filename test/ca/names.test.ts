import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PipegateError } from "../../src/base/error.ts";
import { parseKeyType } from "../../src/ca/keys.ts";
import { parseLife } from "../../src/ca/life.ts";
import { nameTexts, parseAddress, parseNames, parseRole } from "../../src/ca/names.ts";
import { parseReason } from "../../src/ca/reasons.ts";
import { parseCertificate } from "../../src/identity/certificate.ts";
import { identityOf } from "../../src/identity/names.ts";
import { createTestCa, newKey } from "../support/mint.ts";

const usage = (next: RegExp): unknown => expect.objectContaining({ code: "usage", next: expect.stringMatching(next) });

describe("a client's name", () => {
  test.each([
    ["spiffe://dev/agent/alice", { uri: "spiffe://dev/agent/alice", dns: [], ip: [] }],
    ["uri:spiffe://a.b-c_d/X/y.Z", { uri: "spiffe://a.b-c_d/X/y.Z", dns: [], ip: [] }],
    ["dns:CI-7.Ci.Example", { dns: ["ci-7.ci.example"], ip: [] }],
    ["cn:Legacy #1, +x = y", { dns: [], ip: [], cn: "Legacy #1, +x = y" }],
  ])("%s is taken", (word, names) => {
    expect(parseNames([word], { role: "client" })).toEqual(names);
  });

  test.each([
    ["alice", /spiffe:\/\/dev\/agent\/alice, dns:alice or cn:alice/u],
    ["a.example", /dns:a\.example/u],
    ["10.0.0.7", /dns:/u],
    ["ip:10.0.0.7", /spiffe:/u],
    ["", /cn:alice/u],
    ["spiffe:/dev/a", /spiffe:\/\/domain\/path/u],
    ["spiffe://dev", /dev\/agent\/alice/u],
    ["spiffe://Dev/a", /dev/u],
    ["spiffe:///a", /dev/u],
    ["spiffe://dev/", /slash/u],
    ["spiffe://dev//a", /slash/u],
    ["spiffe://dev/a/", /slash/u],
    ["spiffe://dev/../a", /path/u],
    ["spiffe://./a", /dev/u],
    ["spiffe://../a", /dev/u],
    ["spiffe://dev/a%20b", /leave/u],
    ["spiffe://dev/a?b", /leave/u],
    ["spiffe://dev/a\nb", /leave/u],
    ["spiffe://dev/ä", /leave/u],
    ["spiffe://u@dev/a", /dev/u],
    ["spiffe://dev:80/a", /dev/u],
    [`spiffe://dev/${"a".repeat(2048)}`, /shorter/u],
    ["uri:https://a.example/", /spiffe/u],
    ["dns:", /labels/u],
    ["dns:*.example", /each host/u],
    ["dns:a.example.", /leave/u],
    ["dns:a..b", /labels/u],
    ["dns:-a.b", /labels/u],
    ["dns:a b", /labels/u],
    ["dns:a,DNS:b", /labels/u],
    ["dns:a\0b", /labels/u],
    ["dns:müller.example", /xn--/u],
    ["dns:10.0.0.7", /ip:/u],
    ["dns:a.0x7f", /ip:/u],
    [`dns:${"a".repeat(64)}.b`, /labels/u],
    [`dns:${"a.".repeat(127)}a`, /shorter/u],
    ["cn:", /cn:NAME/u],
    ["cn: a", /leave/u],
    ["cn:a\u202eb", /leave/u],
    ["cn:a\r\nb", /leave/u],
    [`cn:${"a".repeat(65)}`, /cn:NAME/u],
  ])("%j is refused with the mend", (word, next) => {
    expect(() => parseNames([word], { role: "client" })).toThrow(usage(next));
  });

  test("comes with others, but not with a second URI, a second common name, or not at all", () => {
    const both = parseNames(["dns:a", "cn:x", "spiffe://dev/a", "dns:b", "dns:A"], { role: "agent" });
    expect(nameTexts(both)).toEqual(["spiffe://dev/a", "dns:a", "dns:b", "cn:x"]);
    expect(() => parseNames(["spiffe://dev/a", "spiffe://dev/b"], { role: "client" })).toThrow(usage(/each/u));
    expect(() => parseNames(["cn:a", "cn:b"], { role: "client" })).toThrow(usage(/each/u));
    expect(() => parseNames([], { role: "client" })).toThrow(usage(/spiffe/u));
    expect(() =>
      parseNames(
        Array.from({ length: 101 }, (_, at) => `dns:a${at}`),
        { role: "client" },
      ),
    ).toThrow(usage(/several/u));
  });
});

describe("a gateway's name", () => {
  test("is a bare host or address, or spelt with its kind", () => {
    const names = parseNames(["GW.example", "localhost", "127.0.0.1", "::1", "ip:2001:DB8:0::5", "spiffe://dev/gateway"], {
      role: "gateway",
    });
    expect(names).toEqual({ uri: "spiffe://dev/gateway", dns: ["gw.example", "localhost"], ip: ["127.0.0.1", "::1", "2001:db8::5"] });
  });

  test("is one by which it is reached", () => {
    expect(() => parseNames(["spiffe://dev/gateway"], { role: "gateway" })).toThrow(usage(/--role gateway/u));
    expect(() => parseNames(["ip:1.2.3"], { role: "gateway" })).toThrow(usage(/ip:/u));
  });

  test.each(["1.2.3.4", "255.255.255.255", "0.0.0.0", "::", "::1", "fe80::1", "2001:db8::ff00:42:8329"])("%s is an address", (text) => {
    expect(parseAddress(text)).toBe(text);
  });
  test.each([
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "01.2.3.4",
    "0x7f.1.1.1",
    "1.2.3.4.",
    "fe80::1%eth0",
    "1::2::3",
    ":::",
    "[::1]",
    "::1 ",
    "g::1",
  ])("%s is none", (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });
});

test("whatever passes as a client's name is what the gateway then reads in the certificate", () => {
  const ca = createTestCa();
  const privateKey = newKey();
  const odd = fc.string({ unit: fc.constantFrom(...Array.from("abzAZ019._-/:%*# ,=\0\nä\u202e")) });
  const piece = fc.oneof(fc.stringMatching(/^[A-Za-z0-9._-]{1,12}$/), odd);
  const word = fc.oneof(
    fc.tuple(fc.constantFrom("spiffe://", "spiffe://dev/", "dns:", "cn:", "uri:", "ip:", ""), piece).map(([kind, text]) => kind + text),
    fc.string(),
  );
  let taken = 0;
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 3 }), (words) => {
      let names;
      try {
        names = parseNames(words, { role: "client" });
      } catch (error) {
        expect(error).toBeInstanceOf(PipegateError);
        expect(error).toMatchObject({ code: "usage", next: expect.any(String) });
        return;
      }
      taken++;
      const { uri, dns, cn } = names;
      const { der } = ca.issue({ privateKey, dns, ...(uri === undefined ? {} : { uri }), ...(cn === undefined ? {} : { cn }) });
      expect(identityOf(parseCertificate(Buffer.from(der)), 0)).toMatchObject({ uri, dns, cn, principal: nameTexts(names)[0] });
    }),
    { numRuns: 3000 },
  );
  expect(taken).toBeGreaterThan(50);
});

describe("a life", () => {
  test.each([
    ["24h", 86_400_000],
    ["30d", 2_592_000_000],
    ["90m", 5_400_000],
    ["825d", 71_280_000_000],
  ])("%s is %i ms", (text, ms) => {
    expect(parseLife(text)).toBe(ms);
  });
  test.each([
    ["24", /24h or 24d/u],
    ["826d", /825d/u],
    ["1m", /5m/u],
    ["0d", /5m/u],
    ["1.5h", /24h/u],
    ["-1h", /24h/u],
    ["1y", /24h/u],
    ["", /24h/u],
    ["9999999d", /24h/u],
  ])("%j is refused, showing the right form", (text, next) => {
    expect(() => parseLife(text)).toThrow(usage(next));
  });
});

test("words for keys, roles and reasons are closed lists", () => {
  expect([parseKeyType("P256"), parseRole("agent"), parseReason("key-compromise")]).toEqual(["p256", "agent", "keyCompromise"]);
  expect(() => parseKeyType("rsa")).toThrow(usage(/rsa2048/u));
  expect(() => parseKeyType("rsa1024")).toThrow(usage(/rsa2048/u));
  expect(() => parseRole("server")).toThrow(usage(/gateway/u));
  expect(() => parseReason("toString")).toThrow(usage(/superseded/u));
});
