/**
 * The parts of a message that must be whole before it can leave. Promises: small parts are copied together, so that what is held costs
 * little more than its bytes, however small the parts and however large the buffers that they came in. Leaves to others: the limit.
 */

/** Parts up to this size are copied; larger ones are kept by reference. */
const SMALL_BYTES = 4 << 10;
const FIRST_TAIL_BYTES = 1 << 10;
const LARGEST_TAIL_BYTES = 64 << 10;

export class Gathering {
  bytes = 0;
  #parts: Uint8Array[] = [];
  /** Where small parts go; what lies before `#tailStart` is in `#parts`. */
  #tail: Uint8Array | undefined;
  #tailStart = 0;
  #tailUsed = 0;

  add(chunk: Uint8Array): void {
    const { length } = chunk;
    if (length === 0) return;
    this.bytes += length;
    if (length > SMALL_BYTES) {
      this.#closeTail();
      this.#parts.push(chunk);
      return;
    }
    let tail = this.#tail;
    if (tail === undefined || this.#tailUsed + length > tail.length) {
      this.#closeTail();
      const next = tail === undefined ? FIRST_TAIL_BYTES : Math.min(LARGEST_TAIL_BYTES, 2 * tail.length);
      tail = this.#tail = new Uint8Array(Math.max(next, length));
      this.#tailStart = this.#tailUsed = 0;
    }
    tail.set(chunk, this.#tailUsed);
    this.#tailUsed += length;
  }

  #closeTail(): void {
    if (this.#tail === undefined || this.#tailUsed === this.#tailStart) return;
    this.#parts.push(this.#tail.subarray(this.#tailStart, this.#tailUsed));
    this.#tailStart = this.#tailUsed;
  }

  /** All parts in order; nothing is held afterwards. */
  take(): readonly Uint8Array[] {
    this.#closeTail();
    const parts = this.#parts;
    this.drop();
    return parts;
  }

  drop(): void {
    this.#parts = [];
    this.#tail = undefined;
    this.#tailStart = this.#tailUsed = this.bytes = 0;
  }
}
