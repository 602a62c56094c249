/** Why a certificate was revoked: RFC 5280, section 5.3.1, those that a small CA has use for, with their numbers in a list. */
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";

export const revocationReasons = {
  unspecified: 0,
  keyCompromise: 1,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
} as const;
export type RevocationReason = keyof typeof revocationReasons;

/** Throws PipegateError `usage`. */
export function parseReason(text: string): RevocationReason {
  const plain = text.replaceAll("-", "").toLowerCase();
  const known = Object.keys(revocationReasons).find((name) => name.toLowerCase() === plain);
  if (known !== undefined) return known as RevocationReason;
  throw new PipegateError("usage", `"${printable(text, 40)}" is no reason for a revocation`, {
    next: `write one of ${Object.keys(revocationReasons).join(", ")}`,
  });
}
