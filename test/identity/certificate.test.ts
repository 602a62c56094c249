import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "vitest";
import { fingerprintOf, KeyUsage, MAX_CERTIFICATE, nameText, parseCertificate } from "../../src/identity/certificate.ts";
import { DerFault, DerReader } from "../../src/identity/der.ts";
import { MAX_NAMES, NameFault } from "../../src/identity/extensions.ts";
import { KeyAlgorithm, readPublicKey } from "../../src/identity/public-key.ts";
import { weakness } from "../../src/identity/strength.ts";
import * as der from "../support/der.ts";
import { at, children, edit } from "../support/der-edit.ts";
import { createTestCa, extensionOids, newKey, type KeyType, type LeafOptions } from "../support/mint.ts";

const ca = createTestCa();
const sound = ca.issue({ uri: "spiffe://dev/a", dns: "a.example", cn: "a" });
/** Where things stand in a certificate. */
const Path = {
  version: [0, 0],
  serial: [0, 1],
  algorithm: [0, 2],
  validity: [0, 4],
  subject: [0, 5],
  key: [0, 6],
  extensions: [0, 7, 0],
  signature: [2],
};
const parse = (bytes: Uint8Array) => parseCertificate(Buffer.from(bytes));
const parsed = (options: LeafOptions) => parse(ca.issue(options).der);

describe("a certificate's fields", () => {
  test.each(["p256", "p384", "p521", "ed25519", "rsa2048"] as KeyType[])(
    "are those that the runtime's own crypto reads (%s)",
    (keyType) => {
      for (const serial of ["01", "0b", "0080", "7f00", `ff${"ab".repeat(15)}`]) {
        const issued = ca.issue({ uri: "spiffe://dev/a", keyType, serial, notAfter: Date.UTC(2060, 1, 29) });
        const own = parse(issued.der);
        const theirs = new X509Certificate(issued.der);
        const trimmed = (text: string): string => text.toLowerCase().replace(/^0+(?=.)/u, "");
        expect(trimmed(own.serial)).toBe(trimmed(theirs.serialNumber));
        expect(new Date(own.notBefore)).toEqual(new Date(theirs.validFrom));
        expect(new Date(own.notAfter)).toEqual(new Date(theirs.validTo));
        expect(own.publicKey.der.equals(theirs.publicKey.export({ type: "spki", format: "der" }))).toBe(true);
        expect(fingerprintOf(own.der)).toBe(`sha256:${theirs.fingerprint256.replaceAll(":", "").toLowerCase()}`);
        expect([own.version, own.ca, own.keyUsage]).toEqual([3, false, KeyUsage.DIGITAL_SIGNATURE]);
      }
    },
  );

  test("tell what a CA may do", () => {
    const usage = KeyUsage.KEY_CERT_SIGN | KeyUsage.CRL_SIGN;
    expect(parse(createTestCa({ pathLength: 3 }).der)).toMatchObject({
      ca: true,
      pathLength: 3,
      keyUsage: usage,
      extendedKeyUsage: undefined,
    });
    expect(parse(ca.der)).toMatchObject({ ca: true, pathLength: undefined, names: [] });
    expect(parse(ca.der).subjectKeyId).toBe(parse(sound.der).authorityKeyId);
  });

  test("list what restricts and is not understood: critical extensions, and name constraints in any case", () => {
    const extension = (oid: string, critical: boolean) =>
      parsed({ extensions: { [oid]: { value: der.sequence(), critical } } }).unknownCritical;
    expect([extension("1.2.3", true), extension("1.2.3", false)]).toEqual([["1.2.3"], []]);
    expect([extension(extensionOids.nameConstraints, true), extension(extensionOids.nameConstraints, false)]).toEqual([
      ["2.5.29.30"],
      ["2.5.29.30"],
    ]);
  });

  test("show names to people, whatever they hold", () => {
    const name = der.sequence(
      der.setOf(der.sequence(der.oid("2.5.4.10"), der.utf8("Ünï"))),
      der.setOf(der.sequence(der.oid("2.5.4.3"), der.element(0x0c, Uint8Array.of(0xff)))),
      der.setOf(der.sequence(der.oid("1.2.3"), der.element(0x1e, Uint8Array.of(0, 0x41)))),
    );
    expect(nameText(Buffer.from(name))).toBe("O=Ünï, CN=ff, 1.2.3=A");
  });
});

describe("a certificate that is not strict DER is refused:", () => {
  const drop = (): Uint8Array[] => [];
  const twice = (one: Uint8Array): Uint8Array[] => [one, one];
  const extension = (oid: string): readonly number[] => {
    const index = children(at(sound.der, Path.extensions)).findIndex((one) => Buffer.from(children(one)[0]!).equals(der.oid(oid)));
    expect(index).toBeGreaterThanOrEqual(0);
    return [...Path.extensions, index];
  };
  const value = (oid: string, bytes: Uint8Array): Uint8Array =>
    edit(sound.der, extension(oid), (one) => edit(one, [children(one).length - 1], () => der.octets(bytes)));

  test.each([
    ["nothing", new Uint8Array()],
    ["a byte behind its end", Buffer.concat([sound.der, Uint8Array.of(0)])],
    ["a byte behind its body", edit(sound.der, [2], (one) => [one, der.nothing])],
    ["no signature", edit(sound.der, Path.signature, drop)],
    ["a signature with loose bits", edit(sound.der, Path.signature, () => der.bits(new Uint8Array(64), 3))],
    ["another algorithm inside than outside", edit(sound.der, Path.algorithm, () => der.sequence(der.oid("1.2.840.10045.4.3.3")))],
    ["other parameters inside than outside", edit(sound.der, Path.algorithm, (one) => der.sequence(children(one)[0]!, der.nothing))],
    ["version 4", edit(sound.der, Path.version, () => der.context(0, der.integer(3)))],
    ["two versions", edit(sound.der, Path.version, () => der.context(0, der.integer(2), der.integer(2)))],
    ["a negative serial", edit(sound.der, Path.serial, () => der.element(2, Uint8Array.of(0x80)))],
    ["a serial of 21 bytes", edit(sound.der, Path.serial, () => der.integer(Buffer.alloc(21, 1)))],
    ["one time only", edit(sound.der, [...Path.validity, 0], drop)],
    ["three times", edit(sound.der, [...Path.validity, 0], twice)],
    ["an empty RDN", edit(sound.der, [...Path.subject, 0], () => der.setOf())],
    ["101 parts of a name", edit(sound.der, [...Path.subject, 0], (one) => Array.from({ length: 101 }, () => one))],
    ["two keys", edit(sound.der, [...Path.key, 1], twice)],
    ["an extension twice", edit(sound.der, extension(extensionOids.keyUsage), twice)],
    [
      "51 extensions",
      edit(sound.der, extension(extensionOids.keyUsage), (one) => [
        one,
        ...Array.from({ length: 50 }, (_, n) => der.sequence(der.oid(`1.2.${n}`), der.octets(new Uint8Array()))),
      ]),
    ],
    ["two lists of extensions", edit(sound.der, Path.extensions, twice)],
    ["a key usage with a byte behind it", value(extensionOids.keyUsage, Uint8Array.of(3, 2, 7, 0x80, 0))],
    ["a key usage that is no BIT STRING", value(extensionOids.keyUsage, der.octets(Uint8Array.of(1)))],
    ["a BOOLEAN of 1", value(extensionOids.basicConstraints, der.sequence(der.element(1, Uint8Array.of(1))))],
    ["a path length without CA", value(extensionOids.basicConstraints, der.sequence(der.integer(0)))],
    ["a negative path length", value(extensionOids.basicConstraints, der.sequence(der.boolean(true), der.element(2, Uint8Array.of(0xff))))],
    ["101 usages", value(extensionOids.extKeyUsage, der.sequence(...Array.from({ length: 101 }, (_, n) => der.oid(`1.2.${n}`))))],
    [
      "an AKI with more than belongs there",
      value(extensionOids.authorityKeyIdentifier, der.sequence(der.contextBytes(0, Uint8Array.of(1)), der.nothing)),
    ],
  ])("%s", (_name, bytes) => {
    expect(() => parse(bytes)).toThrow(DerFault);
  });

  test.each([
    ["no names at all", der.sequence()],
    ["no sequence of names", der.nothing],
    ["a name of a kind that does not exist", der.sequence(der.contextBytes(9, Uint8Array.of(1)))],
    ["a universal tag where a name belongs", der.sequence(der.element(0x06, Buffer.from("spiffe://dev/a")))],
    ["an application tag", der.sequence(der.element(0x46, Buffer.from("spiffe://dev/a")))],
    ["a private tag", der.sequence(der.element(0xc6, Buffer.from("spiffe://dev/a")))],
    ["a URI in pieces", der.sequence(der.context(6, der.element(0x16, Buffer.from("spiffe://dev/a"))))],
    ["a directory name that is no structure", der.sequence(der.contextBytes(4, Uint8Array.of(1)))],
    ["names cut off", Uint8Array.of(0x30, 3, 0x86, 9, 0x61)],
    ["a byte behind the names", Buffer.concat([der.sequence(der.contextBytes(6, Buffer.from("a:b"))), Uint8Array.of(0)])],
    [`${MAX_NAMES + 1} names`, der.sequence(...Array.from({ length: MAX_NAMES + 1 }, () => der.contextBytes(2, Buffer.from("a"))))],
  ])("%s, as a fault of the names", (_name, bytes) => {
    expect(() => parse(value(extensionOids.subjectAltName, bytes))).toThrow(NameFault);
  });

  test("whatever is larger than the bound, before it is read", () => {
    expect(() => parse(new Uint8Array(MAX_CERTIFICATE + 1))).toThrow(`more than ${MAX_CERTIFICATE} bytes`);
  });
});

describe("the strength of a key", () => {
  const rsa = (modulus: Uint8Array, exponent: Uint8Array): Uint8Array =>
    der.sequence(der.sequence(der.oid(KeyAlgorithm.RSA), der.nothing), der.bits(der.sequence(der.integer(modulus), der.integer(exponent))));
  const ec = (parameters: Uint8Array): Uint8Array =>
    der.sequence(der.sequence(der.oid(KeyAlgorithm.EC), parameters), der.bits(Buffer.alloc(65, 4)));
  const modulus = (bits: number): Uint8Array => Buffer.alloc(bits / 8, 0xff);
  const f4 = Uint8Array.of(1, 0, 1);
  const other = (oid: string): Uint8Array => der.sequence(der.sequence(der.oid(oid)), der.bits(Buffer.alloc(32, 4)));

  test.each([
    ["RSA of 1024 bits", rsa(modulus(1024), f4), "RSA of 1024 bits"],
    ["RSA of 2047 bits", rsa(Buffer.concat([Uint8Array.of(0x7f), modulus(2040)]), f4), "RSA of 2047 bits"],
    ["RSA of 2048 bits", rsa(modulus(2048), f4), undefined],
    ["RSA of 8192 bits", rsa(modulus(8192), f4), undefined],
    ["RSA of 16384 bits", rsa(modulus(16384), f4), "RSA of 16384 bits"],
    ["RSA with the exponent 3", rsa(modulus(2048), Uint8Array.of(3)), undefined],
    ["RSA with the exponent 1", rsa(modulus(2048), Uint8Array.of(1)), "unsound exponent"],
    ["RSA with an even exponent", rsa(modulus(2048), Uint8Array.of(4)), "unsound exponent"],
    ["RSA with an exponent of 72 bits", rsa(modulus(2048), Buffer.alloc(9, 0xff)), "unsound exponent"],
    ["P-256", ec(der.oid("1.2.840.10045.3.1.7")), undefined],
    ["P-384", ec(der.oid("1.3.132.0.34")), undefined],
    ["P-521", ec(der.oid("1.3.132.0.35")), undefined],
    ["secp256k1", ec(der.oid("1.3.132.0.10")), "the curve 1.3.132.0.10"],
    ["P-192", ec(der.oid("1.2.840.10045.3.1.1")), "the curve"],
    ["a curve that is spelt out", ec(der.sequence(der.integer(1))), "spelt out"],
    ["a curve that is inherited", ec(der.nothing), "spelt out"],
    ["Ed25519", other("1.3.101.112"), undefined],
    ["Ed448", other("1.3.101.113"), undefined],
    ["X25519", other("1.3.101.110"), "1.3.101.110"],
    ["DSA", other("1.2.840.10040.4.1"), "1.2.840.10040.4.1"],
    ["RSA-PSS", other("1.2.840.113549.1.1.10"), "1.2.840.113549.1.1.10"],
  ])("of %s is judged from its DER", (_name, spki, fault) => {
    const found = weakness(readPublicKey(new DerReader(spki)));
    if (fault === undefined) expect(found).toBeUndefined();
    else expect(found).toContain(fault);
  });

  test("is the same of the runtime's own key objects", () => {
    for (const type of ["p256", "p384", "p521", "ed25519", "rsa2048", "rsa1024"] as KeyType[]) {
      const { publicKey } = new X509Certificate(ca.issue({ privateKey: newKey(type) }).der);
      expect([type, weakness(publicKey)]).toEqual([type, type === "rsa1024" ? "RSA of 1024 bits" : undefined]);
    }
  });

  test.each([
    ["no numbers", der.sequence(der.sequence(der.oid(KeyAlgorithm.RSA), der.nothing), der.bits(new Uint8Array(8)))],
    [
      "a third number",
      der.sequence(der.sequence(der.oid(KeyAlgorithm.RSA)), der.bits(der.sequence(der.integer(7), der.integer(3), der.integer(1)))),
    ],
    [
      "a negative modulus",
      der.sequence(der.sequence(der.oid(KeyAlgorithm.RSA)), der.bits(der.sequence(der.element(2, modulus(2048)), der.integer(3)))),
    ],
  ])("cannot be told of an RSA key with %s", (_name, spki) => {
    expect(() => readPublicKey(new DerReader(spki))).toThrow(DerFault);
  });
});
