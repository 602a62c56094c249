/** The reason behind a failed handshake, out of what OpenSSL (Node) and rustls (Deno) say. What neither explains is `not_tls`. */
import type { Reason } from "../base/reason.ts";

const byPattern: readonly (readonly [RegExp, Reason])[] = [
  // OpenSSL's verify codes, as Node names them, and rustls's certificate errors, as Deno words them.
  [/PEER_DID_NOT_RETURN_A_CERTIFICATE|NoCertificatesPresented|peer sent no certificates|CertificateRequired/i, "no_certificate"],
  [/CERT_HAS_EXPIRED|\bExpired\b|certificate expired/i, "cert_expired"],
  [/CERT_NOT_YET_VALID|NotValidYet|not valid yet/i, "not_yet_valid"],
  [/INVALID_PURPOSE|InvalidPurpose|RequiredEkuNotFound|CaUsedAsEndEntity|NotValidForUse/i, "wrong_usage"],
  [/KEY_TOO_SMALL|MD_TOO_WEAK|UnsupportedSignature|UnsupportedSignatureAlgorithm|NO_SHARED_SIGNATURE|WRONG_SIGNATURE_TYPE|NO_SUITABLE_SIGNATURE/i, "weak_key"],
  [/NO_APPLICATION_PROTOCOL|application protocol/i, "alpn"],
  [/UNABLE_TO_|SELF_SIGNED|CERT_SIGNATURE_FAILURE|INVALID_CA|PATH_LENGTH|CERT_UNTRUSTED|CERT_REJECTED|UNSPECIFIED|UnknownIssuer|BadSignature|BadEncoding|PathLen|invalid peer certificate/i, "unknown_issuer"],
  [/ECONNRESET|EPIPE|socket hang up|UNEXPECTED_EOF|unexpected eof|tls handshake eof|ALERT|received fatal alert/i, "session_lost"],
];

export function handshakeReason(error: Error & { readonly code?: string }): { readonly reason: Reason; readonly detail: string } {
  const text = `${error.code ?? ""} ${error.message}`.trim();
  const found = byPattern.find(([pattern]) => pattern.test(text));
  return { reason: found?.[1] ?? "not_tls", detail: error.code ?? error.message };
}
