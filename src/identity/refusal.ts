/** How the steps of judging say no; thrown inside this room only, judge.ts makes a Verdict of it. */
import type { Reason } from "../base/reason.ts";
import type { Certificate } from "./certificate.ts";

/** Clocks may differ by so much before something is of the future, ms. */
export const SKEW_MS = 60_000;

export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly reason: Reason;
  constructor(reason: Reason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

export interface ValidityOptions {
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** The subject of the sentence. */
  readonly whose: string;
}

/** What is wrong with the times of a certificate; undefined when nothing is. A clock that is slow by a minute is forgiven. */
export function validityFault({ notBefore, notAfter }: Certificate, { now, whose }: ValidityOptions): Refusal | undefined {
  if (now + SKEW_MS < notBefore) return new Refusal("not_yet_valid", `${whose} is valid from ${new Date(notBefore).toISOString()}`);
  if (now > notAfter) return new Refusal("cert_expired", `${whose} expired on ${new Date(notAfter).toISOString()}`);
  return undefined;
}
