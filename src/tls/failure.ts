/**
 * The reason behind a failed handshake, out of what OpenSSL (Node) and rustls (Deno) say. Promises: a reason for everything; what neither
 * explains is `not_tls`; a detail of one line. Leaves to others: whether anybody is let in: nobody is who comes here.
 */
import type { Reason } from "../base/reason.ts";
import { printable } from "../base/text.ts";
import { facts } from "../runtime/facts.ts";

export interface HandshakeError {
  readonly message: string;
  /** What the runtime thought of the certificate, else its own code. */
  readonly code?: string;
}

export interface HandshakeFailure {
  readonly reason: Reason;
  readonly detail: string;
}

/** Codes of a kind. OpenSSL's verify codes are spelt as Node spells them; Deno gives its errors codes of the same kind. */
const byCode: readonly (readonly [codes: RegExp, Reason])[] = [
  [/^ERR_SSL_(PEER_DID_NOT_RETURN_A_CERTIFICATE|CERTIFICATE_REQUIRED)$|^UNABLE_TO_GET_ISSUER_CERT$/, "no_certificate"],
  [/^CERT_HAS_EXPIRED$/, "cert_expired"],
  [/^CERT_NOT_YET_VALID$/, "not_yet_valid"],
  // DEPTH_ZERO_SELF_SIGNED_CERT is how Deno calls a CA's certificate in the place of a client's; OpenSSL lets those through to the judge.
  [facts.name === "deno" ? /^(INVALID_PURPOSE|DEPTH_ZERO_SELF_SIGNED_CERT)$/ : /^INVALID_PURPOSE$/, "wrong_usage"],
  [/_KEY_TOO_SMALL$|_MD_TOO_WEAK$|WRONG_SIGNATURE_TYPE|NO_SUITABLE_SIGNATURE|NO_SHARED_SIGNATURE/, "weak_key"],
  [/^(UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED|CERT_|INVALID_CA|PATH_LENGTH_|UNSPECIFIED|OUT_OF_MEM|HOSTNAME_)/, "unknown_issuer"],
  [/^ERR_SSL_NO_APPLICATION_PROTOCOL$/, "alpn"],
  // The client took back its word: it does not trust us, or had no use for what we speak.
  [/^ERR_SSL_(TLSV1|TLSV13)_ALERT_|^(ECONNRESET|EPIPE|ETIMEDOUT)$/, "session_lost"],
  // It spoke TLS 1.3, but could not prove that the key is its own, or said things out of turn.
  [/SIGNATURE|DECRYPT|BAD_RECORD_MAC|UNEXPECTED_MESSAGE|DIGEST_CHECK/, "protocol_error"],
];

/** For errors of Deno without a telling code: what rustls says. */
const byText: readonly (readonly [texts: RegExp, Reason])[] = [
  [/peer sent no certificates/i, "no_certificate"],
  [/received fatal alert|ended its direction|socket hang up|unexpected eof|close_notify/i, "session_lost"],
  [/invalid peer certificate: BadSignature|bad signature|cannot decrypt|unexpected message|unexpected handshake/i, "protocol_error"],
  [/invalid peer certificate/i, "unknown_issuer"],
];

/** `bytesRead`: what came of the client until then. */
export function handshakeFailure({ code = "", message }: HandshakeError, { bytesRead }: { readonly bytesRead: number }): HandshakeFailure {
  const reason = byCode.find(([codes]) => codes.test(code))?.[1] ?? byText.find(([texts]) => texts.test(message))?.[1] ?? "not_tls";
  return { reason, detail: detailOf(reason, { code, message, bytesRead }) };
}

function detailOf(reason: Reason, { code, message, bytesRead }: Required<HandshakeError> & { readonly bytesRead: number }): string {
  if (reason === "session_lost") return `left during the handshake, after ${bytesRead} bytes${/ALERT/.test(code) ? ` (${code})` : ""}`;
  if (reason === "unknown_issuer" && !facts.tellsCertificateFaults) {
    return "not issued by a CA that is trusted here, or out of its time, or not for a client: Deno does not tell which";
  }
  // OpenSSL: `thread:error:number:library:function:reason:file:line:`.
  const said = message.split(":")[5] ?? message;
  return printable(code === "" || code === "ECONNRESET" ? said : message === "socket hang up" ? code : `${said} (${code})`, 200);
}
