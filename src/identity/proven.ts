/**
 * Leaves that were proven under a trust, by their bytes: what they say and who issued them does not change. Promises: bounded; when it is
 * full, the one that came first is forgotten. Leaves to others: what is worth remembering, and what may have changed since (judge.ts).
 */
import type { Certificate } from "./certificate.ts";
import type { Identity } from "./identity.ts";
import type { Anchor } from "./path.ts";

/** What it takes to judge a peer again when its certificates are not at hand any more. Signatures in it are facts for ever. */
export interface Proof {
  readonly identity: Identity;
  /** From the leaf to the root; the leaf alone when OpenSSL proved it. */
  readonly path: readonly [Certificate, ...Certificate[]];
  /** CAs that were presented beside the leaf and may lead upwards by another path. */
  readonly others: readonly Certificate[];
  /** What the trust must still hold for the path to stand: its own part of the path; all that OpenSSL had when it alone knows the path. */
  readonly needs: readonly Anchor[];
  /** When time alone ends it, milliseconds since the epoch: no later than any certificate of the path, and any that it needs. */
  readonly until: number;
}

const MAX_PROVEN = 10_000;

export class ProvenLeaves {
  readonly #max: number;
  readonly #byFingerprint = new Map<string, Proof>();

  constructor(max: number = MAX_PROVEN) {
    this.#max = max;
  }

  find(fingerprint: string): Proof | undefined {
    return this.#byFingerprint.get(fingerprint);
  }

  add(proof: Proof): void {
    if (this.#byFingerprint.size >= this.#max) this.#byFingerprint.delete(this.#byFingerprint.keys().next().value as string);
    this.#byFingerprint.set(proof.identity.fingerprint, proof);
  }
}
