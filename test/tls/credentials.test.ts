import { createPrivateKey } from "node:crypto";
import { describe, expect, test } from "vitest";
import { PipegateError } from "../../src/base/error.ts";
import { requireUsableCredentials } from "../../src/tls/credentials.ts";
import { openDoor } from "../support/door.ts";
import { createTestCa } from "../support/mint.ts";

const ca = createTestCa();
const own = ca.gateway();
const hour = 3_600_000;

function fault(certificate: string, key: string): string {
  try {
    requireUsableCredentials({ certificate, key }, Date.now());
  } catch (error) {
    expect(error).toBeInstanceOf(PipegateError);
    expect(error).toMatchObject({ code: "config", next: expect.stringMatching(/\w/) });
    return (error as Error).message;
  }
  return "none";
}

const middle = ca.intermediate();
const below = middle.issue({ role: "gateway", dns: "localhost" });
const expired = ca.issue({ role: "gateway", dns: "localhost", notBefore: Date.now() - 2 * hour, notAfter: Date.now() - hour });
const client = ca.client("x");
const plain = ca.issue({ dns: "localhost", eku: [] });
const encrypted = createPrivateKey(own.key).export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" }).toString();

describe("a listener's own certificate and key", () => {
  test.each([
    ["a certificate of the CA", own.certificate, own.key],
    ["a chain, leaf first", below.certificate + middle.certificate, below.key],
    ["one without extended key usage", plain.certificate, plain.key],
  ])("may be %s", (_, certificate, key) => {
    expect(fault(certificate, key)).toBe("none");
  });

  test.each([
    ["no PEM", "junk", own.key, /certificate is no certificate in PEM/],
    ["empty", "", own.key, /certificate is no certificate in PEM/],
    ["cut off", own.certificate.slice(0, 200), own.key, /cut off/],
    ["damaged", own.certificate.replace(/MII/, "AAA"), own.key, /certificate cannot be read/],
    ["the other's key", own.certificate, client.key, /key does not belong/],
    ["a key of another kind", own.certificate, ca.issue({ keyType: "ed25519" }).key, /key does not belong/],
    ["a certificate for a key", own.certificate, own.certificate, /key is no private key/],
    ["an encrypted key", own.certificate, encrypted, /key is encrypted/],
    ["an expired one", expired.certificate, expired.key, /certificate expired on \d{4}-/],
    ["a client's", client.certificate, client.key, /not for servers/],
    ["the CA's own", ca.certificate, ca.key, /is a CA's/],
    ["a chain that begins with the CA", middle.certificate + below.certificate, below.key, /is a CA's/],
    ["a chain of strangers", below.certificate + createTestCa().certificate, below.key, /did not issue/],
  ])("may not be %s", (_, certificate, key, message) => {
    expect(fault(certificate, key)).toMatch(message);
  });

  test("are judged before anything listens", async () => {
    await expect(openDoor({ ca, options: { credentials: { certificate: own.certificate, key: client.key } } })).rejects.toMatchObject({
      code: "config",
    });
  });
});
