/**
 * The one table between reasons and the numbers that travel (docs/protocol.md, "Codes"). Every reason has exactly one number;
 * some numbers that only the wire tells apart are read as a broader reason.
 */
import type { Reason } from "../base/reason.ts";

export const NO_ERROR = 0;

const codeOf: Readonly<Record<Reason, number>> = {
  protocol_error: 1,
  internal: 2,
  flow_control: 3,
  frame_size: 4,
  preface_timeout: 7,
  idle_timeout: 8,
  excessive_load: 10,
  rate_limited: 11,
  draining: 13,
  forbidden: 14,
  unknown_target: 15,
  target_unavailable: 16,
  target_timeout: 17,
  target_reset: 18,
  cancelled: 19,
  message_too_large: 20,
  slow_reader: 22,
  session_lost: 23,
  superseded: 24,
  revoked: 25,
  no_certificate: 32,
  unknown_issuer: 33,
  cert_expired: 34,
  not_yet_valid: 35,
  bad_san: 36,
  wrong_usage: 37,
  weak_key: 38,
  resumed_session: 39,
  not_tls: 40,
  alpn: 41,
  handshake_timeout: 42,
  too_many_connections: 43,
  too_many_pipes: 44,
};

/** Numbers without a reason of their own: VERSION, PARAMETER, HEARTBEAT, REFUSED, MESSAGE_TRUNCATED, NAME_CONFLICT. */
const broader: readonly (readonly [number, Reason])[] = [
  [5, "protocol_error"],
  [6, "protocol_error"],
  [9, "session_lost"],
  [12, "forbidden"],
  [21, "target_reset"],
  [26, "forbidden"],
];

const reasonOf = new Map<number, Reason>([
  ...(Object.entries(codeOf) as [Reason, number][]).map(([reason, code]) => [code, reason] as const),
  ...broader,
]);

/** The number of a reason. An unknown target travels as FORBIDDEN, so that a peer cannot list targets by asking. */
export function toCode(reason: Reason): number {
  return reason === "unknown_target" ? codeOf.forbidden : codeOf[reason];
}

/** The reason behind a number from the wire; `internal` for one that this version does not know. */
export function toReason(code: number): Reason {
  return reasonOf.get(code) ?? "internal";
}

/** Every pair, for the specification's test. */
export const codes: readonly (readonly [Reason, number])[] = Object.entries(codeOf) as [Reason, number][];
