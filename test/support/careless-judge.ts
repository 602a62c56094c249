/** The guard with a blind eye, for tests of what should notice: what `vi.mock` puts in the place of judge.ts. */
import type { judge, judgeAgain, Trust } from "../../src/identity/judge.ts";

export interface Judging {
  readonly judge: typeof judge;
  readonly judgeAgain: typeof judgeAgain;
}

/** What it does not see. */
export const overlooks = { revocation: false };

export function careless(real: Judging): Judging {
  const seen = (trust: Trust): Trust => (overlooks.revocation ? { ...trust, crls: new Map() } : trust);
  return {
    ...real,
    judge: (chain, trust, options) => real.judge(chain, seen(trust), options),
    judgeAgain: (fingerprint, trust, now) => real.judgeAgain(fingerprint, seen(trust), now),
  };
}
