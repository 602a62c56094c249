/**
 * Counts by name: how many handshakes are under way, in all and of each source; how many connections are open. Promises: a count that went
 * up and down again is forgotten. Doors that several threads open on one address count together where they are given one that is shared
 * (shared-tally.ts). Leaves to others: the caps.
 */

export interface Count {
  /** How many there are now. */
  readonly value: number;
  /** One more (1), or one less (-1). */
  add(change: 1 | -1): void;
}

export interface Tally {
  of(name: string): Count;
}

export function createTally(): Tally {
  const counts = new Map<string, number>();
  return {
    of: (name) => ({
      get value() {
        return counts.get(name) ?? 0;
      },
      add: (change) => {
        const next = (counts.get(name) ?? 0) + change;
        if (next === 0) counts.delete(name);
        else counts.set(name, next);
      },
    }),
  };
}
