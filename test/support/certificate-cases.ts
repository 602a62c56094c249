/**
 * Client certificates, sound and odd, with the verdict that every door must give: one table for `judge` alone and for real handshakes on
 * both runtimes. `in`: let in; else the reason of the closed list.
 */
import type { Reason } from "../../src/base/reason.ts";
import { context, contextBytes, octets, oid, sequence, setOf, utf8 } from "./der.ts";
import { createTestCa, extensionOids, type Issued, type LeafOptions, type TestCa } from "./mint.ts";

export interface CertificateCase {
  readonly name: string;
  readonly verdict: "in" | Reason;
  readonly issued: Issued;
  /** Leaf first: the certificates that the client presents. */
  readonly chain: readonly Issued[];
}

const hour = 3_600_000;

/** `ca` is trusted; everything else that issues here is not. `revoked`: the certificate to put on a list. */
export function certificateCases(ca: TestCa): { readonly cases: readonly CertificateCase[]; readonly revoked: Issued } {
  const stranger = createTestCa({ cn: "stranger CA" });
  const impostor = createTestCa({ cn: "test CA" }); // the name of `ca`, another key
  const middle = ca.intermediate();
  const narrow = ca.intermediate({ cn: "narrow", pathLength: 0 });
  const below = narrow.intermediate({ cn: "below narrow" });
  const unsigning = ca.intermediate({ cn: "may not sign", keyUsage: ["digitalSignature"] });
  const weakMiddle = ca.intermediate({ cn: "weak", keyType: "rsa1024" });
  const expiredMiddle = ca.intermediate({ cn: "expired", notBefore: Date.now() - 10 * hour, notAfter: Date.now() - hour });
  const usage = (...oids: readonly string[]) => ({ [extensionOids.extKeyUsage]: { value: sequence(...oids.map(oid)) } });
  const clientsOnly = ca.intermediate({ cn: "for clients", extensions: usage("1.3.6.1.5.5.7.3.2") });
  const dnsOnly = sequence(context(0, sequence(contextBytes(2, Buffer.from("example")))));
  const constrained = (critical: boolean) =>
    ca.intermediate({ cn: "constrained", extensions: { [extensionOids.nameConstraints]: { value: dnsOnly, critical } } });
  const [constrainedHard, constrainedSoft] = [constrained(true), constrained(false)];
  const notCa = { [extensionOids.basicConstraints]: { value: sequence(), critical: true } };
  const posing = ca.intermediate({
    cn: "a client",
    keyUsage: ["digitalSignature", "keyCertSign"],
    extensions: { ...notCa, ...usage("1.3.6.1.5.5.7.3.2") },
  });
  const leaf = ca.client("leaf");
  const name = { uri: "spiffe://dev/agent/x" } as const;
  const rdn = (...pairs: readonly (readonly [string, string])[]) => setOf(...pairs.map(([type, text]) => sequence(oid(type), utf8(text))));
  const cases: CertificateCase[] = [];
  const add = (verdict: CertificateCase["verdict"], what: string, issued: Issued, ...more: readonly Issued[]): void =>
    void cases.push({ name: what, verdict, issued, chain: [issued, ...more] });
  const own = (verdict: CertificateCase["verdict"], what: string, options: LeafOptions): void => add(verdict, what, ca.issue(options));

  add("in", "an ordinary one", leaf);
  own("in", "Ed25519", { ...name, keyType: "ed25519" });
  own("in", "P-384", { ...name, keyType: "p384" });
  own("in", "RSA of 2048 bits", { ...name, keyType: "rsa2048" });
  own("in", "a DNS name", { dns: "build.ci.example" });
  own("in", "a common name only", { cn: "legacy" });
  own("in", "__proto__ for a name", { uri: "spiffe://dev/__proto__", cn: "__proto__" });
  own("in", "no extended key usage", { ...name, eku: [] });
  own("in", "two common names", { ...name, cn: ["one", "two"] });
  own("in", "a common name in a multi-valued RDN", { ...name, subject: sequence(rdn(["2.5.4.3", "a"], ["2.5.4.10", "b"])) });
  own("in", "a common name with control and bidi characters", { ...name, cn: 'x\u0007\u202e{"level":"info"}' });
  add("in", "an intermediate's, with the intermediate", middle.issue(name), middle);

  add("unknown_issuer", "a foreign CA's", stranger.client("x"));
  add("unknown_issuer", "a foreign CA's of the same name", impostor.client("x"));
  add("unknown_issuer", "one signed by another client's certificate", ca.issue({ ...name, signer: leaf.privateKey }), leaf);
  add("unknown_issuer", "one that another client issued in its own name", posing.issue(name), posing);
  add("unknown_issuer", "one below a path length of 0", below.issue(name), below, narrow);
  add("unknown_issuer", "one of a CA that may not sign certificates", unsigning.issue(name), unsigning);
  add("in", "one of a CA for clients", clientsOnly.issue(name), clientsOnly);
  add("unknown_issuer", "one of a CA with name constraints", constrainedHard.issue(name), constrainedHard);
  add("unknown_issuer", "one of a CA with name constraints that says they are not critical", constrainedSoft.issue(name), constrainedSoft);
  own("unknown_issuer", "one that points to another key of its CA", {
    ...name,
    extensions: { [extensionOids.authorityKeyIdentifier]: { value: sequence(contextBytes(0, Buffer.from("another"))) } },
  });
  add("cert_expired", "one of a CA that expired", expiredMiddle.issue(name), expiredMiddle);
  add("weak_key", "one of a CA of 1024 bits", weakMiddle.issue(name), weakMiddle);
  own("cert_expired", "an expired one", { ...name, notBefore: Date.now() - 2 * hour, notAfter: Date.now() - 60_000 });
  own("not_yet_valid", "one of tomorrow", { ...name, notBefore: Date.now() + hour });

  own("wrong_usage", "a gateway's", { ...name, role: "gateway" });
  own("wrong_usage", "one for signing code", { ...name, eku: ["codeSigning"] });
  own("wrong_usage", "key usage without digitalSignature", { ...name, keyUsage: ["keyEncipherment"] });
  own("wrong_usage", "CA:TRUE", { ...name, ca: true });
  own("wrong_usage", "X.509 v1", { cn: "old", version: 1 });
  own("wrong_usage", "an unknown critical extension", {
    ...name,
    extensions: { "1.2.3.4": { value: octets(new Uint8Array(2)), critical: true } },
  });
  own("weak_key", "RSA of 1024 bits", { ...name, keyType: "rsa1024" });
  own("weak_key", "a SHA-1 signature", { ...name, hash: "sha1" });

  const bad: readonly (readonly [string, LeafOptions])[] = [
    ["two URIs", { uri: ["spiffe://dev/a", "spiffe://dev/b"] }],
    ["a NUL in the URI", { uri: "spiffe://dev/a\u0000b" }],
    ["a line break in the URI", { uri: "spiffe://dev/a\r\nb" }],
    ["quotes in the URI", { uri: 'spiffe://dev/"a"' }],
    ["a second name injected in the URI", { uri: "spiffe://dev/a, URI:spiffe://dev/admin" }],
    ["an empty URI", { uri: "" }],
    ["a URI that is not ASCII", { uri: new Uint8Array([0x73, 0x3a, 0xff]) }],
    ["a bad byte beside a good name", { uri: "spiffe://dev/a", dns: new Uint8Array([0x61, 0x00]) }],
    ["a wildcard", { dns: "*.example" }],
    ["a SPIFFE ID in capitals", { uri: "SPIFFE://dev/a" }],
    ["a trust domain in capitals", { uri: "spiffe://Dev/a" }],
    ["a SPIFFE ID with an empty segment", { uri: "spiffe://dev//a" }],
    ["a SPIFFE ID with a trailing slash", { uri: "spiffe://dev/a/" }],
    ["a SPIFFE ID with ..", { uri: "spiffe://dev/../a" }],
    ["a SPIFFE ID with an escape", { uri: "spiffe://dev/%61" }],
    ["a SPIFFE ID with a query", { uri: "spiffe://dev/a?b" }],
    ["a SPIFFE ID with a port", { uri: "spiffe://dev:1/a" }],
    ["a SPIFFE ID of 3,000 bytes", { uri: `spiffe://dev/${"a".repeat(3000)}` }],
    ["an empty DNS name", { dns: "" }],
    ["a DNS name with a space", { dns: "a b" }],
    ["101 names", { dns: Array.from({ length: 101 }, (_, n) => `n${n}.example`) }],
  ];
  for (const [what, options] of bad) own("bad_san", what, options);
  own("bad_san", "4,000 names", { dns: Array.from({ length: 4_000 }, (_, n) => `n${n}.example`) });

  const revoked = ca.client("revoked");
  add("revoked", "a revoked one", revoked);
  return { cases, revoked };
}
