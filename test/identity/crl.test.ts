import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { parseCertificate } from "../../src/identity/certificate.ts";
import { MAX_CRL, parseCrl } from "../../src/identity/crl.ts";
import { DerFault } from "../../src/identity/der.ts";
import { createTrust, judge } from "../../src/identity/judge.ts";
import { isSignedBy } from "../../src/identity/signature.ts";
import * as der from "../support/der.ts";
import { edit, resign } from "../support/der-edit.ts";
import { createTestCa, type KeyType } from "../support/mint.ts";

const hour = 3_600_000;
const now = Date.now();
const ca = createTestCa();
const sound = ca.crl({ revoked: ["0b", { serial: "ff00", reason: 1 }, { serial: "7f", reason: 0, at: Date.UTC(2055, 0) }] }).der;
const parse = (bytes: Uint8Array) => parseCrl(Buffer.from(bytes));
/** Where things stand in a list. */
const Path = { version: [0, 0], algorithm: [0, 1], nextUpdate: [0, 4], entries: [0, 5], extensions: [0, 6] };

describe("a revocation list", () => {
  test("tells its issuer, its times and its serials", () => {
    const thisUpdate = Date.UTC(2049, 11, 31, 23, 59, 59);
    const list = parse(ca.crl({ revoked: ["0b", "ff00"], thisUpdate, nextUpdate: thisUpdate + 1_000 }).der);
    expect(list).toMatchObject({ thisUpdate, nextUpdate: thisUpdate + 1_000 });
    expect([...list.revoked]).toEqual(["0b", "ff00"]);
    expect(list.issuer.equals(parseCertificate(Buffer.from(ca.der)).subject)).toBe(true);
    expect([...parse(sound).revoked]).toEqual(["0b", "ff00", "7f"]);
    expect(parse(ca.crl().der).revoked.size).toBe(0);
  });

  test("may be of version 1, without extensions", () => {
    const bare = edit(ca.crl({ extensions: { "2.5.29.35": null }, number: null }).der, Path.version, () => []);
    expect(parse(bare).revoked.size).toBe(0);
    expect(() => parse(edit(sound, Path.version, () => []))).toThrow("version 1");
  });

  test.each(["p256", "p384", "p521", "ed25519", "rsa2048"] as KeyType[])("is known by its signature (%s)", (keyType) => {
    const [own, other] = [createTestCa({ keyType }), createTestCa({ keyType })];
    const key = (of: typeof own) => parseCertificate(Buffer.from(of.der)).publicKey;
    const { signed } = parse(own.crl({ revoked: ["01"] }).der);
    expect([
      isSignedBy(signed, key(own)),
      isSignedBy(signed, key(other)),
      isSignedBy(signed, key(createTestCa({ keyType: "rsa3072" }))),
    ]).toEqual([true, false, false]);
    expect(isSignedBy({ ...signed, body: Buffer.from(signed.body).fill(0, 4, 5) }, key(own))).toBe(false);
    expect(isSignedBy({ ...signed, signature: signed.signature.subarray(1) }, key(own))).toBe(false);
    expect(isSignedBy({ ...signed, signature: Buffer.alloc(0) }, key(own))).toBe(false);
  });

  test("is not believed under an algorithm that is not its key's", () => {
    const rsa = createTestCa({ keyType: "rsa2048" });
    const { signed } = parse(rsa.crl().der);
    const { publicKey } = parseCertificate(Buffer.from(rsa.der));
    expect(isSignedBy({ ...signed, algorithm: "1.2.840.10045.4.3.2" }, publicKey)).toBe(false);
    expect(isSignedBy({ ...signed, algorithm: "1.3.101.112" }, publicKey)).toBe(false);
    expect(isSignedBy({ ...signed, algorithm: "1.2.840.113549.1.1.5" }, publicKey)).toBe(false);
  });

  const entryExtension = (oid: string, value: Uint8Array, critical = false) =>
    edit(sound, [...Path.entries, 1, 2], () =>
      der.sequence(der.sequence(der.oid(oid), ...(critical ? [der.boolean(true)] : []), der.octets(value))),
    );
  const whole = (oid: string, critical: boolean) => ca.crl({ extensions: { [oid]: { value: der.sequence(), critical } } }).der;

  test.each([
    ["nothing", new Uint8Array()],
    ["a byte behind the end", Buffer.concat([sound, Uint8Array.of(0)])],
    ["another algorithm inside", edit(sound, Path.algorithm, () => der.sequence(der.oid("1.2.840.10045.4.3.3")))],
    ["version 3", edit(sound, Path.version, () => der.integer(2))],
    ["no next update", ca.crl({ nextUpdate: null }).der],
    ["a negative serial", edit(sound, [...Path.entries, 0, 0], () => der.element(2, Uint8Array.of(0xf5)))],
    ["an entry without a time", edit(sound, [...Path.entries, 0, 1], () => [])],
    ["an entry with more than belongs there", edit(sound, [...Path.entries, 0, 1], (one) => [one, der.sequence(), der.nothing])],
    ["an extension twice", edit(sound, [...Path.extensions, 0, 0], (one) => [one, one])],
    ["an unknown critical extension", whole("1.2.3", true)],
    ["a delta", whole("2.5.29.27", true)],
    ["a delta that says it is not critical", whole("2.5.29.27", false)],
    ["a part of a list", whole("2.5.29.28", true)],
    ["a part of a list that says it is not critical", whole("2.5.29.28", false)],
    ["an entry of another issuer", entryExtension("2.5.29.29", der.sequence())],
    ["an entry with an unknown critical extension", entryExtension("1.2.3", der.nothing, true)],
    ["an entry that takes one back", entryExtension("2.5.29.21", der.element(0x0a, Uint8Array.of(8)))],
    ["an entry with a malformed reason", entryExtension("2.5.29.21", der.nothing)],
  ])("is refused with %s", (_name, bytes) => {
    expect(() => parse(bytes)).toThrow(DerFault);
  });

  test("is refused when it is larger than the bound, and cut anywhere", () => {
    expect(() => parse(new Uint8Array(MAX_CRL + 1))).toThrow("more than");
    for (let cut = 0; cut < sound.length; cut++) expect(() => parse(sound.subarray(0, cut))).toThrow(DerFault);
  });

  test("of 100,000 entries with reasons is read in under a second, and found in at once", () => {
    const revoked = Array.from({ length: 100_000 }, (_, n) => ({ serial: `01${n.toString(16).padStart(30, "0")}`, reason: n % 6 }));
    const { der: list } = ca.crl({ revoked });
    let best = Infinity; // of some: what else runs on the machine is not what is measured
    for (let round = 0; round < 5 && best >= 1_000; round++) {
      const started = performance.now();
      parse(list);
      best = Math.min(best, performance.now() - started);
    }
    expect(best).toBeLessThan(1_000);
    const { revoked: found } = parse(list);
    expect([found.size, found.has(revoked[99_999]!.serial), found.has("02")]).toEqual([100_000, true, false]);
  }, 60_000);
});

describe("revocation lists of a trust", () => {
  const leaf = ca.issue({ uri: "spiffe://dev/a", notAfter: now + 100 * hour });
  const verdict = (crl: readonly Uint8Array[], { at = now, authorities = [ca.certificate], chain = [leaf.der] } = {}): string => {
    const answer = judge(chain, createTrust({ ca: authorities, crl, now }), { now: at, verifiedByRuntime: false });
    return answer.ok ? "in" : `${answer.reason}: ${answer.detail}`;
  };
  const pem = (text: string): Uint8Array => Buffer.from(text);

  test("are found behind any text before their first block, such as openssl writes", () => {
    const text = `0 Certificate Revocation List:\n${"    Serial Number: 0B\n".repeat(1_000)}${ca.crl({ revoked: [leaf.serial] }).pem}`;
    expect(verdict([pem(text)])).toBe(`revoked: serial ${leaf.serial}`);
  });

  test("count together: a serial on any of them is revoked, and one that is up to date is enough", () => {
    const old = ca.crl({ revoked: [leaf.serial], nextUpdate: now + hour }).der;
    const fresh = ca.crl({ nextUpdate: now + 10 * hour }).der;
    expect(verdict([old, fresh])).toContain("revoked: serial");
    const gone = ca.crl({ nextUpdate: now + hour }).der;
    expect(verdict([gone, fresh], { at: now + 2 * hour })).toBe("in");
    expect(verdict([gone], { at: now + 2 * hour })).toContain("out of date");
    expect(verdict([gone, fresh], { at: now + 11 * hour })).toContain("out of date");
  });

  test("of a new key under the old name revoke what the old key signed, but do not stand in for its own list", () => {
    const next = createTestCa({ cn: "test CA" });
    const authorities = [ca.certificate, next.certificate];
    expect(verdict([next.crl({ revoked: [leaf.serial] }).der], { authorities })).toContain("revoked: serial");
    const own = ca.crl({ nextUpdate: now + hour }).der;
    const fresh = next.crl({ nextUpdate: now + 10 * hour }).der;
    expect(verdict([own, fresh], { authorities, at: now + 2 * hour })).toContain("out of date");
  });

  test("of an intermediate count when the intermediate stands in trust.ca, and of a root when it names itself", () => {
    const middle = ca.intermediate();
    const below = middle.issue({ uri: "spiffe://dev/a" });
    const authorities = [ca.certificate, middle.certificate];
    expect(verdict([], { authorities, chain: [below.der] })).toBe("in");
    expect(verdict([middle.crl({ revoked: [below.serial] }).der], { authorities, chain: [below.der] })).toContain("revoked");
    expect(verdict([ca.crl({ revoked: [middle.serial] }).der], { authorities, chain: [below.der] })).toContain("revoked");
    expect(verdict([ca.crl({ revoked: [ca.serial] }).der])).toContain("revoked");
  });

  test("must be signed by a CA that may, as they stand", () => {
    const mute = createTestCa({ keyUsage: ["keyCertSign"] });
    expect(() => verdict([mute.crl().der], { authorities: [mute.certificate] })).toThrow("does not name");
    const forged = resign(ca.crl({ revoked: [] }).der, createTestCa().privateKey, (body) => body);
    expect(() => verdict([forged])).toThrow("signature");
    const changed = Buffer.from(ca.crl({ revoked: [leaf.serial] }).der);
    const at = changed.indexOf(Buffer.from(leaf.serial, "hex"));
    changed[at + 3]! ^= 1;
    expect(() => verdict([changed])).toThrow("signature");
  });
});
