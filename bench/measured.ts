/** Figures as they come: subject, figure, one value a round; and what failed. */
import { median } from "./median.ts";

export interface Measured {
  /** Subject to figure to one value a round. */
  readonly values: Record<string, Record<string, number[]>>;
  readonly failures: string[];
  add(subject: string, figure: string, value: number): void;
  fail(subject: string, load: string, why: string): void;
  /** The median of the rounds; undefined: not measured. */
  median(subject: string, figure: string): number | undefined;
}

export function into(): Measured {
  const values: Record<string, Record<string, number[]>> = {};
  const failures: string[] = [];
  return {
    values,
    failures,
    add: (subject, figure, value) => void ((values[subject] ??= {})[figure] ??= []).push(value),
    fail: (subject, load, why) => void failures.push(`${subject} ${load}: ${why.split("\n")[0]}`),
    median: (subject, figure) => {
      const all = values[subject]?.[figure];
      return all === undefined ? undefined : median(all);
    },
  };
}
