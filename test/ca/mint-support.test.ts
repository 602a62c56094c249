/** The tests' own mint is judged by openssl and the runtime, so that other tests may lean on it. */
import { createHash, X509Certificate } from "node:crypto";
import { describe, expect, test } from "vitest";
import { contextBytes } from "../support/der.ts";
import { createTestCa, extensionOids, type KeyType, newKey } from "../support/mint.ts";
import { withOpenssl } from "../support/openssl-judge.ts";

const { file, run: openssl } = withOpenssl();

const verify = (ca: string, leaf: string, ...more: string[]): string =>
  openssl("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", file(ca), ...more, file(leaf));

describe("the tests' mint", () => {
  test.each<KeyType>(["p256", "p384", "p521", "ed25519", "rsa2048", "rsa-pss"])(
    "makes %s CAs and leaves that openssl verifies",
    (keyType) => {
      const ca = createTestCa({ keyType });
      expect(verify(ca.certificate, ca.issue({ keyType, uri: "spiffe://dev/agent/a" }).certificate)).toMatch(/: OK/u);
    },
  );

  test("names what was asked for, with key, serial and fingerprint that belong to the certificate", () => {
    const issued = createTestCa().issue({
      role: "gateway",
      cn: "gw",
      dns: ["a.example", "b.example"],
      ip: ["127.0.0.1", "::1", "2001:db8::5:0:1"],
    });
    const text = openssl("x509", "-noout", "-text", "-in", file(issued.certificate));
    expect(text).toMatch(
      /DNS:a\.example, DNS:b\.example, IP Address:127\.0\.0\.1, IP Address:0:0:0:0:0:0:0:1, IP Address:2001:DB8:0:0:0:5:0:1/u,
    );
    expect(text).toMatch(/Subject: CN = gw/u);
    expect(text).toMatch(/TLS Web Server Authentication/u);
    expect(text).toMatch(/X509v3 Key Usage: critical\s+Digital Signature\n/u);
    const parsed = new X509Certificate(issued.certificate);
    expect(parsed.checkPrivateKey(issued.privateKey)).toBe(true);
    expect(parsed.serialNumber.toLowerCase()).toBe(issued.serial);
    expect(issued.fingerprint).toBe(`sha256:${createHash("sha256").update(parsed.raw).digest("hex")}`);
  });

  test("makes chains, and what is wrong with a certificate is what was asked for", () => {
    const root = createTestCa();
    const middle = root.intermediate();
    const leaf = middle.issue({ uri: "spiffe://dev/agent/a" });
    expect(verify(root.certificate, leaf.certificate, "-untrusted", file(middle.certificate))).toMatch(/: OK/u);
    const judged = (text: string) => (): string => verify(root.certificate, text);
    const day = 24 * 3600_000;
    expect(judged(root.issue({ notAfter: Date.now() - 1000 }).certificate)).toThrow(/has expired/u);
    expect(judged(root.issue({ notBefore: Date.now() + day, notAfter: Date.now() + 2 * day }).certificate)).toThrow(/not yet valid/u);
    expect(judged(root.issue({ role: "gateway", dns: "a.example" }).certificate)).toThrow(
      /unsuitable certificate purpose|unsupported certificate purpose/u,
    );
    expect(judged(root.issue({ signer: newKey() }).certificate)).toThrow(/signature failure/u);
    expect(judged(createTestCa().issue().certificate)).toThrow(/unable to get local issuer|signature failure/u);
  });

  test("leaves out, replaces and adds extensions, and writes version 1", () => {
    const ca = createTestCa();
    const shown = (text: string): string => openssl("x509", "-noout", "-text", "-in", file(text));
    expect(shown(ca.issue({ version: 1 }).certificate)).toMatch(/Version: 1 /u);
    const bare = shown(ca.issue({ ca: true, eku: [], extensions: { [extensionOids.keyUsage]: null } }).certificate);
    expect(bare).toMatch(/CA:TRUE/u);
    expect(bare).not.toMatch(/Key Usage/u);
    const odd = ca.issue({ names: [contextBytes(6, Buffer.from("spiffe://dev/a\0b", "latin1"))], hash: "sha1" });
    expect(Buffer.from(odd.der).includes("spiffe://dev/a\0b", 0, "latin1")).toBe(true);
    expect(shown(odd.certificate)).toMatch(/ecdsa-with-SHA1/u);
  });

  test("makes lists that openssl believes, and forged ones that it does not", () => {
    const ca = createTestCa();
    const leaf = ca.client("a");
    const other = ca.client("b");
    const list = ca.crl({ revoked: [leaf.serial, { serial: "00ff", at: Date.UTC(2026, 0, 1), reason: 1 }], number: 7 });
    const shown = openssl("crl", "-noout", "-text", "-CAfile", file(ca.certificate), "-in", file(list.pem));
    expect(shown).toMatch(/verify OK/u);
    expect(shown).toMatch(/X509v3 CRL Number:\s+7/u);
    expect(shown).toMatch(/Serial Number: FF\n[\s\S]*Key Compromise/u);
    const both = (text: string): string => verify(ca.certificate, text, "-crl_check", "-CRLfile", file(list.pem));
    expect(() => both(leaf.certificate)).toThrow(/certificate revoked/u);
    expect(both(other.certificate)).toMatch(/: OK/u);
    const forged = file(ca.crl({ signer: newKey() }).pem);
    expect(openssl("crl", "-noout", "-verify", "-CAfile", file(ca.certificate), "-in", forged)).toMatch(/verify failure/u);
  });
});
