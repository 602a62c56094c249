/** Moving bytes where it is done often. */
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

/** Copies `chunk` from `start` to `end` into `target` at `at`, where there is room. */
export const copyPart: CopyPart = (target, at, chunk, start, end) => {
  if (start === 0 && end === chunk.length) target.set(chunk, at);
  else copyRange(target, at, chunk, start, end);
};
