/**
 * Cuts what a back end sends into messages, by its framing, without gathering them: parts go on as they come.
 * Promises: bounded by `max` a message; the same messages wherever the chunks are split; a few bytes of state.
 */
import { Buffer } from "node:buffer";
import type { Break } from "../base/channel.ts";
import type { Framing } from "./target.ts";

const nothing = Buffer.alloc(0);

export class Cutter {
  readonly #framing: Framing;
  readonly #max: number;
  /** Bytes that the message still has, or -1 while its length is being read. */
  #left = -1;
  #length = 0;
  #prefixBytes = 0;
  #lineBytes = 0;

  constructor(framing: Framing, max: number) {
    this.#framing = framing;
    this.#max = max;
  }

  /** Whether a message has begun and not ended. */
  get inside(): boolean {
    return this.#left >= 0 || this.#prefixBytes > 0 || this.#lineBytes > 0;
  }

  /** Gives the parts of `chunk` to `take`, until that returns false. Returns what is wrong with the stream, if something is. */
  cut(chunk: Uint8Array, take: (part: Uint8Array, last: boolean) => boolean): Break | undefined {
    switch (this.#framing) {
      case "bytes":
        if (chunk.length > 0) take(chunk, true);
        return undefined;
      case "lines":
        return this.#cutLines(chunk, take);
      default:
        return this.#cutPrefixed(chunk, take);
    }
  }

  #cutLines(chunk: Uint8Array, take: (part: Uint8Array, last: boolean) => boolean): Break | undefined {
    let at = 0;
    while (at < chunk.length) {
      const found = chunk.indexOf(0x0a, at);
      const end = found < 0 ? chunk.length : found;
      this.#lineBytes += end - at;
      if (this.#lineBytes > this.#max) return tooLarge(this.#max);
      const part = at === end ? nothing : chunk.subarray(at, end);
      at = end + 1;
      if (found < 0) {
        take(part, false);
        return undefined;
      }
      this.#lineBytes = 0;
      if (!take(part, true)) return undefined;
    }
    return undefined;
  }

  #cutPrefixed(chunk: Uint8Array, take: (part: Uint8Array, last: boolean) => boolean): Break | undefined {
    let at = 0;
    const end = chunk.length;
    while (at < end) {
      if (this.#left < 0) {
        at = this.#readPrefix(chunk, at);
        if (this.#length > this.#max) return tooLarge(this.#max);
        if (this.#left > 0) continue;
        if (this.#left < 0) return undefined; // the chunk ended inside the prefix
        this.#left = -1;
        if (!take(nothing, true)) return undefined;
        continue;
      }
      const size = Math.min(this.#left, end - at);
      this.#left -= size;
      const last = this.#left === 0;
      if (last) this.#left = -1;
      const part = size === end ? chunk : chunk.subarray(at, at + size);
      at += size;
      if (!take(part, last)) return undefined;
    }
    return undefined;
  }

  /** Reads on in the length; sets `#left` when it is whole. Returns the position behind what it read. */
  #readPrefix(chunk: Uint8Array, start: number): number {
    let at = start;
    const fixed = this.#framing === "u32" ? 4 : this.#framing === "u16" ? 2 : 0;
    while (at < chunk.length) {
      const byte = chunk[at++] as number;
      const count = this.#prefixBytes++;
      let whole: boolean;
      if (fixed > 0) {
        this.#length = this.#length * 256 + byte;
        whole = this.#prefixBytes === fixed;
      } else {
        this.#length += (byte & 0x7f) * 2 ** (7 * count);
        whole = byte < 0x80;
        if (!whole && this.#prefixBytes === 5) this.#length = Infinity; // longer than any length we take
      }
      if (whole || this.#length > this.#max) {
        if (whole && this.#length <= this.#max) {
          this.#left = this.#length;
          this.#length = this.#prefixBytes = 0;
        }
        return at;
      }
    }
    return at;
  }
}

function tooLarge(max: number): Break {
  return { reason: "message_too_large", detail: `the back end sent a message of more than ${max} bytes` };
}
