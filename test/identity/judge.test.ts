import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { createTrust, judge } from "../../src/identity/judge.ts";
import { certificateCases } from "../support/certificate-cases.ts";
import { bits, pem } from "../support/der.ts";
import { edit } from "../support/der-edit.ts";
import { createTestCa } from "../support/mint.ts";

const hour = 3_600_000;
const ca = createTestCa();
const { cases, revoked } = certificateCases(ca);
const now = Date.now();
const plain = createTrust({ ca: [ca.certificate], crl: [], now });
const listed = createTrust({ ca: [ca.certificate], crl: [Buffer.from(ca.crl({ revoked: [revoked.serial] }).pem)], now });

describe("judging a certificate without help of the runtime", () => {
  test.each(cases)("says $verdict to $name", ({ chain, verdict, issued }) => {
    const answer = judge(
      chain.map(({ der }) => der),
      listed,
      { now, verifiedByRuntime: false },
    );
    expect(answer.ok ? "in" : answer.reason).toBe(verdict);
    if (answer.ok) expect(answer.identity).toMatchObject({ fingerprint: issued.fingerprint, serial: issued.serial });
    else expect(answer.detail).toMatch(/^[\x20-\x7e]+$/);
  });

  test("gives the same answer again: what is remembered is only what was proven", () => {
    for (const { chain, verdict } of [...cases, ...cases]) {
      const answer = judge(
        chain.map(({ der }) => der),
        listed,
        { now, verifiedByRuntime: false },
      );
      expect(answer.ok ? "in" : answer.reason).toBe(verdict);
    }
  });

  test("takes the names that are whole, and no common name that could be read in two ways", () => {
    const identity = (options: Parameters<typeof ca.issue>[0]) => {
      const answer = judge([ca.issue(options).der], plain, { now, verifiedByRuntime: false });
      if (!answer.ok) throw new Error(answer.detail);
      return answer.identity;
    };
    expect(identity({ uri: "spiffe://dev/a", dns: "A.Example", cn: "c" })).toMatchObject({
      principal: "spiffe://dev/a",
      uri: "spiffe://dev/a",
      dns: ["a.example"],
      cn: "c",
    });
    expect(identity({ dns: ["B.example", "a.example"] }).principal).toBe("dns:b.example");
    expect(identity({ cn: "legacy" }).principal).toBe("cn:legacy");
    for (const cn of [["one", "two"], "x\u202ey", "tab\there", " padded "]) expect(identity({ cn }).cn).toBeUndefined();
    expect(identity({ cn: ["one", "two"] }).principal).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  test("keeps leading zeros of a serial and drops DER's sign byte", () => {
    for (const serial of ["00a1b2", "0b", "00ff"]) {
      const issued = ca.issue({ uri: "spiffe://dev/a", serial });
      const answer = judge([issued.der], plain, { now, verifiedByRuntime: false });
      expect(answer.ok && answer.identity.serial).toBe(serial.replace(/^00(?=[89a-f])/, ""));
    }
  });

  test("judges times on each call, also of a leaf that was let in before, and forgives a minute of clock", () => {
    const issued = ca.issue({ uri: "spiffe://dev/a", notBefore: now - hour, notAfter: now + hour });
    const at = (time: number): string => {
      const answer = judge([issued.der], plain, { now: time, verifiedByRuntime: false });
      return answer.ok ? "in" : answer.reason;
    };
    const seconds = Math.floor((now - hour) / 1000) * 1000 + hour; // certificates know whole seconds
    expect(at(now)).toBe("in");
    expect(at(seconds + hour + 2_000)).toBe("cert_expired");
    expect(at(now)).toBe("in");
    const early = ca.issue({ uri: "spiffe://dev/a", notBefore: now + hour, notAfter: now + 2 * hour });
    expect(judge([early.der], plain, { now: seconds + hour - 58_000, verifiedByRuntime: false }).ok).toBe(true);
    const next = ca.issue({ uri: "spiffe://dev/a", notBefore: now + hour, notAfter: now + 2 * hour });
    expect(judge([next.der], plain, { now: seconds + hour - 62_000, verifiedByRuntime: false })).toMatchObject({ reason: "not_yet_valid" });
  });

  test("says when the earliest of the chain expires", () => {
    const middle = ca.intermediate({ notAfter: now + hour });
    const answer = judge([middle.issue({ uri: "spiffe://dev/a" }).der, middle.der], plain, { now, verifiedByRuntime: false });
    expect(answer.ok && Math.abs(answer.identity.notAfter - (now + hour))).toBeLessThan(1_000);
  });

  test("believes OpenSSL about a chain that the runtime does not show, but not where revocation lists have to be asked", () => {
    const { der } = ca.intermediate().issue({ uri: "spiffe://dev/a" });
    const verdict = (trust: typeof plain, verifiedByRuntime: boolean): boolean => judge([der], trust, { now, verifiedByRuntime }).ok;
    expect([verdict(plain, true), verdict(plain, false), verdict(listed, true)]).toEqual([true, false, false]);
    expect(verdict(plain, false)).toBe(false); // and does not remember it
  });

  test("ends chains that are too long, too large, circular or empty", () => {
    const leaf = ca.client("a").der;
    const verdict = (chain: readonly Uint8Array[]): string => {
      const answer = judge(chain, plain, { now, verifiedByRuntime: false });
      return answer.ok ? "in" : answer.reason;
    };
    const stray = createTestCa().client("a").der;
    expect(verdict([])).toBe("no_certificate");
    expect(verdict([new Uint8Array(0)])).toBe("no_certificate");
    expect(verdict([stray, ...Array.from({ length: 20 }, () => leaf)])).toBe("unknown_issuer");
    expect(verdict([Buffer.concat([stray, Buffer.alloc(70_000)])])).toBe("unknown_issuer");
    const large = judge([leaf, Buffer.alloc(70_000)], plain, { now, verifiedByRuntime: true });
    expect(large).toEqual({ ok: false, reason: "unknown_issuer", detail: "a certificate of 70000 bytes" }); // nobody made a hash of it
    const impostors = Array.from({ length: 9 }, () => createTestCa({ cn: "stray" }).der);
    expect(verdict([createTestCa({ cn: "stray" }).client("a").der, ...impostors])).toBe("unknown_issuer");
  });
});

describe("trust", () => {
  const refusal = (ca_: readonly string[], crl: readonly Uint8Array[] = []): string => {
    try {
      createTrust({ ca: ca_, crl, now });
      return "taken";
    } catch (error) {
      expect(error).toMatchObject({ code: "config", next: expect.any(String) });
      return (error as Error).message;
    }
  };
  const text = (list: { readonly pem: string }): Uint8Array => Buffer.from(list.pem);

  test.each([
    ["no CA at all", [], "has no CA"],
    ["an empty file", [""], "no certificate in PEM"],
    ["junk", ["junk"], "no certificate in PEM"],
    ["a cut PEM", [ca.certificate.slice(0, -60)], "no certificate in PEM"],
    ["PEM around junk", ["-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"], "cannot be read"],
    ["a client's certificate", [ca.client("x").certificate], "not a CA's"],
    ["a CA that may not sign", [createTestCa({ keyUsage: ["cRLSign"] }).certificate], "not a CA's"],
    ["an expired CA", [createTestCa({ notBefore: now - 2 * hour, notAfter: now - hour }).certificate], "expired on"],
    ["a weak CA", [createTestCa({ keyType: "rsa1024" }).certificate], "too weak"],
    ["a CA of RSA-PSS", [createTestCa({ keyType: "rsa-pss" }).certificate], "too weak"],
    ["a CA of X.509 v1", [createTestCa({ version: 1 }).certificate], "not a CA's"],
    [
      "a CA with name constraints, which would not be obeyed",
      [createTestCa({ extensions: { "2.5.29.30": { value: Buffer.from([0x30, 0]) } } }).certificate],
      "restricted",
    ],
    [
      "a CA whose key is no key",
      [
        pem(
          "CERTIFICATE",
          edit(ca.der, [0, 6, 1], () => bits(Buffer.alloc(65))),
        ),
      ],
      "cannot be read",
    ],
    ["one bad CA among good ones", [ca.certificate, "junk"], "trust.ca[1]"],
  ] as [string, string[], string][])("refuses %s", (_name, texts, words) => {
    expect(refusal(texts)).toContain(words);
  });

  test.each([
    ["junk", Buffer.from("junk"), "cannot be read"],
    ["an empty file", Buffer.alloc(0), "cannot be read"],
    ["a cut list", Buffer.from(ca.crl().der).subarray(0, 100), "cannot be read"],
    ["a foreign CA's list", text(createTestCa({ cn: "foreign" }).crl()), "trust.ca does not name"],
    ["a forged list", text(ca.crl({ signer: createTestCa().privateKey })), "signature"],
    ["an expired list", text(ca.crl({ thisUpdate: now - 2 * hour, nextUpdate: now - hour })), "out of date"],
    ["a list of tomorrow", text(ca.crl({ thisUpdate: now + hour })), "future"],
    ["a list without a next one", text(ca.crl({ nextUpdate: null })), "next update"],
    [
      "a list whose second half is missing",
      Buffer.from(ca.crl({ revoked: [revoked.serial] }).pem.slice(0, 300)),
      "no whole revocation list",
    ],
    ["two halves of two lists", Buffer.from(ca.crl({ revoked: ["01"] }).pem.slice(0, 300) + ca.crl().pem.slice(300)), "cannot be read"],
    ["a good list before a bad one", Buffer.from(ca.crl().pem + ca.crl().pem.slice(0, 200)), "no whole revocation list"],
    ["a list of another kind of PEM", Buffer.from(ca.crl().pem.replaceAll("X509 CRL", "CRL")), "no whole revocation list"],
    ["a SHA-1 signature", text(ca.crl({ hash: "sha1" })), "signature"],
    ["a delta list", text(ca.crl({ extensions: { "2.5.29.27": { value: Buffer.from([2, 1, 1]), critical: true } } })), "critical"],
  ] as [string, Uint8Array, string][])("refuses %s as a revocation list", (_name, bytes, words) => {
    expect(refusal([ca.certificate], [bytes])).toContain(words);
  });

  test("counts a CA that is named twice once, and takes a root whose own signature is SHA-1: it proves nothing anyway", () => {
    expect(createTrust({ ca: [ca.certificate, ca.certificate + ca.certificate], crl: [], now }).anchors.length).toBe(1);
    const old = createTestCa({ hash: "sha1" });
    const trust = createTrust({ ca: [old.certificate], crl: [], now });
    expect(judge([old.issue({ uri: "spiffe://dev/a" }).der], trust, { now, verifiedByRuntime: false }).ok).toBe(true);
  });

  test("takes lists in PEM and DER, several in a file, and of several CAs", () => {
    const other = createTestCa({ cn: "other CA" });
    const [a, b, c] = [ca.client("a"), ca.client("b"), other.client("c")];
    const files = [
      Buffer.from(ca.crl({ revoked: [a.serial] }).der),
      Buffer.from(ca.crl({ revoked: [b.serial] }).pem + other.crl({ revoked: [c.serial] }).pem),
    ];
    const trust = createTrust({ ca: [ca.certificate + other.certificate], crl: files, now });
    for (const { der } of [a, b, c])
      expect(judge([der], trust, { now, verifiedByRuntime: false })).toMatchObject({ ok: false, reason: "revoked" });
    expect(judge([ca.client("d").der], trust, { now, verifiedByRuntime: false }).ok).toBe(true);
  });

  test("refuses everyone of a CA whose list went out of date while serving", () => {
    const trust = createTrust({ ca: [ca.certificate], crl: [text(ca.crl({ nextUpdate: now + hour }))], now });
    const { der } = ca.issue({ uri: "spiffe://dev/a", notAfter: now + 10 * hour });
    expect(judge([der], trust, { now, verifiedByRuntime: false }).ok).toBe(true);
    expect(judge([der], trust, { now: now + 2 * hour, verifiedByRuntime: false })).toMatchObject({
      reason: "revoked",
      detail: expect.stringContaining("out of date"),
    });
  });

  test("refuses what an intermediate issued when the intermediate is revoked", () => {
    const middle = ca.intermediate();
    const trust = createTrust({ ca: [ca.certificate], crl: [text(ca.crl({ revoked: [middle.serial] }))], now });
    const chain = [middle.issue({ uri: "spiffe://dev/a" }).der, middle.der];
    expect(judge(chain, trust, { now, verifiedByRuntime: false })).toMatchObject({ reason: "revoked" });
  });

  test("reads 100,000 revoked serials in under two seconds", () => {
    const serials = Array.from({ length: 100_000 }, (_, n) => `01${n.toString(16).padStart(8, "0")}`);
    const list = text(ca.crl({ revoked: [...serials, revoked.serial] }));
    const started = performance.now();
    const trust = createTrust({ ca: [ca.certificate], crl: [list], now });
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(judge([revoked.der], trust, { now, verifiedByRuntime: false })).toMatchObject({ reason: "revoked" });
  }, 60_000);
});
