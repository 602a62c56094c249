/**
 * The parts of a message that must be whole before it can leave. Promises: parts are copied together where they would keep much more
 * alive than themselves, so that what is held costs little more than its bytes, however small the parts and however large the buffers
 * that they came in. `GatheringBudget` bounds what all clients together may have gathered; over it, of the client who holds most the
 * largest message goes, so that who starts many messages and ends none pays himself. Leaves to others: the limit of one message, and
 * how its pipe breaks.
 */

/** Room for each of 256 pipes of a client to have a message of 1 MiB under way. */
const MAX_GATHERED_BYTES = 256 << 20;

/** Who pays for a gathering. */
export interface GatheringAccount {
  readonly budget: GatheringBudget;
  /** Gatherings of one owner (a client's principal) are counted together. */
  readonly owner: string;
  /** What is held has to go, now: `drop` it. */
  evict(): void;
}

interface Share {
  bytes: number;
  readonly gatherings: Set<Gathering>;
}

export class GatheringBudget {
  readonly #maxBytes: number;
  readonly #shares = new Map<string, Share>();
  #bytes = 0;

  /** `maxMessageBytes`: the largest message, of which two always have room; `share`: of the process's room, where threads divide it. */
  constructor({
    maxBytes = MAX_GATHERED_BYTES,
    maxMessageBytes = 0,
    share = 1,
  }: { readonly maxBytes?: number; readonly maxMessageBytes?: number; readonly share?: number } = {}) {
    this.#maxBytes = Math.max(Math.floor(maxBytes * share), 2 * maxMessageBytes);
  }

  /** Bytes that are held now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Counts `bytes` more for `gathering`, and makes room: it may itself be what has to go. */
  charge(owner: string, gathering: Gathering, bytes: number): void {
    let share = this.#shares.get(owner);
    if (share === undefined) this.#shares.set(owner, (share = { bytes: 0, gatherings: new Set() }));
    share.gatherings.add(gathering);
    share.bytes += bytes;
    this.#bytes += bytes;
    while (this.#bytes > this.#maxBytes) this.#evictLargest();
  }

  /** `gathering` holds nothing any more; it held `bytes`. */
  free(owner: string, gathering: Gathering, bytes: number): void {
    const share = this.#shares.get(owner);
    if (share === undefined || !share.gatherings.delete(gathering)) return;
    share.bytes -= bytes;
    this.#bytes -= bytes;
    if (share.gatherings.size === 0) this.#shares.delete(owner);
  }

  #evictLargest(): void {
    let most: Share | undefined;
    for (const share of this.#shares.values()) if (most === undefined || share.bytes > most.bytes) most = share;
    let largest: Gathering | undefined;
    for (const one of most?.gatherings ?? []) if (largest === undefined || one.bytes > largest.bytes) largest = one;
    largest?.evict();
  }
}

/** Parts up to this size are copied; larger ones are kept by reference, but for those that keep a buffer of more than twice their size. */
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
  readonly #account: GatheringAccount | undefined;

  /** Without an account nothing is counted. */
  constructor(account?: GatheringAccount) {
    this.#account = account;
  }

  /** After it, nothing may be left: the budget's eviction can be this very gathering's. */
  add(chunk: Uint8Array): void {
    const { length } = chunk;
    if (length === 0) return;
    this.bytes += length;
    if (length > SMALL_BYTES && chunk.buffer.byteLength <= 2 * length) {
      this.#closeTail();
      this.#parts.push(chunk);
    } else this.#copy(chunk);
    this.#account?.budget.charge(this.#account.owner, this, length);
  }

  #copy(chunk: Uint8Array): void {
    const { length } = chunk;
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

  evict(): void {
    this.#account?.evict();
    this.drop(); // whatever the account did: the budget must get its bytes back
  }

  drop(): void {
    if (this.bytes > 0) this.#account?.budget.free(this.#account.owner, this, this.bytes);
    this.#parts = [];
    this.#tail = undefined;
    this.#tailStart = this.#tailUsed = this.bytes = 0;
  }
}
