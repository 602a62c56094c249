/** What the guard lets pass: how far counts (counts.ts) and ratios (smoke.ts) may be from those that are recorded. */

export interface Count {
  readonly instructions: number;
  readonly bytes: number;
}
export type Counts = Readonly<Record<string, Count>>;

/** Instructions may be so many times the recorded ones; bytes so many times, and so many more where next to none are recorded. */
const TIMES = 1.03;
const [BYTES_TIMES, BYTES_MORE] = [1.05, 2];
export const countBounds = `at most x ${TIMES}, bytes x ${BYTES_TIMES} + ${BYTES_MORE}`;

/** A loop that was counted or is recorded, or both. */
export interface Judged {
  readonly name: string;
  readonly now: Count | undefined;
  readonly before: Count | undefined;
  readonly isFine: boolean;
}

/** What is not both counted and recorded is not fine. */
export function judgeCounts(found: Counts, recorded: Counts): readonly Judged[] {
  return [...new Set([...Object.keys(found), ...Object.keys(recorded)])].map((name) => {
    const [now, before] = [found[name], recorded[name]];
    const isFine =
      now !== undefined &&
      before !== undefined &&
      now.instructions <= before.instructions * TIMES &&
      now.bytes <= before.bytes * BYTES_TIMES + BYTES_MORE;
    return { name, now, before, isFine };
  });
}

/** A ratio may be so many times the recorded one. */
export const RATIO_TIMES = 1.8;

type Ratios = Readonly<Record<string, number>>;

/** The names of those that are not within their bound: also what is no number, and what is not recorded. */
export function ratiosBeyond(found: Ratios, recorded: Ratios): readonly string[] {
  return Object.keys(found).filter((name) => !(found[name]! <= recorded[name]! * RATIO_TIMES));
}
