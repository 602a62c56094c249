/**
 * When what is written in one turn of the event loop leaves: at the turn's end, so that it leaves together. Who was quiet for a turn and
 * has little to say is not made to wait for what the turn still brings others: it leaves when the running callback is over.
 * Promises: who writes in every turn is flushed once a turn. Leaves to others: what a flush is.
 */

export interface Written {
  /** Bytes that wait for the flush. */
  readonly pendingBytes: number;
  flush(): void;
}

/** More than this is no little word. */
const LITTLE_BYTES = 4 << 10;

/** Counted at the end of each turn in which somebody wrote. */
let turn = 0;
let dirty: Written[] = [];
let quick: Written[] = [];

/** A turn long past, for who never wrote. */
export const NEVER = -2;

/** Has `writer` flushed, once. `last`: what this returned for it before, or NEVER. */
export function flushSoon(writer: Written, last: number): number {
  if (turn - last < 2) join(writer);
  else if (quick.push(writer) === 1) queueMicrotask(flushQuick);
  return turn;
}

function join(writer: Written): void {
  if (dirty.push(writer) === 1) setImmediate(flushDirty);
}

function flushDirty(): void {
  turn++;
  const writers = dirty;
  dirty = [];
  for (const writer of writers) writer.flush();
}

function flushQuick(): void {
  const writers = quick;
  quick = [];
  for (const writer of writers) {
    if (writer.pendingBytes <= LITTLE_BYTES) writer.flush();
    else join(writer);
  }
}
