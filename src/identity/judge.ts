/** From the DER of a presented chain to an identity or a reason: the one place where a certificate is believed. */
import type { Reason } from "../base/reason.ts";
import type { Identity } from "./identity.ts";

/** CAs and revocation lists of one listener, parsed and checked by `createTrust`. */
export interface Trust {
  readonly anchors: number;
}

export type Verdict =
  | { readonly ok: true; readonly identity: Identity }
  | { readonly ok: false; readonly reason: Reason; readonly detail: string; readonly fingerprint?: string };
