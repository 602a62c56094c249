/**
 * What a stream has to send and may not yet. Small chunks are copied, as frames, one behind the other, so that many that wait are few
 * objects and leave in one copy; large ones are kept by reference and cut into frames as they go.
 * Promises: order, and which chunk ended a message; what waits keeps little more alive than its bytes. Leaves to others: credit, whose turn it is.
 */
import { Buffer } from "node:buffer";
import { toKeep } from "../base/bytes.ts";
import type { Batch } from "../base/channel.ts";
import { Queue } from "../base/queue.ts";
import { Flag, FRAME_COST, HEADER, MIN_PAYLOAD, putHeader, Type } from "./frame.ts";
import type { Writer } from "./writer.ts";

/** Batches below this wait as single chunks. */
const LITTLE = 4 << 10;
const FIRST_RUN = 2 << 10;
const RUN = 16 << 10;

/** Buffers for runs; only streams that wait own some. Not of Buffer's pool: see toKeep. */
const firstRuns: Buffer[] = [];
const runs: Buffer[] = [];
const POOLED = 64;

/** Frames that are whole, in `chunk` from `start` to `end`. */
interface Run {
  readonly chunk: Uint8Array;
  readonly places: undefined;
  start: number;
  end: number;
}

/** Chunks that are not frames yet: the next one is at `places[start]`. */
interface Chunks {
  readonly chunk: Uint8Array;
  readonly places: number[];
  /** The last one ends a message, as all before it do. */
  readonly last: boolean;
  start: number;
}

type Piece = Run | Chunks;

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
  #run: Run | undefined;

  get empty(): boolean {
    return this.#pieces.length === 0;
  }

  /** Whether a frame without payload is next. */
  get nextIsEmpty(): boolean {
    const first = this.#pieces.first;
    if (first === undefined) return false;
    const { places, start, chunk } = first;
    return places === undefined ? lengthAt(chunk, start) === 0 : places[start] === places[start + 1];
  }

  /** `id`: 0 while it is not known. */
  push(chunk: Uint8Array, { id, last }: { readonly id: number; readonly last: boolean }): void {
    const { length } = chunk;
    if (id !== 0 && length <= MIN_PAYLOAD) this.#append(chunk, { id, last });
    else {
      this.#run = undefined;
      this.#pieces.push({ chunk: toKeep(chunk), places: [0, length], last, start: 0 });
    }
    this.bytes += FRAME_COST + length;
  }

  /** The messages of a batch from the one at `places[start]` on: little of them as single chunks, which become few objects. */
  pushBatch({ chunk, places }: Batch, { id, start }: { readonly id: number; readonly start: number }): void {
    let bytes = 0;
    for (let at = start; at < places.length; at += 2) bytes += places[at + 1]! - places[at]!;
    const [from, to] = [places[start]!, places.at(-1)!];
    if (bytes < LITTLE || to - from > 2 * bytes) {
      for (let at = start; at < places.length; at += 2) this.push(chunk.subarray(places[at], places[at + 1]), { id, last: true });
      return;
    }
    this.#run = undefined;
    const part = chunk.subarray(from, to);
    const own = toKeep(part);
    if (own === part) this.#pieces.push({ chunk, places, last: true, start });
    else this.#pieces.push({ chunk: own, places: places.slice(start).map((place) => place - from), last: true, start: 0 });
    this.bytes += (FRAME_COST * (places.length - start)) / 2 + bytes;
  }

  #append(chunk: Uint8Array, { id, last }: { readonly id: number; readonly last: boolean }): void {
    const size = HEADER + chunk.length;
    let run = this.#run;
    if (run === undefined || run.end + size > run.chunk.length) {
      // A large one only where a run is full already: chunks that large ones stand between would each keep it alive.
      const buffer =
        run === undefined ? (firstRuns.pop() ?? Buffer.allocUnsafeSlow(FIRST_RUN)) : (runs.pop() ?? Buffer.allocUnsafeSlow(RUN));
      run = this.#run = { chunk: buffer, places: undefined, start: 0, end: 0 };
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
    return piece.places === undefined ? this.#putFrames(writer, piece, may) : this.#putChunks(writer, piece, may);
  }

  #putFrames(writer: Writer, piece: Run, may: Allowance): number {
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
    const pool = chunk.length === RUN ? runs : firstRuns;
    if (at === end && pool.length < POOLED) pool.push(chunk as Buffer);
    return cost;
  }

  /** The first part of a frame that may not go whole. */
  #putHead(writer: Writer, piece: Run, { id, room }: Allowance): number {
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

  #putChunks(writer: Writer, piece: Chunks, { id, room, wanted, maxPayload, ending }: Allowance): number {
    const { chunk, places } = piece;
    let cost = 0;
    do {
      const from = places[piece.start]!;
      const left = places[piece.start + 1]! - from;
      const length = Math.min(left, maxPayload, room - cost - FRAME_COST);
      if (length < 0 || (length === 0 && left > 0)) break;
      let flags = 0;
      if (length < left) places[piece.start] = from + length;
      else {
        piece.start += 2;
        const ends = piece.start === places.length;
        if (ends) this.#taken();
        if (!ends || piece.last) flags |= Flag.END_MESSAGE;
        if (ends && ending && this.empty) flags |= Flag.FIN;
        this.bytes -= FRAME_COST;
      }
      this.bytes -= length;
      writer.data(id, flags, chunk, from, from + length);
      cost += FRAME_COST + length;
    } while (cost < wanted && piece.start < places.length && !writer.blocked);
    return cost;
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
