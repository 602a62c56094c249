import { Buffer } from "node:buffer";
import { expect, test } from "vitest";
import { fingerprintOf, parseCertificate } from "../../src/identity/certificate.ts";
import { createTrust, judge } from "../../src/identity/judge.ts";
import { twinOf } from "../../src/identity/twin.ts";
import { edit } from "../support/der-edit.ts";
import { bits } from "../support/der.ts";
import { createTestCa, type KeyType } from "../support/mint.ts";
import { twin } from "../support/twin.ts";

const name = { uri: "spiffe://dev/agent/mallory" } as const;

test.each<KeyType>(["p256", "p384", "p521"])(
  "a certificate that a key of %s signed has one twin, which the guard believes as well",
  (keyType) => {
    const ca = createTestCa({ keyType });
    const trust = createTrust({ ca: [ca.certificate], crl: [], now: Date.now() });
    // So many that lengths of 127 and 128 bytes, sign bytes and short numbers are among them.
    for (let n = 0; n < 40; n++) {
      const issued = ca.issue(name);
      const other = twin(issued);
      const told = [issued.der, other].map((der) => judge([der], trust, { now: Date.now(), verifiedByRuntime: false }));
      const expected = [issued.fingerprint, fingerprintOf(other)];
      expect(told).toMatchObject([
        { ok: true, identity: { fingerprint: expected[0], twin: expected[1] } },
        { ok: true, identity: { fingerprint: expected[1], twin: expected[0] } },
      ]);
    }
  },
);

test.each<KeyType>(["rsa2048", "ed25519"])("one that a key of %s signed has none", (keyType) => {
  const issued = createTestCa({ keyType }).issue(name);
  expect(twinOf(parseCertificate(Buffer.from(issued.der)))).toBeUndefined();
});

test("what is no signature has none", () => {
  const { der } = createTestCa().issue(name);
  for (const junk of ["", "30", "3000", "3003020101", "300602010102", "30060201010201"]) {
    const odd = edit(der, [2], () => bits(Buffer.from(junk, "hex")));
    expect(twinOf(parseCertificate(Buffer.from(odd)))).toBeUndefined();
  }
});
