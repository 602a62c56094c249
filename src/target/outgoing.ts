/**
 * What a framed channel sends: small pieces are copied into a slab that all of them share and leave together at the end of the running
 * callback, large ones go by reference. Promises: order; no allocation for a small message. Leaves to others: what the pieces mean.
 */
import { Buffer } from "node:buffer";
import { copyPart } from "../base/bytes.ts";
import type { Channel } from "../base/channel.ts";
import type { PrefixFraming } from "./target.ts";

const SLAB_BYTES = 64 << 10;
/** Pieces up to this size are copied. */
const SMALL_BYTES = 4 << 10;
const MAX_LENGTH_BYTES = 5;

/** Nothing in a slab is written twice: whoever got a piece of it may still read it. */
let slab = Buffer.alloc(0);
let used = 0;

let dirty: Outgoing[] = [];

function flushDirty(): void {
  const all = dirty;
  dirty = [];
  for (const outgoing of all) outgoing.settle();
}

/** Makes room for `size` bytes at `used`. Those who have bytes in the old slab keep it. */
function makeRoom(size: number): void {
  if (used + size <= slab.length) return;
  slab = Buffer.allocUnsafeSlow(SLAB_BYTES); // not cleared: only what was written leaves it
  used = 0;
}

export class Outgoing {
  /** The channel asked to wait; its owner sets it back. */
  full = false;
  readonly #channel: Channel;
  /** Our run of bytes in a slab; it can grow while it ends where that slab's free room starts. */
  #run: Uint8Array | undefined;
  #start = 0;
  #end = 0;
  #isDirty = false;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  put(piece: Uint8Array, start = 0, end = piece.length): void {
    const length = end - start;
    if (length === 0) return;
    if (length > SMALL_BYTES) {
      this.flush();
      this.#pass(length === piece.length ? piece : piece.subarray(start, end));
      return;
    }
    this.#reserve(length);
    copyPart(slab, used, piece, start, end);
    this.#end = used += length;
  }

  putByte(byte: number): void {
    this.#reserve(1);
    slab[used] = byte;
    this.#end = ++used;
  }

  putLength(length: number, framing: PrefixFraming): void {
    this.#reserve(MAX_LENGTH_BYTES);
    const bytes = slab;
    let at = used;
    if (framing === "u32") {
      bytes[at++] = length >>> 24;
      bytes[at++] = length >>> 16;
      bytes[at++] = length >>> 8;
      bytes[at++] = length;
    } else if (framing === "u16") {
      bytes[at++] = length >>> 8;
      bytes[at++] = length;
    } else {
      let left = length;
      for (; left > 0x7f; left = Math.floor(left / 128)) bytes[at++] = (left & 0x7f) | 0x80;
      bytes[at++] = left;
    }
    this.#end = used = at;
  }

  /** Readies the shared slab for `size` bytes that lie right behind our run, or start a new one. */
  #reserve(size: number): void {
    makeRoom(size);
    if (this.#run === slab && this.#end === used) return;
    this.flush();
    this.#run = slab;
    this.#start = this.#end = used;
    if (this.#isDirty) return;
    this.#isDirty = true;
    if (dirty.push(this) === 1) queueMicrotask(flushDirty);
  }

  /** The callback that wrote is over. */
  settle(): void {
    this.#isDirty = false;
    this.flush();
  }

  /** Hands the run over. */
  flush(): void {
    const run = this.#run;
    this.#run = undefined;
    if (run !== undefined && this.#end > this.#start) this.#pass(run.subarray(this.#start, this.#end));
  }

  #pass(piece: Uint8Array): void {
    if (!this.#channel.write(piece, false)) this.full = true;
  }

  drop(): void {
    this.#run = undefined;
  }
}
