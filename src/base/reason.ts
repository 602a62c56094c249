/**
 * The closed list of reasons for which pipegate refuses or ends something, with what each means and what to do next.
 * One list for the wire (protocol/code.ts maps it to numbers), the log, the metric label and the exit message.
 * Leaves to others: when a reason applies.
 */

/** What a person is told about a reason: one sentence each. */
export interface Explanation {
  readonly meaning: string;
  readonly next: string;
}

export const explanations = {
  no_certificate: { meaning: "no client certificate was presented", next: "pass --cert and --key" },
  unknown_issuer: {
    meaning: "the certificate was not issued by a CA that the other end trusts",
    next: "have it issued by that CA, or have the CA added to trust.ca",
  },
  cert_expired: { meaning: "the certificate has expired", next: "issue a new one: pipegate ca issue" },
  not_yet_valid: { meaning: "the certificate is not valid yet", next: "check the clock of both hosts" },
  revoked: {
    meaning: "the certificate is revoked, or its CA's revocation list is out of date",
    next: "see in the gateway's log which it is, then have a new certificate issued, or a new list made: pipegate ca crl",
  },
  bad_san: {
    meaning: "a name in the certificate is malformed or ambiguous",
    next: "issue one with at most one URI and plain ASCII names",
  },
  wrong_usage: {
    meaning: "the certificate may not be used for this",
    next: "issue one with the matching role: pipegate ca issue --role client",
  },
  weak_key: { meaning: "the key or the signature is too weak", next: "use P-256, Ed25519, or RSA of 2048 bits and more, with SHA-256" },
  resumed_session: { meaning: "a resumed TLS session is not trusted", next: "connect without a session ticket" },
  not_tls: { meaning: "what arrived is not a TLS 1.3 handshake", next: "connect with TLS 1.3" },
  alpn: {
    meaning: "this listener does not speak the protocol that was asked for",
    next: "use ALPN pipegate/1, or a listener with a target whose alpn names yours",
  },
  preface_timeout: { meaning: "the first frame did not arrive in time", next: "check the network and try again" },
  handshake_timeout: { meaning: "the TLS handshake did not finish in time", next: "check the network and try again" },
  rate_limited: { meaning: "the client is over its rate", next: "wait a little, then try again" },
  too_many_connections: { meaning: "the client has too many connections", next: "close some or raise limits.connections" },
  too_many_pipes: { meaning: "the client has too many pipes", next: "close some or raise limits.pipes" },
  unknown_target: { meaning: "there is no such target", next: "check its name" },
  forbidden: {
    meaning: "no rule lets this identity reach that target",
    next: "ask for a rule; on the gateway: pipegate explain --cert FILE --target NAME",
  },
  target_unavailable: { meaning: "the target could not be reached", next: "check that its service runs" },
  target_timeout: { meaning: "the target did not answer in time", next: "check that its service runs" },
  target_reset: { meaning: "the target broke the connection off", next: "look into the log of its service" },
  protocol_error: {
    meaning: "the other end broke the protocol",
    next: "check that both ends have a current pipegate, and that messages suit the target: none of lines holds a line break",
  },
  flow_control: { meaning: "the other end sent more than it was allowed to", next: "check that both ends have a current pipegate" },
  frame_size: { meaning: "a frame was larger than agreed", next: "check that both ends have a current pipegate" },
  excessive_load: { meaning: "the other end caused too much work", next: "send fewer control frames" },
  message_too_large: { meaning: "a message is larger than the limit", next: "send smaller ones, or raise maxMessage" },
  slow_reader: { meaning: "the receiver did not read in time", next: "read faster, or open fewer pipes" },
  idle_timeout: { meaning: "nothing moved for too long", next: "open it again when it is needed" },
  draining: { meaning: "the gateway is shutting down", next: "connect again" },
  superseded: { meaning: "a newer connection took over", next: "nothing, if that was yours" },
  session_lost: { meaning: "the connection broke", next: "connect again" },
  cancelled: { meaning: "the other end gave it up", next: "nothing, if that was meant" },
  internal: { meaning: "an unexpected fault", next: "report it with the log of that moment" },
} as const satisfies Record<string, Explanation>;

export type Reason = keyof typeof explanations;

/** All reasons, in the order of the list. */
export const reasons: readonly Reason[] = Object.keys(explanations) as Reason[];

export function isReason(text: string): text is Reason {
  return Object.hasOwn(explanations, text);
}
