import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { examine, type Step } from "../../src/identity/examine.ts";
import { createTrust, judge } from "../../src/identity/judge.ts";
import { certificateCases } from "../support/certificate-cases.ts";
import { createTestCa } from "../support/mint.ts";

const hour = 3_600_000;
const ca = createTestCa();
const { cases, revoked } = certificateCases(ca);
const now = Date.now();
const plain = createTrust({ ca: [ca.certificate], crl: [], now });
const list = Buffer.from(ca.crl({ revoked: [revoked.serial], nextUpdate: now + hour }).pem);
const listed = createTrust({ ca: [ca.certificate], crl: [list], now });

function stepsOf(chain: readonly Uint8Array[], trust = plain, more: { now?: number } = {}): readonly Step[] {
  return examine(chain, { trust, now, ...more });
}

function step(steps: readonly Step[], name: Step["step"]): Step {
  return steps.find((one) => one.step === name)!;
}

describe("what the guard thinks of a certificate", () => {
  test.each(cases)("fails a step exactly when the guard refuses: $verdict to $name", ({ chain, verdict }) => {
    const ders = chain.map(({ der }) => der);
    const steps = stepsOf(ders, listed);
    const answer = judge(ders, listed, { now, verifiedByRuntime: false });
    expect(steps.every(({ result }) => result === "holds")).toBe(answer.ok);
    expect(answer.ok).toBe(verdict === "in");
    if (!answer.ok) expect(steps.some(({ result }) => result === "fails")).toBe(true);
    for (const { says } of steps) expect(says).toMatch(/^[\x20-\x7e]+$/);
  });

  test("tells each step with what it found", () => {
    const leaf = ca.issue({ uri: "spiffe://dev/a", dns: "a.example", cn: "a", notBefore: now - hour, notAfter: now + hour });
    const steps = stepsOf([leaf.der], listed);
    expect(steps.map(({ step: name }) => name)).toEqual([
      "readable",
      "version",
      "key",
      "usage",
      "names",
      "validity",
      "issuer",
      "revocation",
    ]);
    expect(step(steps, "key").says).toBe("P-256");
    expect(step(steps, "names").says).toBe("spiffe://dev/a, also dns:a.example, cn:a");
    expect(step(steps, "validity").says).toBe(`from ${date(now - hour)} until ${date(now + hour)}`);
    expect(step(steps, "issuer").says).toContain("CN=test CA (until ");
    expect(step(steps, "revocation").says).toContain(`not on the list of CN=test CA, valid until ${date(now + hour)}`);
    expect(step(stepsOf([leaf.der]), "revocation").says).toBe("there is no list of its CAs");
  });

  test("goes on behind the first fault", () => {
    const late = ca.issue({
      uri: "spiffe://dev/a",
      eku: ["serverAuth"],
      notBefore: now - 2 * hour,
      notAfter: now - hour,
      serial: revoked.serial,
    });
    const failing = stepsOf([late.der], listed).filter(({ result }) => result === "fails");
    expect(failing.map(({ step: name }) => name)).toEqual(["usage", "validity", "revocation"]);
    expect(failing[2]!.says).toContain(`serial ${revoked.serial} is on the list of CN=test CA`);
  });

  test("leaves revocation open when there is no way to a root, and reads nothing behind junk", () => {
    const stranger = createTestCa({ cn: "stranger" }).client("x");
    expect(step(stepsOf([stranger.der], listed), "revocation").result).toBe("open");
    for (const junk of [
      [],
      [Buffer.alloc(0)],
      [Buffer.from("junk")],
      Array.from({ length: 11 }, () => stranger.der),
      [Buffer.alloc(70_000)],
    ])
      expect(stepsOf(junk)).toMatchObject([{ step: "readable", result: "fails" }]);
  });

  test("says what a list that is out of date does, by what the config says of such", () => {
    const leaf = ca.client("x");
    const later = now + 2 * hour;
    const refuses = step(stepsOf([leaf.der], listed, { now: later }), "revocation");
    expect(refuses).toMatchObject({ result: "fails", says: `the list of CN=test CA went out of date on ${date(now + hour)}` });
    const lenient = createTrust({ ca: [ca.certificate], crl: [list], now, onExpired: "warn" });
    expect(step(stepsOf([leaf.der], lenient, { now: later }), "revocation")).toMatchObject({
      result: "holds",
      says: expect.stringContaining("and is taken (trust.onExpired: warn)"),
    });
  });

  test("never throws, whatever the bytes", () => {
    const { der } = ca.client("x");
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.integer({ min: 0, max: 255 }), fc.uint8Array({ maxLength: 40 }), (at, byte, junk) => {
        const bent = Buffer.from(der);
        bent[at] = byte;
        for (const chain of [[bent], [der, junk], [junk]]) expect(stepsOf(chain, listed).length).toBeGreaterThan(0);
        const believed = judge([bent], listed, { now, verifiedByRuntime: false }).ok;
        expect(stepsOf([bent], listed).every(({ result }) => result === "holds")).toBe(believed);
      }),
      { numRuns: 300 },
    );
  });
});

function date(at: number): string {
  return new Date(Math.floor(at / 1000) * 1000).toISOString();
}
