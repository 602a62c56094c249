import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { reasons } from "../../src/base/reason.ts";
import { handshakeFailure } from "../../src/tls/failure.ts";

const failure = (code: string | undefined, message = "") =>
  handshakeFailure({ message, ...(code === undefined ? {} : { code }) }, { bytesRead: 7 });

describe("the reason of a failed handshake", () => {
  test.each([
    ["ERR_SSL_HTTP_REQUEST", "not_tls"],
    ["ERR_SSL_WRONG_VERSION_NUMBER", "not_tls"],
    ["ERR_SSL_UNSUPPORTED_PROTOCOL", "not_tls"],
    ["ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE", "not_tls"], // Deno: a TLS 1.2 hello
    ["ERR_SSL_SOMETHING_NEW", "not_tls"],
    ["ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE", "no_certificate"],
    ["ERR_SSL_NO_APPLICATION_PROTOCOL", "alpn"],
    ["ERR_SSL_TLSV1_ALERT_UNKNOWN_CA", "session_lost"],
    ["ECONNRESET", "session_lost"],
    ["CERT_HAS_EXPIRED", "cert_expired"],
    ["CERT_NOT_YET_VALID", "not_yet_valid"],
    ["INVALID_PURPOSE", "wrong_usage"],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "unknown_issuer"],
    ["SELF_SIGNED_CERT_IN_CHAIN", "unknown_issuer"],
    ["CERT_SIGNATURE_FAILURE", "unknown_issuer"],
    ["UNSPECIFIED", "unknown_issuer"],
    ["ERR_SSL_BAD_SIGNATURE", "protocol_error"],
  ])("%s is %s", (code, reason) => {
    expect(failure(code).reason).toBe(reason);
  });

  test("is found in what OpenSSL says, without thread and file", () => {
    const message =
      "40436630987F0000:error:0A00009C:SSL routines:tls_validate_record_header:http request:../deps/openssl/tlsany_meth.c:68:\n";
    expect(failure("ERR_SSL_HTTP_REQUEST", message)).toEqual({ reason: "not_tls", detail: "http request (ERR_SSL_HTTP_REQUEST)" });
  });

  test("is always of the list, with a detail of one bounded line, whatever a runtime says", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.option(fc.string(), { nil: undefined }), (message, code) => {
        const { reason, detail } = failure(code, message);
        expect(reasons).toContain(reason);
        expect(detail.length).toBeLessThan(4_000);
        expect(detail).not.toMatch(/[\u0000-\u001f\u007f]/);
      }),
    );
  });
});
