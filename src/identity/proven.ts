/**
 * Leaves that were proven under a trust, by their bytes: what they say and who issued them does not change. Promises: bounded; when it is
 * full, the one that came first is forgotten. Leaves to others: what is worth remembering, and what may have changed since (judge.ts).
 */
import type { Proof } from "./judge.ts";

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
