/**
 * Turns frames into few large writes: one slab is filled, then handed to the transport as one write. Control frames go first
 * and are never held back by payload; payload is put only while less than 64 KiB waits in the transport.
 * Promises: memory bounded by one slab of 128 KiB, 192 KiB in the transport, and 256 KiB of control frames (`overflow` beyond).
 * Leaves to others: which stream may send, and when (sender.ts) to flush.
 */
import { Buffer } from "node:buffer";
import { copyPart } from "../base/bytes.ts";
import { HEADER, putHeader, Type } from "./frame.ts";

/** The byte stream below a session. `written` is called once the bytes left our hands. */
export interface Transport {
  write(chunk: Buffer, written: () => void): void;
  /** Ends our direction after what was written. */
  end(): void;
  destroy(): void;
}

const SLAB = 128 << 10;
/** Payload stops when this much waits in the transport. */
const HIGH = 64 << 10;
/** Below this a copy of its own size is written and the slab is free again at once. */
const SMALL = 4 << 10;
const MAX_HELD = 256 << 10;

/** Slabs lent to whoever writes just now; idle sessions own none. */
const pool: Buffer[] = [];
const POOLED = 32;

export class Writer {
  readonly #transport: Transport;
  readonly #room: () => void;
  #slab: Buffer | undefined;
  #position = 0;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #inFlight = 0;
  #dead = false;
  /** Bytes that the transport has taken so far. */
  written = 0;
  /** Set when control frames outgrew their bound because the peer does not read. */
  overflow = false;

  /** `room` is called when the transport has taken enough for payload to go on. */
  constructor(transport: Transport, room: () => void) {
    this.#transport = transport;
    this.#room = room;
  }

  /** Whether payload has to wait. */
  get blocked(): boolean {
    return this.#inFlight >= HIGH || this.#dead;
  }

  /** Bytes that the transport has not taken yet, control frames that wait included. */
  get waiting(): number {
    return this.#inFlight + this.#position + this.#heldBytes;
  }

  /** Bytes filled into the open slab. */
  get filled(): number {
    return this.#position;
  }

  /** A whole control frame. */
  control(frame: Buffer): void {
    if (this.#dead) return;
    if (this.blocked) {
      this.#heldBytes += frame.length;
      if (this.#heldBytes > MAX_HELD) this.overflow = true;
      else this.#held.push(ownCopy(frame));
      return;
    }
    this.#reserve(frame.length);
    frame.copy(this.#slab as Buffer, this.#position);
    this.#position += frame.length;
  }

  /** A DATA frame with `chunk` from `start` to `end`; the caller has looked at `blocked` and at the credit. */
  data(id: number, flags: number, chunk: Uint8Array, start: number, end: number): void {
    const length = end - start;
    this.#reserve(HEADER + length);
    const slab = this.#slab as Buffer;
    const position = this.#position;
    putHeader(slab, position, length, Type.DATA, flags, id);
    if (length > 0) copyPart(slab, position + HEADER, chunk, start, end);
    this.#position = position + HEADER + length;
  }

  /** DATA frames that are whole already, of `bytes` from `start` to `end`. */
  frames(bytes: Uint8Array, start: number, end: number): void {
    this.#reserve(end - start);
    copyPart(this.#slab as Buffer, this.#position, bytes, start, end);
    this.#position += end - start;
  }

  /** Hands what is filled to the transport. */
  flush(): void {
    const slab = this.#slab;
    if (slab === undefined || this.#dead) return;
    const size = this.#position;
    this.#slab = undefined;
    this.#position = 0;
    this.#inFlight += size;
    if (size <= SMALL) {
      const copy = this.#inFlight === size ? Buffer.allocUnsafe(size) : Buffer.allocUnsafeSlow(size); // many may wait: see ownCopy
      slab.copy(copy, 0, 0, size);
      lendBack(slab);
      this.#transport.write(copy, () => this.#written(size));
    } else {
      this.#transport.write(slab.subarray(0, size), () => {
        lendBack(slab);
        this.#written(size);
      });
    }
  }

  /** The last frames of the session: handed over whatever waits, so that the reason is not lost to a full socket. */
  farewell(frame: Buffer): void {
    if (this.#dead) return;
    this.flush();
    this.#transport.write(frame, () => {});
  }

  /** Nothing more is written; what waits is dropped. */
  stop(): void {
    this.#dead = true;
    if (this.#slab !== undefined) lendBack(this.#slab);
    this.#slab = undefined;
    this.#held = [];
    this.#position = this.#heldBytes = 0;
  }

  #reserve(size: number): void {
    if (this.#slab !== undefined && this.#position + size > SLAB) this.flush();
    if (this.#slab === undefined) this.#slab = size > SLAB ? Buffer.allocUnsafeSlow(size) : (pool.pop() ?? Buffer.allocUnsafeSlow(SLAB));
  }

  #written(size: number): void {
    const wasBlocked = this.blocked;
    this.#inFlight -= size;
    this.written += size;
    if (this.#dead || !wasBlocked || this.blocked) return;
    if (this.#heldBytes > 0) {
      const held = this.#held;
      this.#held = [];
      this.#heldBytes = 0;
      for (const frame of held) this.control(frame);
      this.flush();
    }
    this.#room();
  }
}

/** Not in Buffer's pool, which all the process shares: each of many small ones that wait could keep 64 KiB of it (Node 26). */
function ownCopy(frame: Buffer): Buffer {
  const own = Buffer.allocUnsafeSlow(frame.length);
  frame.copy(own);
  return own;
}

function lendBack(slab: Buffer): void {
  if (slab.length === SLAB && pool.length < POOLED) pool.push(slab);
}
