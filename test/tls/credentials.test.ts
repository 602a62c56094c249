import { createPrivateKey } from "node:crypto";
import { describe, expect, test } from "vitest";
import { checkCredentials, requireUsableCredentials, type Checked } from "../../src/tls/credentials.ts";
import { openDoor } from "../support/door.ts";
import { createTestCa, type Issued } from "../support/mint.ts";

const now = Date.now();
const hour = 3_600_000;
const ca = createTestCa();
const own = ca.gateway();
const local = { role: "gateway", dns: "localhost" } as const;
const iso = (at: number): string => new Date(Math.floor(at / 1000) * 1000).toISOString();

type Pair = Pick<Issued, "certificate" | "key">;

function check({ certificate, key }: Partial<Pair>, role: "gateway" | "client" = "gateway"): Checked {
  return checkCredentials({ certificate, key }, { role, now });
}

const middle = ca.intermediate();
const below = middle.issue(local);
const behind = (...chain: readonly Pair[]): string => chain.map(({ certificate }) => certificate).join("");
const ended = ca.intermediate({ notBefore: now - 2 * hour, notAfter: now - hour });
const early = ca.intermediate({ notBefore: now + hour, notAfter: now + 2 * hour });
const weak = ca.issue({ ...local, keyType: "rsa1024" });
const encrypted = createPrivateKey(own.key).export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" }).toString();
const issue = "issue one: pipegate ca issue --role gateway";
const order = "put our own first, then each one's issuer";
const copy = "copy it again";

describe("a gateway's certificate and key", () => {
  test.each<readonly [string, Pair]>([
    ["a certificate of the CA", own],
    ["a chain, leaf first", { ...below, certificate: behind(below, middle) }],
    ["one without extended key usage", ca.issue({ dns: "localhost", eku: [] })],
    ["one of a clock that is a little ahead", ca.issue({ ...local, notBefore: now + 30_000 })],
  ])("may be %s", (_, pair) => {
    expect(check(pair)).toEqual({ warnings: [], notAfter: expect.any(Number) });
    expect(() => requireUsableCredentials(pair, now)).not.toThrow();
  });

  const late = ca.issue({ ...local, notBefore: now - 2 * hour, notAfter: now - hour });
  const future = ca.issue({ ...local, notBefore: now + hour, notAfter: now + 2 * hour });
  test.each<readonly [string, Pair, says: string | RegExp, next: string]>([
    ["no PEM", { ...own, certificate: "junk" }, "holds no certificate in PEM", "name one that begins with -----BEGIN CERTIFICATE-----"],
    ["empty", { ...own, certificate: "" }, "holds no certificate in PEM", "name one that begins with -----BEGIN CERTIFICATE-----"],
    ["a key", { ...own, certificate: own.key }, "holds a key and no certificate", "see whether the two are exchanged"],
    ["cut off", { ...own, certificate: own.certificate.slice(0, 200) }, "is cut off or damaged", copy],
    ["damaged", { ...own, certificate: own.certificate.replace("MII", "AAA") }, /^holds a certificate that cannot be read \(.+\)$/, copy],
    ["eleven", { ...own, certificate: own.certificate.repeat(11) }, "holds 11 certificates", "leave only its chain there, 10 at most"],
    ["the CA's own", ca, "is a CA's instead of one that it issued for us", issue],
    ["a chain that begins with a CA", { ...below, certificate: behind(middle, below) }, "begins with a CA's certificate", order],
    ["a client's", ca.client("x"), "is not for a server (serverAuth)", issue],
    ["one that may not sign", ca.issue({ ...local, keyUsage: ["keyAgreement"] }), /^may not sign/, issue],
    ["weak", weak, "has a key that is too weak, RSA of 1024 bits", "use P-256, Ed25519, or RSA of 2048 bits and more"],
    ["expired", late, `expired on ${iso(now - hour)}`, issue],
    ["not yet valid", future, `is valid from ${iso(now + hour)} only`, "check the clock"],
    [
      "below a CA that expired",
      { ...own, certificate: behind(ended.issue(local), ended) },
      `holds a chain whose certificate 2 expired on ${iso(now - hour)}`,
      "put its CA's new one there",
    ],
    [
      "below a CA that is not yet valid",
      { ...own, certificate: behind(early.issue(local), early) },
      `holds a chain whose certificate 2 is valid from ${iso(now + hour)} only`,
      "check the clock",
    ],
    [
      "a chain of strangers",
      { ...below, certificate: behind(below, createTestCa()) },
      "is no chain: certificate 2 did not issue the one before it",
      order,
    ],
  ])("may not be a certificate that is %s", (_, pair, says, next) => {
    const { certificate: fault, key, warnings } = check(pair);
    expect({ fault, key, warnings }).toEqual({
      fault: { says: typeof says === "string" ? says : expect.stringMatching(says), next },
      key: undefined,
      warnings: [],
    });
    expect(() => requireUsableCredentials(pair, now)).toThrow(
      expect.objectContaining({ code: "config", message: `the gateway's certificate ${fault!.says}`, next }),
    );
  });

  const other = { says: "is not the key of the certificate", next: "name the one that it was made for" };
  test.each<readonly [string, string, { readonly says: string; readonly next: string }]>([
    ["another's", ca.client("x").key, other],
    ["of another kind", ca.issue({ keyType: "ed25519" }).key, other],
    ["a certificate", own.certificate, { says: "holds a certificate and no key", next: "see whether the two are exchanged" }],
    ["none", "junk", { says: "holds no private key in PEM", next: "name one that begins with -----BEGIN PRIVATE KEY-----" }],
    ["damaged", own.key.replace(/\n[^-]{20}/, "\n"), { says: "holds a private key that cannot be read", next: copy }],
    ["encrypted", encrypted, { says: "is encrypted", next: "decrypt it first: openssl pkey -in FILE -out FILE.pem" }],
  ])("may not be a key that is %s", (_, key, fault) => {
    const pair = { certificate: own.certificate, key };
    expect(check(pair)).toEqual({ key: fault, warnings: [], notAfter: expect.any(Number) });
    expect(() => requireUsableCredentials(pair, now)).toThrow(
      expect.objectContaining({ code: "config", message: `the gateway's key ${fault.says}`, next: fault.next }),
    );
  });

  test("are both told when both are wrong, and each is judged alone when the other cannot be had", () => {
    expect(check({ certificate: "junk", key: "junk" })).toMatchObject({
      certificate: { says: "holds no certificate in PEM" },
      key: { says: "holds no private key in PEM" },
    });
    expect(check({ certificate: late.certificate })).toMatchObject({ certificate: { says: expect.stringMatching(/^expired/) } });
    expect(check({ key: own.key })).toEqual({ warnings: [] });
    expect(check({})).toEqual({ warnings: [] });
  });

  test("are judged afresh whenever they are asked about: for the time, the role and the key of the moment", () => {
    const at = (time: number, pair: Pair = own): Checked => checkCredentials(pair, { role: "gateway", now: time });
    expect(at(now).certificate).toBeUndefined();
    expect(at(now + 100 * 365 * 24 * hour).certificate?.says).toMatch(/^expired on /u);
    expect(check(own, "client").certificate?.says).toBe("is not for a client (clientAuth)");
    expect(at(now, { ...own, key: ca.gateway().key }).key?.says).toBe("is not the key of the certificate");
    expect(at(now, ca.client("x")).certificate?.says).toBe("is not for a server (serverAuth)");
    expect(at(now).certificate).toBeUndefined();
  });

  test("are odd when they end soon, or name no host", () => {
    const odd = ca.issue({ role: "gateway", cn: "gateway", notBefore: now - 9 * hour, notAfter: now + hour });
    expect(check(odd).warnings).toEqual([
      `expires soon, on ${iso(now + hour)}`,
      "names no host and no address, so clients cannot tell that it is this gateway",
    ]);
  });

  test("are judged before anything listens", async () => {
    const credentials = { certificate: own.certificate, key: weak.key };
    await expect(openDoor({ ca, options: { credentials } })).rejects.toMatchObject({ code: "config", next: other.next });
  });
});

test("what we show to a back end is a client's", () => {
  expect(check(ca.client("x"), "client")).toEqual({ warnings: [], notAfter: expect.any(Number) });
  expect(check(own, "client").certificate).toEqual({
    says: "is not for a client (clientAuth)",
    next: "issue one: pipegate ca issue --role client",
  });
});
