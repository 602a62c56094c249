/**
 * Cuts a byte stream into frames. Whole frames are handed on as positions in the chunk they came in, without a copy or an
 * object; a frame that is cut by a chunk's end is gathered in a buffer of its own size, once its header was judged.
 * Promises: at most one frame is ever held; `header` is called for each frame before any of its payload is kept.
 * Leaves to others: what frames mean. A throw from the sink passes through and ends the decoder.
 */
import { Buffer } from "node:buffer";
import { HEADER } from "./frame.ts";

export interface FrameSink {
  /** Judges a header; throws a ProtocolFault to refuse it. `id` may have its reserved bit set. */
  header(type: number, flags: number, id: number, length: number): void;
  /** A whole frame: its payload is `buffer` from `start` to `end`. Return false to stop decoding for good. */
  frame(type: number, flags: number, id: number, buffer: Buffer, start: number, end: number): boolean;
}

export class Decoder {
  readonly #sink: FrameSink;
  /** A cut frame: its header, then (once that is whole) a buffer of the frame's size. */
  #part: Buffer | undefined;
  #have = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  feed(chunk: Buffer): void {
    let offset = 0;
    if (this.#part !== undefined) {
      offset = this.#fill(chunk);
      if (offset < 0) return;
    }
    const end = chunk.length;
    const sink = this.#sink;
    while (end - offset >= HEADER) {
      const length = ((chunk[offset] as number) << 8) | (chunk[offset + 1] as number);
      const type = chunk[offset + 2] as number;
      const flags = chunk[offset + 3] as number;
      const id = chunk.readUInt32BE(offset + 4);
      sink.header(type, flags, id, length);
      const start = offset + HEADER;
      if (end - start < length) {
        this.#part = Buffer.allocUnsafe(HEADER + length);
        this.#have = chunk.copy(this.#part, 0, offset, end);
        return;
      }
      offset = start + length;
      if (!sink.frame(type, flags, id, chunk, start, offset)) return;
    }
    if (offset < end) {
      this.#part = Buffer.allocUnsafe(HEADER);
      this.#have = chunk.copy(this.#part, 0, offset, end);
    }
  }

  /** Goes on with the cut frame; how much of the chunk it took, or -1 when there is nothing more to do. */
  #fill(chunk: Buffer): number {
    let part = this.#part as Buffer;
    let offset = 0;
    if (this.#have < HEADER) {
      const taken = chunk.copy(part, this.#have, 0, Math.min(chunk.length, HEADER - this.#have));
      this.#have += taken;
      offset = taken;
      if (this.#have < HEADER) return -1;
      const length = part.readUInt16BE(0);
      this.#sink.header(part[2] as number, part[3] as number, part.readUInt32BE(4), length);
      const whole = Buffer.allocUnsafe(HEADER + length);
      part.copy(whole, 0, 0, HEADER);
      this.#part = part = whole;
    }
    const taken = chunk.copy(part, this.#have, offset, Math.min(chunk.length, offset + part.length - this.#have));
    this.#have += taken;
    offset += taken;
    if (this.#have < part.length) return -1;
    this.#part = undefined;
    const goOn = this.#sink.frame(part[2] as number, part[3] as number, part.readUInt32BE(4), part, HEADER, part.length);
    return goOn ? offset : -1;
  }
}
