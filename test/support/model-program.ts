/**
 * A program at one end of a stream that writes, pauses, resets and ends at random, also from within the stream's events, and holds what it hears
 * against what the other end said. Promises: throws at whatever is lost, repeated, moved, or told against base/channel.ts.
 * Leaves to others: the sessions and their wire (session-model.ts).
 */
import { Buffer } from "node:buffer";
import type { Batch, Break } from "../../src/base/channel.ts";
import type { Stream } from "../../src/protocol/stream.ts";
import type { Random } from "./frame-fuzz.ts";

const SIZES = [
  0, 1, 2, 64, 65, 200, 1_000, 1_023, 1_024, 1_025, 3_000, 4_095, 4_096, 5_000, 16_312, 16_376, 16_377, 40_000, 66_000, 140_000,
] as const;

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[random.next(from.length)] as T;
}

/** A byte that depends on where it stands. */
const byteAt = (key: number, at: number): number => (Math.imul(at, 31) + (at >>> 8) * 17 + key * 101) & 0xff;

/** What one end of a stream has said. */
export class Said {
  readonly #key: number;
  bytes = 0;
  /** Lengths of its messages. */
  readonly messages: number[] = [];
  ended = false;

  constructor(key: number) {
    this.#key = key;
  }

  /** The next `length` bytes, as a part of a larger buffer. */
  next(length: number): Buffer {
    const whole = Buffer.alloc(length + 10, 0xee);
    for (let at = 0; at < length; at++) whole[at + 3] = byteAt(this.#key, this.bytes + at);
    this.bytes += length;
    return whole.subarray(3, 3 + length);
  }

  /** Where `chunk`, which came after `before` bytes, is not what was said; -1: nowhere. */
  differsAt(chunk: Uint8Array, before: number): number {
    if (before + chunk.length > this.bytes) return this.bytes;
    for (let at = 0; at < chunk.length; at++) if (chunk[at] !== byteAt(this.#key, before + at)) return before + at;
    return -1;
  }
}

/** How a program behaves: chances in a thousand. */
export interface Manners {
  readonly maxMessage: number;
  readonly pause: number;
  readonly reset: number;
  /** Writes before it was told `drained`. */
  readonly disobey: number;
}

export interface ProgramOptions {
  readonly said: Said;
  readonly heard: Said;
  readonly random: Random;
  readonly manners: Manners;
  /** Called now and then within an event. */
  readonly within: () => void;
}

export class Program {
  readonly stream: Stream;
  /** `drained` is owed. */
  waits = false;
  closed: { readonly broken: Break | undefined } | undefined;
  readonly #options: ProgramOptions;
  #writesLeft: number;
  #paused = false;
  #reset = false;
  /** Inside a message. */
  #saying = false;
  /** Comes to its end. */
  #calm = false;
  #got = 0;
  #messages = 0;
  /** Bytes of the message under way. */
  #open = 0;
  #ended = false;

  constructor(stream: Stream, options: ProgramOptions) {
    this.stream = stream;
    this.#options = options;
    this.#writesLeft = options.random.next(60);
    stream.attach({
      takesBatches: options.random.next(2) === 0,
      batch: (batch) => this.#onBatch(batch),
      data: (chunk, last) => this.#onData(chunk, last),
      end: () => this.#onEnd(),
      drained: () => this.#onDrained(),
      closed: (broken) => this.#onClosed(broken),
    });
  }

  /** Whether it says and takes nothing any more. */
  get over(): boolean {
    return this.#reset || this.closed !== undefined;
  }

  #require(holds: boolean, what: string): void {
    if (!holds) throw new Error(`${what}: ${this.text}`);
  }

  #onData(chunk: Uint8Array, last: boolean): void {
    this.#hear(chunk, last);
    this.#within();
  }

  #onBatch({ chunk, places }: Batch): void {
    this.#require(places.length > 0, "an empty batch");
    for (let at = 0; at < places.length; at += 2) this.#hear(chunk.subarray(places[at], places[at + 1]), true);
    this.#within();
  }

  #hear(chunk: Uint8Array, last: boolean): void {
    const { heard } = this.#options;
    this.#require(!this.over && !this.#ended, "data after the end");
    this.#require(!this.#paused, "data while paused");
    const differs = heard.differsAt(chunk, this.#got);
    this.#require(differs < 0, `byte ${differs} was not said`);
    this.#got += chunk.length;
    this.#open += chunk.length;
    if (last) {
      this.#require(
        this.stream.messages && this.#open === heard.messages[this.#messages],
        `message ${this.#messages} has ${this.#open} bytes`,
      );
      this.#messages++;
      this.#open = 0;
    }
  }

  #onEnd(): void {
    this.#require(!this.over && !this.#ended, "a second end");
    this.#require(!this.#paused, "an end while paused");
    this.#ended = true;
    this.#requireAll();
    this.#within();
  }

  #requireAll(): void {
    const { heard } = this.#options;
    this.#require(heard.ended && this.#got === heard.bytes && this.#messages === heard.messages.length, "not all came");
  }

  #onDrained(): void {
    this.#require(this.waits && !this.over, "drained that nobody waits for");
    this.waits = false;
    this.#within();
  }

  #onClosed(broken: Break | undefined): void {
    this.#require(this.closed === undefined, "a second closed");
    this.closed = { broken };
    if (broken !== undefined) return;
    this.#require(this.#options.said.ended, "closed in order, but not by us");
    this.#requireAll();
  }

  #within(): void {
    if (this.#calm) return this.finish();
    if (this.#options.random.next(3) === 0) this.act();
    if (this.#options.random.next(20) === 0) this.#options.within();
  }

  /** Does one thing or another. */
  act(): void {
    if (this.over) return;
    const { random, manners } = this.#options;
    if (random.next(1000) < manners.reset) {
      this.#reset = true;
      return this.stream.reset({ reason: "cancelled" });
    }
    if (random.next(1000) < manners.pause) {
      this.#paused = !this.#paused;
      return this.#paused ? this.stream.pause() : this.stream.resume();
    }
    for (let times = 1 + random.next(6); times > 0; times--) this.#say();
  }

  #say(): void {
    const { random, manners, said } = this.#options;
    if (this.over || this.#saying || said.ended || (this.waits && random.next(1000) >= manners.disobey)) return;
    if (this.#writesLeft-- <= 0) {
      said.ended = true;
      return this.stream.closeWrite();
    }
    if (this.stream.messages && random.next(4) === 0) return this.#sayBatch();
    const size = pick(random, SIZES);
    if (!this.stream.messages) return this.#write(size, random.next(2) === 0);
    const length = Math.min(size, manners.maxMessage);
    said.messages.push(length);
    const first = random.next(3) === 0 ? random.next(length + 1) : 0;
    this.#saying = true; // who writes on before `drained` can hear it within a write
    if (first > 0) this.#write(first, false);
    this.#saying = false;
    this.#write(length - first, true);
  }

  /** Messages that lie in one chunk, with something between them. */
  #sayBatch(): void {
    const { random, manners, said } = this.#options;
    const parts: Buffer[] = [];
    const places: number[] = [];
    let at = random.next(5);
    parts.push(Buffer.alloc(at));
    for (let times = 1 + random.next(pick(random, [3, 40, 300])); times > 0; times--) {
      const length = Math.min(pick(random, random.next(10) === 0 ? SIZES : SIZES.slice(0, 7)), manners.maxMessage);
      said.messages.push(length);
      parts.push(said.next(length), Buffer.alloc(8));
      places.push(at, at + length);
      at += length + 8;
    }
    if (!this.stream.writeBatch({ chunk: Buffer.concat(parts), places })) this.waits = true;
  }

  #write(length: number, last: boolean): void {
    if (!this.stream.write(this.#options.said.next(length), last)) this.waits = true;
  }

  /** Reads all, and ends what it says as soon as it may. */
  finish(): void {
    this.#calm = true;
    if (this.over || this.#saying) return;
    this.#writesLeft = Math.min(this.#writesLeft, 2);
    if (this.#paused) {
      this.#paused = false;
      this.stream.resume();
    }
    while (!this.waits && !this.over && !this.#options.said.ended) this.#say();
  }

  get text(): string {
    const { stream, waits } = this;
    const { said, heard } = this.#options;
    const end = stream.opener ? "client" : "gateway";
    return `stream ${stream.id} of the ${end}, got ${this.#got} of ${heard.bytes}, said ${said.bytes}, waits ${String(waits)}, outbox ${stream.waiting}`;
  }
}
