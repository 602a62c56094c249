/**
 * The built-in `echo` target: gives back what it takes, bytes or messages, within the process.
 * Promises: the rules of base/channel.ts; a chunk goes straight through while the reader reads, and about 64 KiB wait while it does not.
 */
import { toKeep } from "../base/bytes.ts";
import type { Break, Channel, ChannelEvents } from "../base/channel.ts";

const HIGH_BYTES = 64 << 10;
/** What a waiting chunk costs beside its bytes. */
const CHUNK_BYTES = 64;

interface Waiting {
  readonly chunk: Uint8Array;
  readonly last: boolean;
}

/** Of all that have nothing waiting: most, most of the time. */
const none: Waiting[] = [];

class Echo implements Channel {
  readonly messages: boolean;
  #events: ChannelEvents | undefined;
  #paused = false;
  #waiting = none;
  #bytes = 0;
  /** `write` returned false and `drained` is owed. */
  #isFull = false;
  #ending = false;
  #delivering = false;
  #isOver = false;
  #broken: Break | undefined;

  constructor(messages: boolean) {
    this.messages = messages;
  }

  attach(events: ChannelEvents): void {
    this.#events = events;
    if (this.#isOver) queueMicrotask(() => events.closed(this.#broken));
    else if (this.#waiting.length > 0 || this.#ending) queueMicrotask(() => this.#deliver());
  }

  write(chunk: Uint8Array, last: boolean): boolean {
    if (this.#ending || this.#isOver) return true;
    const ends = this.messages && last;
    const { length } = chunk;
    if (length === 0 && !ends) return !this.#isFull;
    if (this.#events !== undefined && !this.#paused && !this.#delivering && this.#waiting.length === 0) {
      this.#delivering = true;
      this.#events.data(chunk, ends);
      this.#delivering = false;
      if (this.#waiting.length > 0 || this.#ending) this.#deliver();
    } else {
      if (this.#waiting === none) this.#waiting = [];
      this.#waiting.push({ chunk: toKeep(chunk), last: ends });
      this.#bytes += length + CHUNK_BYTES;
    }
    if (this.#isOver || this.#ending) return true;
    if (this.#paused || this.#bytes >= HIGH_BYTES) this.#isFull = true; // until `drained`, whatever is written meanwhile
    return !this.#isFull;
  }

  closeWrite(): void {
    if (this.#ending || this.#isOver) return;
    this.#ending = true;
    this.#deliver();
  }

  reset(broken: Break): void {
    this.#close(broken);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#waiting.length > 0 || this.#isFull || this.#ending) queueMicrotask(() => this.#deliver());
  }

  /** What waits, then room for more, then the end. */
  #deliver(): void {
    const events = this.#events;
    if (events === undefined || this.#delivering) return;
    this.#delivering = true;
    let given = 0;
    while (!this.#paused && !this.#isOver && given < this.#waiting.length) {
      const { chunk, last } = this.#waiting[given++] as Waiting;
      this.#bytes -= chunk.length + CHUNK_BYTES;
      events.data(chunk, last);
    }
    this.#waiting = given === this.#waiting.length ? none : this.#waiting.slice(given);
    this.#delivering = false;
    if (this.#isOver || this.#paused || this.#waiting.length > 0) return;
    if (this.#ending) {
      this.#close(undefined);
      events.end();
    } else if (this.#isFull) {
      this.#isFull = false;
      events.drained();
    }
  }

  #close(broken: Break | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#broken = broken;
    this.#waiting = none;
    this.#bytes = 0;
    const events = this.#events;
    if (events !== undefined) queueMicrotask(() => events.closed(broken));
  }
}

/** Both directions are one: it ends when the writer ends it. */
export function echoChannel({ messages }: { readonly messages: boolean }): Channel {
  return new Echo(messages);
}
