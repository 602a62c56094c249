/**
 * Cuts a stream of bytes into messages, by its framing, without gathering them: their parts go on as they come.
 * Promises: the same messages wherever the chunks were split; a length is judged before a byte of its message is passed on;
 * a few bytes of state. Leaves to others: what a fault or an end inside a message means.
 */
import { Buffer } from "node:buffer";
import type { Framing, PrefixFraming } from "./target.ts";

/** Takes a part of a message; `last` ends the message. False: no more for now. */
export type Take = (part: Uint8Array, last: boolean) => boolean;

export interface Cutter {
  /** Gives the messages in `chunk` from `start` on to `take`. Returns where it stopped: behind the last part taken, or at the end. */
  cut(chunk: Uint8Array, start: number, take: Take): number;
  /** Adds the places of messages that lie whole in `chunk` from `start` on, as of a Batch, up to a bound. Returns where to go on: when it added none, by `cut`. */
  whole(chunk: Uint8Array, start: number, places: number[]): number;
  /** Whether a message has begun and not ended. */
  readonly inside: boolean;
  /** What is wrong with the stream; nothing more comes out of it then. */
  readonly fault: string | undefined;
}

export function createCutter(framing: Framing, maxMessageBytes: number): Cutter {
  switch (framing) {
    case "bytes":
      return new ChunkCutter(maxMessageBytes);
    case "lines":
      return new LineCutter(maxMessageBytes);
    default:
      return new PrefixCutter(framing, maxMessageBytes);
  }
}

const empty = new Uint8Array(0);
/** Places of a batch: 1,024 messages, so that a chunk of empty ones is no burst that costs many times its bytes. */
const MAX_PLACES = 2_048;

function view(chunk: Uint8Array, start: number, end: number): Uint8Array {
  return start === 0 && end === chunk.length ? chunk : new Uint8Array(chunk.buffer, chunk.byteOffset + start, end - start);
}

/** `bytes`: whatever came is a message. */
class ChunkCutter implements Cutter {
  readonly inside = false;
  readonly fault = undefined;
  readonly #max: number;

  constructor(max: number) {
    this.#max = Math.max(1, max);
  }

  cut(chunk: Uint8Array, start: number, take: Take): number {
    let at = start;
    while (at < chunk.length) {
      const end = Math.min(chunk.length, at + this.#max);
      const part = view(chunk, at, end);
      at = end;
      if (!take(part, true)) break;
    }
    return at;
  }

  whole(_chunk: Uint8Array, start: number): number {
    return start;
  }
}

/** `lines`: a message ends at each `\n`. */
class LineCutter implements Cutter {
  fault: string | undefined;
  readonly #max: number;
  #length = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get inside(): boolean {
    return this.#length > 0;
  }

  cut(chunk: Uint8Array, start: number, take: Take): number {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length); // its indexOf is the quick one
    let at = start;
    while (at < bytes.length && this.fault === undefined) {
      const found = bytes.indexOf(0x0a, at);
      const end = found < 0 ? bytes.length : found;
      this.#length += end - at;
      if (this.#length > this.#max) {
        this.fault = `a line of more than ${this.#max} bytes`;
        break;
      }
      const part = at === end ? empty : view(chunk, at, end);
      if (found < 0) {
        take(part, false);
        return end;
      }
      at = end + 1;
      this.#length = 0;
      if (!take(part, true)) break;
    }
    return at;
  }

  whole(chunk: Uint8Array, start: number, places: number[]): number {
    if (this.inside) return start;
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    let at = start;
    while (places.length < MAX_PLACES) {
      const found = bytes.indexOf(0x0a, at);
      if (found < 0 || found - at > this.#max) break;
      places.push(at, found);
      at = found + 1;
    }
    return at;
  }
}

const VARINT_BYTES = 5;

/** `u32`, `u16`, `varint`. */
class PrefixCutter implements Cutter {
  fault: string | undefined;
  readonly #framing: PrefixFraming;
  readonly #max: number;
  /** Bytes that the message still has; -1 while its length is read. */
  #left = -1;
  /** What was read of a length. */
  #length = 0;
  #lengthBytes = 0;

  constructor(framing: PrefixFraming, max: number) {
    this.#framing = framing;
    this.#max = max;
  }

  get inside(): boolean {
    return this.#left >= 0 || this.#lengthBytes > 0;
  }

  cut(chunk: Uint8Array, start: number, take: Take): number {
    const size = chunk.length;
    let at = start;
    while (at < size && this.fault === undefined) {
      if (this.#left < 0) {
        at = this.#readLength(chunk, at);
        if (this.#left < 0 || (this.#left > 0 && at === size)) return at;
      }
      const end = Math.min(size, at + this.#left);
      const part = at === end ? empty : view(chunk, at, end);
      const last = end - at === this.#left;
      this.#left = last ? -1 : this.#left - (end - at);
      at = end;
      if (!take(part, last)) return at;
    }
    return at;
  }

  whole(chunk: Uint8Array, start: number, places: number[]): number {
    if (this.inside) return start;
    const size = chunk.length;
    let at = start;
    while (at < size && places.length < MAX_PLACES) {
      at = this.#readLength(chunk, at);
      const left = this.#left;
      if (left < 0 || at + left > size) break;
      this.#left = -1;
      places.push(at, at + left);
      at += left;
    }
    return at;
  }

  /** Reads on in a length; sets `#left` when it is whole. Returns the position behind what it read. */
  #readLength(chunk: Uint8Array, start: number): number {
    const { length: size } = chunk;
    let at = start;
    let whole = false;
    if (this.#framing === "varint") {
      while (at < size && !whole && this.fault === undefined) {
        const byte = chunk[at++] as number;
        this.#length += (byte & 0x7f) * 2 ** (7 * this.#lengthBytes++);
        whole = byte < 0x80;
        if (this.#length > this.#max || (!whole && this.#lengthBytes === VARINT_BYTES)) this.#tooLarge();
      }
    } else {
      const bytes = this.#framing === "u32" ? 4 : 2;
      while (at < size && this.#lengthBytes < bytes) {
        this.#length = this.#length * 256 + (chunk[at++] as number);
        this.#lengthBytes++;
      }
      whole = this.#lengthBytes === bytes;
      if (whole && this.#length > this.#max) this.#tooLarge();
    }
    if (!whole || this.fault !== undefined) return at;
    this.#left = this.#length;
    this.#length = this.#lengthBytes = 0;
    return at;
  }

  #tooLarge(): void {
    this.fault = `a message of more than ${this.#max} bytes`;
  }
}
