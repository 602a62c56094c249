/**
 * What a stream has to send and may not yet. Small chunks are copied, as frames, one behind the other, so that many that wait are few
 * objects and leave in one copy; large ones are kept by reference and cut into frames as they go.
 * Promises: order, and which chunk ended a message; what waits keeps little more alive than its bytes. Leaves to others: credit, whose turn it is.
 */
import { Buffer } from "node:buffer";
import { Queue } from "../base/queue.ts";
import { Flag, FRAME_COST, HEADER, MIN_PAYLOAD, putHeader, Type } from "./frame.ts";
import type { Writer } from "./writer.ts";

/** Chunks below this are copied, so that they do not keep a whole record alive. */
const COPY_BELOW = 4 << 10;
const FIRST_RUN = 2 << 10;
const RUN = 16 << 10;

/** Buffers for runs; only streams that wait own some. */
const pool: Buffer[] = [];
const POOLED = 64;

/** Bytes of `chunk` from `start` to `end`: of one chunk, or (`framed`) whole frames. */
interface Piece {
  readonly chunk: Uint8Array;
  readonly framed: boolean;
  /** The chunk ends a message. */
  readonly last: boolean;
  start: number;
  end: number;
}

/** What may go now. */
export interface Allowance {
  readonly id: number;
  /** Cost, at least that of an empty frame. */
  readonly room: number;
  /** Frames are begun while the cost is below this. */
  readonly wanted: number;
  readonly maxPayload: number;
  /** The stream's end goes with the last frame. */
  readonly ending: boolean;
}

export class Outbox {
  /** Cost of what waits. */
  bytes = 0;
  readonly #pieces = new Queue<Piece>();
  /** The last piece, when it is framed and can grow. */
  #run: Piece | undefined;

  get empty(): boolean {
    return this.#pieces.length === 0;
  }

  /** Whether a frame without payload is next. */
  get nextIsEmpty(): boolean {
    const first = this.#pieces.first;
    if (first === undefined) return false;
    return first.framed ? lengthAt(first.chunk, first.start) === 0 : first.start === first.end;
  }

  /** `id`: 0 while it is not known. */
  push(chunk: Uint8Array, { id, last }: { readonly id: number; readonly last: boolean }): void {
    const { length } = chunk;
    if (id !== 0 && length <= MIN_PAYLOAD) this.#append(chunk, { id, last });
    else {
      this.#run = undefined;
      this.#pieces.push({ chunk: length < COPY_BELOW ? Buffer.from(chunk) : chunk, framed: false, last, start: 0, end: length });
    }
    this.bytes += FRAME_COST + length;
  }

  #append(chunk: Uint8Array, { id, last }: { readonly id: number; readonly last: boolean }): void {
    const size = HEADER + chunk.length;
    let run = this.#run;
    if (run === undefined || run.end + size > run.chunk.length) {
      const buffer = this.bytes < FIRST_RUN ? Buffer.allocUnsafe(FIRST_RUN) : (pool.pop() ?? Buffer.allocUnsafeSlow(RUN));
      run = this.#run = { chunk: buffer, framed: true, last: false, start: 0, end: 0 };
      this.#pieces.push(run);
    }
    putHeader(run.chunk as Buffer, run.end, chunk.length, Type.DATA, last ? Flag.END_MESSAGE : 0, id);
    run.chunk.set(chunk, run.end + HEADER);
    run.end += size;
  }

  /** Puts what comes next, as much as may go; its cost, or 0 when nothing may. */
  put(writer: Writer, may: Allowance): number {
    const piece = this.#pieces.first;
    if (piece === undefined) return 0;
    return piece.framed ? this.#putFrames(writer, piece, may) : this.#putPart(writer, piece, may);
  }

  #putFrames(writer: Writer, piece: Piece, may: Allowance): number {
    const { chunk, start, end } = piece;
    let at = start;
    let frame = start;
    let cost = 0;
    while (at < end && cost < may.wanted) {
      const length = lengthAt(chunk, at);
      if (cost + FRAME_COST + length > may.room) break;
      frame = at;
      cost += FRAME_COST + length;
      at += HEADER + length;
    }
    if (cost === 0) return this.#putHead(writer, piece, may);
    if (at === end) {
      this.#taken();
      if (may.ending && this.empty) chunk[frame + 3] = (chunk[frame + 3] as number) | Flag.FIN;
    }
    writer.frames(chunk, start, at);
    piece.start = at;
    this.bytes -= cost;
    if (at === end && chunk.length === RUN && pool.length < POOLED) pool.push(chunk as Buffer);
    return cost;
  }

  /** The first part of a frame that may not go whole. */
  #putHead(writer: Writer, piece: Piece, { id, room }: Allowance): number {
    const { chunk, start } = piece;
    const length = room - FRAME_COST;
    if (length <= 0) return 0;
    writer.data(id, 0, chunk, start + HEADER, start + HEADER + length);
    // What is left gets its header right before it, over what is sent.
    putHeader(chunk as Buffer, start + length, lengthAt(chunk, start) - length, Type.DATA, chunk[start + 3] as number, id);
    piece.start = start + length;
    this.bytes -= length;
    return FRAME_COST + length;
  }

  #putPart(writer: Writer, piece: Piece, may: Allowance): number {
    const { chunk, start, end } = piece;
    const left = end - start;
    const length = Math.min(left, may.maxPayload, may.room - FRAME_COST);
    if (length === 0 && left > 0) return 0;
    let flags = 0;
    if (length === left) {
      this.#taken();
      if (piece.last) flags |= Flag.END_MESSAGE;
      if (may.ending && this.empty) flags |= Flag.FIN;
      this.bytes -= FRAME_COST;
    } else piece.start = start + length;
    this.bytes -= length;
    writer.data(may.id, flags, chunk, start, start + length);
    return FRAME_COST + length;
  }

  #taken(): void {
    if (this.#pieces.take() === this.#run) this.#run = undefined;
  }

  clear(): void {
    this.#pieces.clear();
    this.#run = undefined;
    this.bytes = 0;
  }
}

function lengthAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}
