/**
 * Whose limits are asked for: one for each connection. Keeps the digest of its name, which costs more than all else of a decision, under the
 * rule that was asked for last; connections seldom come under two.
 * Leaves to others: what a digest is (digest.ts), and the accounts of the name, which all of its connections share (limiter.ts).
 */
import type { Digest, Digester, Seed } from "./digest.ts";

export class Holder {
  readonly principal: string;
  #seed: Seed | undefined;
  #digest: Digest = [];

  constructor(principal: string) {
    this.principal = principal;
  }

  /** Of the principal under a rule's key. */
  digest(seed: Seed, digester: Digester): Digest {
    if (this.#seed !== seed) {
      const words = digester.of(seed, this.principal);
      this.#digest = [words[0]!, words[1]!, words[2]!, words[3]!];
      this.#seed = seed;
    }
    return this.#digest;
  }
}
