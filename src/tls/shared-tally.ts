/**
 * Counts by name in memory that threads share. No names are kept: a name stands for one cell in each of two rows, and its count is the
 * smaller of the two. Promises: never less than what was added, so a cap is never passed for it; more only while two other names stand for
 * the same cells, one in each row, which nobody can bring about who does not know the seed. Of threads that add at the same moment the
 * last one sees what all have added.
 */
import { createHmac, randomBytes } from "node:crypto";
import type { Tally } from "./tally.ts";

/** Plain memory, to be handed to other threads. */
export interface TallyMemory {
  readonly cells: SharedArrayBuffer;
  readonly seed: Uint8Array;
}

/** In a row; handshakes are some thousands at most. */
const CELLS = 1 << 14;

export function createTallyMemory(): TallyMemory {
  return { cells: new SharedArrayBuffer(2 * CELLS * Int32Array.BYTES_PER_ELEMENT), seed: new Uint8Array(randomBytes(32)) };
}

/** `scope`: a listener; its names are others than those of the next. */
export function sharedTally({ cells, seed }: TallyMemory, scope: string): Tally {
  const counts = new Int32Array(cells);
  return {
    of: (name) => {
      const hash = createHmac("sha256", seed)
        .update(JSON.stringify([scope, name]))
        .digest();
      const first = hash.readUInt32LE(0) % CELLS;
      const second = CELLS + (hash.readUInt32LE(4) % CELLS);
      return {
        get value() {
          return Math.min(Atomics.load(counts, first), Atomics.load(counts, second));
        },
        add: (change) => {
          Atomics.add(counts, first, change);
          Atomics.add(counts, second, change);
        },
      };
    },
  };
}
