/** Moving bytes where it is done often, and keeping them. */
import { Buffer } from "node:buffer";

type CopyPart = (target: Buffer, at: number, chunk: Uint8Array, start: number, end: number) => void;

const { copy } = Buffer.prototype as {
  readonly copy: (this: Uint8Array, target: Buffer, at: number, start: number, end: number) => number;
};

/** Without a view of the part, whose garbage costs more than the copy of a small message; Deno's `copy` makes one in any case, and slowly. */
const copyRange: CopyPart =
  "Deno" in globalThis
    ? (target, at, chunk, start, end) => target.set(new Uint8Array(chunk.buffer, chunk.byteOffset + start, end - start), at)
    : (target, at, chunk, start, end) => void copy.call(chunk, target, at, start, end);

/** Chunks below this, or this part of what they lie in, are copied before they are kept. */
const SMALL = 4 << 10;
const SMALL_PART = 1 / 5;

/**
 * `chunk` for whoever keeps it a while: a copy where it would keep much more alive than itself. Not one by Buffer.from, which takes it from a pool
 * that all the process shares: each small copy can keep another 64 KiB of that (Node 26).
 */
export function toKeep(chunk: Uint8Array): Uint8Array {
  return chunk.length < SMALL || chunk.length < SMALL_PART * chunk.buffer.byteLength ? new Uint8Array(chunk) : chunk;
}

/** Copies `chunk` from `start` to `end` into `target` at `at`, where there is room. */
export const copyPart: CopyPart = (target, at, chunk, start, end) => {
  if (start === 0 && end === chunk.length) target.set(chunk, at);
  else copyRange(target, at, chunk, start, end);
};
