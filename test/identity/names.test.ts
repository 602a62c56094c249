import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCertificate } from "../../src/identity/certificate.ts";
import type { Identity } from "../../src/identity/identity.ts";
import { identityOf } from "../../src/identity/names.ts";
import * as der from "../support/der.ts";
import { createTestCa, nameOf, newKey, type LeafOptions } from "../support/mint.ts";

const ca = createTestCa({ cn: 'the "CA",\u202e\n' });
const privateKey = newKey();

/** The identity, or what is wrong with the names. */
function named(options: LeafOptions): Identity | string {
  return identityOf(parseCertificate(Buffer.from(ca.issue({ privateKey, ...options }).der)), 0);
}

function identity(options: LeafOptions): Identity {
  const found = named(options);
  if (typeof found === "string") throw new Error(found);
  return found;
}

const long = (length: number): string => "a".repeat(length);

describe("a URI", () => {
  test.each([
    "spiffe://dev",
    "spiffe://dev/a",
    "spiffe://dev.example/ns/prod/sa/web_1.2-3",
    "spiffe://dev/__proto__",
    "spiffe://dev/A",
    "spiffe://dev/...",
    "spiffe://dev/.a/a.",
    `spiffe://${long(255)}/a`,
    `spiffe://dev/${long(2048 - 13)}`,
    "urn:uuid:0b0e7b0e-0000-4000-8000-000000000000",
    "https://id.example/alice?x=1#y",
    "https://id.example/%61",
    "a:b",
  ])("like %s is taken as it stands", (uri) => {
    expect(identity({ uri })).toMatchObject({ principal: uri, uri, dns: [] });
  });

  test.each([
    ["empty", ""],
    ["no scheme", "//dev/a"],
    ["nothing but a scheme", "a:"],
    ["a scheme in capitals", "SPIFFE://dev/a"],
    ["a scheme in mixed case", "Spiffe://dev/a"],
    ["another scheme in capitals", "HTTPS://a"],
    ["SPIFFE without slashes", "spiffe:dev/a"],
    ["one slash", "spiffe:/dev/a"],
    ["no trust domain", "spiffe:///a"],
    ["a trust domain in capitals", "spiffe://Dev/a"],
    ["a trust domain with a port", "spiffe://dev:1/a"],
    ["a trust domain with a user", "spiffe://me@dev/a"],
    ["a trust domain of 256 bytes", `spiffe://${long(256)}/a`],
    ["an escaped trust domain", "spiffe://d%65v/a"],
    ["an empty segment", "spiffe://dev//a"],
    ["a slash at the end", "spiffe://dev/a/"],
    ["a slash only", "spiffe://dev/"],
    ["the segment .", "spiffe://dev/./a"],
    ["the segment ..", "spiffe://dev/../a"],
    ["the segment .. at the end", "spiffe://dev/a/.."],
    ["a relative segment under another scheme", "https://id.example/a/../b"],
    ["an escape", "spiffe://dev/%61"],
    ["an escaped slash", "spiffe://dev/a%2fb"],
    ["a query", "spiffe://dev/a?b"],
    ["a fragment", "spiffe://dev/a#b"],
    ["a star", "spiffe://dev/*"],
    ["a colon in the path", "spiffe://dev/a:b"],
    ["2,049 bytes", `spiffe://dev/${long(2049 - 13)}`],
    ["a NUL", "spiffe://dev/a\u0000"],
    ["a NUL in the middle", "spiffe://dev/a\u0000.evil"],
    ["CRLF", "spiffe://dev/a\r\nX: y"],
    ["a line feed at the end", "spiffe://dev/a\n"],
    ["a space", "spiffe://dev/a b"],
    ["a tab", "spiffe://dev/a\tb"],
    ["double quotes", 'spiffe://dev/"a"'],
    ["single quotes", "https://dev/'a'"],
    ["a backslash", "https://dev\\a"],
    ["a comma and a second name", "spiffe://dev/a, URI:spiffe://dev/b"],
    ["a comma", "https://dev/a,b"],
    ["an umlaut", "spiffe://dev/ä"],
    ["a homoglyph", "spiffe://dev/\u0430dmin"],
    ["DEL", "spiffe://dev/a\u007f"],
  ])("with %s refuses the certificate", (_name, uri) => {
    expect(named({ uri })).toEqual(expect.any(String));
    expect(named({ uri: ["spiffe://dev/good", uri] })).toEqual(expect.any(String));
  });

  test("beside another refuses the certificate, also beside itself", () => {
    expect(named({ uri: ["spiffe://dev/a", "spiffe://dev/b"] })).toBe("more than one URI");
    expect(named({ uri: ["spiffe://dev/a", "spiffe://dev/a"] })).toBe("more than one URI");
  });

  test("is never changed: what is taken is, byte for byte, what stood in the certificate", () => {
    let taken = 0;
    const byte = fc.oneof(
      { weight: 30, arbitrary: fc.constantFrom(...Buffer.from("abcz09-._/")) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 255 }) },
    );
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 40 }), fc.constantFrom("", "a:", "spiffe://dev/", "spiffe://"), (bytes, head) => {
        const raw = Buffer.concat([Buffer.from(head), Buffer.from(bytes)]);
        const found = named({ uri: raw });
        if (typeof found === "string") return;
        taken++;
        expect(Buffer.from(found.uri ?? "", "latin1").equals(raw) && /^[\x21-\x7e]+$/u.test(found.uri ?? "")).toBe(true);
      }),
      { numRuns: 500 },
    );
    expect(taken).toBeGreaterThan(10);
  });
});

describe("a DNS name", () => {
  test.each([
    ["a", "a"],
    ["A.Example", "a.example"],
    ["_srv.x-1.example", "_srv.x-1.example"],
    ["xn--mnchen-3ya.example", "xn--mnchen-3ya.example"],
    [long(63), long(63)],
  ])("like %s is taken in lower case", (dns, name) => {
    expect(identity({ dns })).toMatchObject({ principal: `dns:${name}`, uri: undefined, dns: [name] });
  });

  test.each([
    "",
    "*",
    "*.example",
    "a.*.example",
    "a*.example",
    ".",
    ".example",
    "a.",
    "a..b",
    "-a",
    "a-",
    "a b",
    "a\u0000.example",
    "a\r\n",
    "a,b",
    '"a"',
    "a:b",
    "a/b",
    "münchen.example",
    long(64),
    `${"a.".repeat(127)}a`,
  ])("like %j refuses the certificate, also beside good ones", (dns) => {
    expect(named({ dns })).toEqual(expect.any(String));
    expect(named({ dns: ["good.example", dns] })).toEqual(expect.any(String));
    expect(named({ uri: "spiffe://dev/good", dns })).toEqual(expect.any(String));
  });

  test("comes after the URI; of several, the first names the client", () => {
    expect(identity({ uri: "spiffe://dev/a", dns: ["b", "a"] })).toMatchObject({ principal: "spiffe://dev/a", dns: ["b", "a"] });
    expect(identity({ dns: ["b", "a"] }).principal).toBe("dns:b");
  });
});

describe("other names", () => {
  const beside = (...names: Uint8Array[]): Identity | string => named({ uri: "spiffe://dev/a", names });

  test("name nobody, but stand beside one that does", () => {
    const directory = der.context(4, nameOf("x"));
    const account = der.context(0, der.oid("1.3.6.1.4.1.311.20.2.3"), der.context(0, der.utf8("x@y")));
    expect(beside(der.contextBytes(1, Buffer.from("x@y.example")), directory, account)).toMatchObject({
      principal: "spiffe://dev/a",
      dns: [],
    });
    expect(identity({ ip: ["10.0.0.1", "::1"], cn: "c" })).toMatchObject({ principal: "cn:c", dns: [], uri: undefined });
  });

  test("refuse the certificate when they are malformed", () => {
    for (const mail of ["", "a\u0000@b", "a@b\r\n", "ä@b"])
      expect(beside(der.contextBytes(1, Buffer.from(mail)))).toEqual(expect.any(String));
    for (const length of [0, 3, 5, 8, 32]) expect(beside(der.contextBytes(7, new Uint8Array(length)))).toBe("a malformed address");
  });
});

describe("a common name", () => {
  const rdn = (...pairs: readonly Uint8Array[]) => der.setOf(...pairs);
  const attribute = (type: string, value: Uint8Array) => der.sequence(der.oid(type), value);
  const cn = (value: Uint8Array) => attribute("2.5.4.3", value);
  const organization = attribute("2.5.4.10", der.utf8("o"));
  const text = (tag: number, bytes: string | Uint8Array) => der.element(tag, Buffer.from(bytes as string));
  const subject = (...rdns: readonly Uint8Array[]) => identity({ subject: der.sequence(...rdns) });

  test.each(["legacy", "a b", "Jörg", "__proto__", "x".repeat(64), '{"level":"info"}', "a, CN=b"])(
    "like %j is taken as it stands",
    (name) => {
      expect(identity({ cn: name })).toMatchObject({ cn: name, principal: `cn:${name}` });
    },
  );

  test.each([
    ["none", []],
    ["two", ["one", "two"]],
    ["twice the same", ["one", "one"]],
    ["an empty one", ""],
    ["65 characters", "x".repeat(65)],
    ["a space before it", " a"],
    ["a space behind it", "a "],
    ["a NUL", "a\u0000"],
    ["a bell", "a\u0007"],
    ["a line feed", "a\nb"],
    ["an escape sequence", "\u001b[31ma"],
    ["C1 controls", "a\u0085"],
    ["a direction mark", "a\u202eb"],
    ["a zero-width space", "a\u200bb"],
    ["a byte order mark", "\ufeffa"],
    ["a tag character", "a\u{e0041}"],
  ])("is not a name with %s; the fingerprint is", (_name, name) => {
    const found = identity({ cn: name });
    expect(found.cn).toBeUndefined();
    expect(found.principal).toBe(found.fingerprint);
  });

  test("is not a name in an RDN with others, in whatever order", () => {
    expect(subject(rdn(cn(der.utf8("a")), organization)).cn).toBeUndefined();
    expect(subject(rdn(organization, cn(der.utf8("a")))).cn).toBeUndefined();
    expect(subject(rdn(cn(der.utf8("a")), cn(der.utf8("b")))).cn).toBeUndefined();
    expect(subject(rdn(organization), rdn(cn(der.utf8("a")))).cn).toBe("a");
  });

  test.each([
    ["UTF8String", 0x0c, "a", "a"],
    ["UTF8String that is not UTF-8", 0x0c, Uint8Array.of(0x61, 0xff), undefined],
    ["UTF8String in an overlong form", 0x0c, Uint8Array.of(0xc1, 0xa1), undefined],
    ["UTF8String with a surrogate", 0x0c, Uint8Array.of(0xed, 0xa0, 0x80), undefined],
    ["PrintableString", 0x13, "a", "a"],
    ["PrintableString beyond ASCII", 0x13, Uint8Array.of(0xe4), undefined],
    ["IA5String", 0x16, "a@b", "a@b"],
    ["T61String of ASCII", 0x14, "a", "a"],
    ["T61String beyond it, which some read as Latin-1", 0x14, Uint8Array.of(0xe4), undefined],
    ["BMPString", 0x1e, Uint8Array.of(0, 0x61, 0x04, 0x30), "a\u0430"],
    ["BMPString of an odd length", 0x1e, Uint8Array.of(0, 0x61, 0), undefined],
    ["BMPString with half a pair", 0x1e, Uint8Array.of(0xd8, 0), undefined],
    ["UniversalString", 0x1c, Uint8Array.of(0, 0, 0, 0x61), undefined],
    ["OCTET STRING", 0x04, "a", undefined],
  ])("as %s is read as what it says, or not at all", (_name, tag, bytes, name) => {
    expect(subject(rdn(cn(text(tag, bytes)))).cn).toBe(name);
  });
});

test("an identity tells its issuer so that it can be shown", () => {
  expect(identity({ uri: "spiffe://dev/a" }).issuer).toBe('CN=the "CA",\\u{202e}\\u{a}');
});
