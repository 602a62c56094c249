/**
 * The table of accounts: what the limiter holds for each principal and rule, as records of fixed size in typed arrays, found by a
 * keyed digest, so that a million cost no strings, no objects and no work of the garbage collector. In a SharedArrayBuffer several
 * threads use one table.
 * Promises: from `enter` or `hold` to `leave` a record is this thread's alone; an account is forgotten only when nothing is open
 * and its moment of idleness has passed; nothing is ever moved or copied, so no step takes longer as the table grows.
 * Leaves to others: what the numbers mean, but for those that tell when an account is idle.
 *
 * Chains of records hang on `heads`; one of 1,024 locks guards all chains with the same last bits, and the pool of free records has its
 * own, always taken last. A lock is held for a few hundred nanoseconds, but its thread may lose the processor meanwhile: who waits
 * longer than a moment sleeps. Memory is committed by the system when it is first touched, so a large table that is empty costs nothing.
 */
import { randomFillSync } from "node:crypto";
import type { Digest } from "./digest.ts";
import type { Lane } from "./throttle.ts";

/** Words of a record. */
export const connectionsWord = 4;
export const pipesWord = 5;
const GRACE = 6; // and the next: one for each way
const NEXT = 3; // before it three words of the digest, 96 bits: enough for a million names, and for whoever cannot choose by them

/** Numbers of a record, behind its words. */
const IDLE_AT = 4;
export const tickNumber = 5;
export const connectsNumber = 6;
export const opensNumber = 7;
/** Three for each way: time, bytes, messages. */
export const laneNumber = 8;

const RECORD_WORDS = 28;
const RECORD_NUMBERS = RECORD_WORDS / 2;
/** Records of a chunk, which is what memory grows by. */
const CHUNK = 4_096;
const CHUNK_BITS = 12;
const RECORD_BYTES = RECORD_WORDS * 4;

/** Words before the heads: the head, then the locks. */
const CAPACITY = 0;
const COUNT = 1;
const USED = 2;
const FREE = 3;
const POOL_LOCK = 4;
const KEY = 8;
const LOCKS = 16;
const LOCK_COUNT = 1_024;
const HEADS = LOCKS + LOCK_COUNT;

/** Old accounts looked at for each new one: more than one, so that the table shrinks while it is used; when it is full, more. */
const LOOK_AT = 4;
const LOOK_AT_WHEN_FULL = 256;

const SPINS = 200;
const NAP_MS = 1;
/** Naps after which the thread that holds a lock must be dead. */
const NAPS = 2_000;

interface Chunk {
  readonly words: Int32Array;
  readonly numbers: Float64Array;
}

function heads(capacity: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(capacity, 2)));
}

/** Where the first chunk begins; the heads fill whole lines of the cache. */
function frontBytes(capacity: number): number {
  return Math.ceil(((HEADS + heads(capacity)) * 4) / 64) * 64;
}

function begin<B extends ArrayBufferLike>(memory: B, capacity: number): B {
  const words = new Int32Array(memory);
  words[CAPACITY] = capacity;
  const key = new Int32Array(4); // the system's random numbers do not go into shared memory
  words.set(randomFillSync(key), KEY);
  return memory;
}

/** Memory for one table of so many accounts, to be handed to every thread. */
export function accountsMemory(capacity: number): SharedArrayBuffer {
  return begin(new SharedArrayBuffer(frontBytes(capacity) + (capacity + 1) * RECORD_BYTES), capacity); // record 0 is none
}

export class Accounts {
  readonly capacity: number;
  /** Of digests. */
  readonly key: Int32Array;
  /** The record in hand, as `enter` and `hold` set it: its words begin at `word`, its numbers at `number`. */
  words: Int32Array = new Int32Array(0);
  numbers: Float64Array = new Float64Array(0);
  word = 0;
  number = 0;
  /** Whether `enter` made it: then its numbers, but for the idleness, are those of whoever had it before. */
  isNew = false;

  readonly #shared: SharedArrayBuffer | undefined;
  readonly #front: Int32Array;
  readonly #mask: number;
  readonly #chunks: (Chunk | undefined)[] = [];
  /** The record that a sweep looked at last. */
  #hand = 0;

  constructor(memory: SharedArrayBuffer | number) {
    this.#shared = typeof memory === "number" ? undefined : memory;
    const front = this.#shared ?? begin(new ArrayBuffer(frontBytes(memory as number)), memory as number);
    this.#front = new Int32Array(front);
    this.capacity = this.#front[CAPACITY]!;
    this.key = this.#front.slice(KEY, KEY + 4);
    this.#mask = heads(this.capacity) - 1;
  }

  get count(): number {
    return Atomics.load(this.#front, COUNT);
  }

  /** The account of a digest, made if need be, locked until `leave`. 0: none is free, nor idle of those that were looked at; nothing is locked. */
  enter(digest: Digest, at: number): number {
    const chain = digest[0]! & this.#mask;
    this.#lock(chain);
    let id = this.#find(chain, digest);
    this.isNew = id === 0;
    if (id !== 0) return id;
    this.#unlock(chain); // no thread holds two chains
    this.#sweep(at);
    this.#lock(chain);
    id = this.#find(chain, digest);
    if (id !== 0) this.isNew = false; // another thread was faster
    else id = this.#insert(digest, at);
    if (id === 0) this.#unlock(chain);
    return id;
  }

  /** One that cannot be forgotten meanwhile, since something of it is open. */
  hold(id: number): void {
    this.#seek(id);
    this.#lock(this.words[this.word]! & this.#mask);
  }

  /** Ends what `enter` and `hold` began: the record in hand may be used by others. */
  leave(): void {
    this.#unlock(this.words[this.word]! & this.#mask);
  }

  /** A way of what flows in the pipes of an account, 0 or 1, as long as something of it is open. */
  lane(id: number, way: number): Lane {
    this.#seek(id);
    return {
      numbers: this.numbers,
      at: this.number + laneNumber + 3 * way,
      words: this.words,
      graceAt: this.word + GRACE + way,
      hold: () => this.hold(id),
      leave: () => this.leave(),
    };
  }

  /** Nobody may tell the record in hand from a new one, from `at` on, if nothing of it is open. */
  idleFrom(at: number): void {
    const place = this.number + IDLE_AT;
    if (at > this.numbers[place]!) this.numbers[place] = at;
  }

  #find(chain: number, digest: Digest): number {
    const a = digest[0]!;
    const b = digest[1]!;
    const c = digest[2]!;
    for (let id = this.#front[HEADS + chain]!; id !== 0; id = this.words[this.word + NEXT]!) {
      this.#seek(id);
      const { words, word } = this;
      if (words[word] === a && words[word + 1] === b && words[word + 2] === c) return id;
    }
    return 0;
  }

  #insert(digest: Digest, at: number): number {
    const id = this.#take();
    if (id === 0) return 0;
    this.#seek(id);
    const { words, word } = this;
    const place = HEADS + (digest[0]! & this.#mask);
    for (let index = 0; index < NEXT; index++) words[word + index] = digest[index]!;
    words[word + NEXT] = this.#front[place]!;
    this.#front[place] = id;
    words.fill(0, word + connectionsWord, word + GRACE + 2);
    this.numbers[this.number + IDLE_AT] = at;
    return id;
  }

  /** A record of the pool; 0: there is none. */
  #take(): number {
    const front = this.#front;
    this.#acquire(POOL_LOCK);
    let id = front[FREE]!;
    if (id !== 0) {
      this.#seek(id);
      front[FREE] = this.words[this.word + NEXT]!;
    } else if (front[USED]! < this.capacity) id = ++front[USED]!;
    if (id !== 0) front[COUNT]!++;
    this.#release(POOL_LOCK);
    return id;
  }

  /** Looks at the next few records and forgets the idle ones; in a full table only until there is room for the one that asks. */
  #sweep(at: number): void {
    const isFull = this.count >= this.capacity;
    const used = Atomics.load(this.#front, USED);
    if (used === 0) return;
    for (let turns = isFull ? LOOK_AT_WHEN_FULL : LOOK_AT; turns > 0; turns--) {
      this.#hand = (this.#hand % used) + 1;
      this.#seek(this.#hand);
      if (!this.#isIdle(at)) continue; // not locked: most are busy
      if (this.#forget(this.#hand, at) && isFull) return;
    }
  }

  #isIdle(at: number): boolean {
    const { words, word } = this;
    return words[word + connectionsWord] === 0 && words[word + pipesWord] === 0 && this.numbers[this.number + IDLE_AT]! <= at;
  }

  #forget(id: number, at: number): boolean {
    const chain = this.words[this.word]! & this.#mask;
    this.#lock(chain);
    const isForgotten = this.#isIdle(at) && this.#unlink(chain, id);
    if (isForgotten) this.#give(id);
    this.#unlock(chain);
    return isForgotten;
  }

  /** False: it does not hang there, because another thread has just taken it or is about to put it somewhere. */
  #unlink(chain: number, id: number): boolean {
    const next = this.words[this.word + NEXT]!;
    let before = 0;
    for (let one = this.#front[HEADS + chain]!; one !== id; one = this.words[this.word + NEXT]!) {
      if (one === 0) return false;
      this.#seek((before = one));
    }
    if (before === 0) this.#front[HEADS + chain] = next;
    else this.words[this.word + NEXT] = next;
    return true;
  }

  #give(id: number): void {
    this.#seek(id);
    this.numbers[this.number + IDLE_AT] = Infinity; // a sweep passes it by
    this.#acquire(POOL_LOCK);
    this.words[this.word + NEXT] = this.#front[FREE]!;
    this.#front[FREE] = id;
    this.#front[COUNT]!--;
    this.#release(POOL_LOCK);
  }

  #seek(id: number): void {
    const { words, numbers } = this.#chunks[id >> CHUNK_BITS] ?? this.#map(id >> CHUNK_BITS);
    const index = id & (CHUNK - 1);
    this.words = words;
    this.numbers = numbers;
    this.word = index * RECORD_WORDS;
    this.number = index * RECORD_NUMBERS;
  }

  #map(index: number): Chunk {
    const records = Math.min(CHUNK, this.capacity + 1 - index * CHUNK);
    const memory = this.#shared ?? new ArrayBuffer(records * RECORD_BYTES);
    const from = this.#shared === undefined ? 0 : frontBytes(this.capacity) + index * CHUNK * RECORD_BYTES;
    const chunk = {
      words: new Int32Array(memory, from, records * RECORD_WORDS),
      numbers: new Float64Array(memory, from, records * RECORD_NUMBERS),
    };
    this.#chunks[index] = chunk;
    return chunk;
  }

  #lock(chain: number): void {
    if (this.#shared !== undefined) this.#acquire(LOCKS + (chain & (LOCK_COUNT - 1)));
  }

  #unlock(chain: number): void {
    if (this.#shared !== undefined) this.#release(LOCKS + (chain & (LOCK_COUNT - 1)));
  }

  #acquire(place: number): void {
    for (let spins = 0; Atomics.compareExchange(this.#front, place, 0, 1) !== 0; spins++) {
      if (spins < SPINS) continue;
      if (spins > SPINS + NAPS) throw new Error("a thread has died while it held a lock of the limiter");
      Atomics.wait(this.#front, place, 1, NAP_MS);
    }
  }

  #release(place: number): void {
    Atomics.store(this.#front, place, 0);
  }
}
