import { describe, expect, test } from "vitest";
import { connect } from "../../src/client.ts";
import { type Attempt, explainFailure } from "../../src/client/failure.ts";

const now = Date.UTC(2026, 5, 1);
const attempt: Attempt = {
  gateway: "gw.example:8443",
  serverName: "gw.example",
  own: { issuer: "CN=dev CA", notBefore: now - 1000, notAfter: now + 1000 },
  ca: ["CN=dev CA"],
  now,
};

describe("a failure to connect", () => {
  test.each([
    ["nothing listens", "dial", "ECONNREFUSED", "unreachable", /^nothing listens at gw\.example:8443$/u],
    ["no socket file", "dial", "ENOENT", "unreachable", /nothing listens/u],
    ["a name that does not resolve", "dial", "ENOTFOUND", "unreachable", /cannot be resolved/u],
    ["no route", "dial", "EHOSTUNREACH", "unreachable", /cannot be reached \(EHOSTUNREACH\)/u],
    [
      "a foreign gateway",
      "handshake",
      "SELF_SIGNED_CERT_IN_CHAIN",
      "untrusted_gateway",
      /does not come from the CA that we trust: CN=dev CA/u,
    ],
    ["a foreign gateway, said otherwise", "handshake", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "untrusted_gateway", /CA that we trust/u],
    ["an expired gateway", "handshake", "CERT_HAS_EXPIRED", "untrusted_gateway", /certificate of gw\.example:8443 has expired/u],
    ["no TLS there", "handshake", "ERR_SSL_WRONG_VERSION_NUMBER", "not_tls", /does not speak TLS$/u],
    ["old TLS there", "handshake", "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION", "not_tls", /does not speak TLS 1\.3/u],
    ["a raw listener", "handshake", "ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "alpn", /does not speak pipegate\/1/u],
    ["a reset in the handshake", "handshake", "ECONNRESET", "unreachable", /broke the TLS handshake off/u],
    ["an alert we do not know", "handshake", "ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR", "unreachable", /alert internal_error/u],
    ["no certificate", "welcome", "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED", "no_certificate", /did not accept our certificate/u],
    ["a foreign client", "welcome", "ERR_SSL_TLSV1_ALERT_UNKNOWN_CA", "unknown_issuer", /issued by CN=dev CA/u],
    ["a closed door without a word", "welcome", "", "unknown_issuer", /issued by CN=dev CA/u],
    ["a revoked client", "welcome", "ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED", "revoked", /did not accept our certificate/u],
  ] as const)("from %s says so", (_, phase, code, expected, message) => {
    const error = explainFailure({ phase, code, message: "x" }, attempt);
    expect(error.code).toBe(expected);
    expect(error.message).toMatch(message);
    expect(error.next).toBeTruthy();
  });
  test("for the wrong name tells which names the gateway has", () => {
    const message = "Hostname/IP does not match certificate's altnames: Host: gw.example. is not in the cert's altnames: DNS:localhost";
    const error = explainFailure({ phase: "handshake", code: "ERR_TLS_CERT_ALTNAME_INVALID", message }, attempt);
    expect(error.message).toBe("the certificate of gw.example:8443 is not for gw.example, but for DNS:localhost");
    expect(error.next).toMatch(/--server-name/u);
  });
  test("tells what we can see of our own certificate when the gateway says nothing", () => {
    const expired = { ...attempt, own: { ...attempt.own, notAfter: Date.UTC(2026, 0, 1) } };
    expect(explainFailure({ phase: "welcome", code: "", message: "" }, expired)).toMatchObject({
      code: "cert_expired",
      message: "gw.example:8443 did not accept our certificate: it expired 2026-01-01T00:00Z",
    });
    const early = { ...attempt, own: { ...attempt.own, notBefore: now + 1 } };
    expect(explainFailure({ phase: "welcome", code: "ECONNRESET", message: "" }, early).code).toBe("not_yet_valid");
  });
});

describe("the gateway's address", () => {
  test.each([
    "",
    "gw.example",
    "gw.example:0",
    "gw.example:65536",
    "gw.example:80x",
    "::1:8443",
    "[::1]",
    "[zz]:1",
    "[:::]:1",
    "a b:1",
    "unix:",
    "http://gw:1",
  ])("%j is refused, showing the right form", async (text) => {
    await expect(connect({ gateway: text, certificate: "", key: "", ca: "" })).rejects.toMatchObject({
      code: "usage",
      next: expect.stringMatching(/host:port/u),
    });
  });
  test("that was likely meant is told", async () => {
    await expect(connect({ gateway: "::1:8443", certificate: "", key: "", ca: "" })).rejects.toMatchObject({
      message: "::1:8443 is not the address of a gateway: did you mean [::1]:8443",
    });
  });
});
