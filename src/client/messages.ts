/**
 * A pipe of messages: chunks are joined until their message ends, bounded by `maxMessageBytes`; whole messages wait in a bounded queue,
 * and the channel is paused while it is full. Promises: a message that was cut off is never delivered.
 */
import { PipegateError } from "../base/error.ts";
import type { HeldEnd } from "./held-end.ts";
import type { MessagePipe } from "./types.ts";

const highWaterMark = 256 << 10;
const perMessage = 64; // what an entry of the queue costs beside its bytes
const copiedBelow = 4096; // a small message must not keep the whole chunk alive that it came in

interface Taker {
  resolve(message: Uint8Array<ArrayBuffer> | undefined): void;
  reject(error: PipegateError): void;
}

export interface MessageBounds {
  /** Largest message taken from the other side, bytes. */
  readonly incomingBytes: number;
  /** Largest message that the other side takes, bytes. */
  readonly outgoingBytes: number;
}

export class JoinedMessages implements MessagePipe {
  readonly target: string;
  readonly #end: HeldEnd;
  readonly #bounds: MessageBounds;
  #partial = new Uint8Array(0);
  #length = 0;
  #queue: Uint8Array<ArrayBuffer>[] = [];
  #queued = 0;
  #takers: Taker[] = [];
  #ended = false;
  #error: PipegateError | undefined;

  constructor(target: string, { end, bounds }: { readonly end: HeldEnd; readonly bounds: MessageBounds }) {
    this.target = target;
    this.#end = end;
    this.#bounds = bounds;
    end.take("messages", {
      data: (chunk, last) => this.#onData(chunk, last),
      end: () => this.#onEnd(),
      broke: (error) => this.#onBreak(error),
    });
    end.resume();
  }

  get maxMessageBytes(): number {
    return this.#bounds.outgoingBytes;
  }
  get closed(): Promise<void> {
    return this.#end.closed;
  }
  async send(message: Uint8Array): Promise<void> {
    const limit = this.#bounds.outgoingBytes;
    if (message.length > limit) {
      throw new PipegateError("message_too_large", `a message of ${message.length} bytes is larger than the limit of ${limit}`);
    }
    await this.#end.write(message, true);
  }
  receive(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const message = this.#queue.shift();
    if (message) {
      this.#queued -= message.length + perMessage;
      if (this.#queued < highWaterMark / 2) this.#end.resume();
      return Promise.resolve(message);
    }
    if (this.#error) return Promise.reject(this.#error);
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => void this.#takers.push({ resolve, reject }));
  }
  closeWrite(): void {
    this.#end.closeWrite();
  }
  close(): Promise<void> {
    return this.#end.close();
  }
  abort(): void {
    this.#end.reset({ reason: "cancelled" });
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.#end.dispose();
  }
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    for (let message = await this.receive(); message; message = await this.receive()) yield message;
  }

  #onData(chunk: Uint8Array, last: boolean): void {
    if (this.#length + chunk.length > this.#bounds.incomingBytes) {
      this.#end.reset({ reason: "message_too_large" });
      return;
    }
    if (last && this.#length === 0) {
      this.#deliver((chunk.length < copiedBelow ? new Uint8Array(chunk) : chunk) as Uint8Array<ArrayBuffer>);
      return;
    }
    this.#append(chunk);
    if (!last) return;
    const whole = this.#partial.subarray(0, this.#length);
    this.#partial = new Uint8Array(0);
    this.#length = 0;
    this.#deliver(whole);
  }
  /** Into one growing buffer, not a list: a message in a million pieces must not cost more than its bytes. */
  #append(chunk: Uint8Array): void {
    const length = this.#length + chunk.length;
    if (length > this.#partial.length) {
      const grown = new Uint8Array(Math.min(Math.max(length, this.#partial.length * 2, copiedBelow), this.#bounds.incomingBytes));
      grown.set(this.#partial.subarray(0, this.#length));
      this.#partial = grown;
    }
    this.#partial.set(chunk, this.#length);
    this.#length = length;
  }
  #deliver(message: Uint8Array<ArrayBuffer>): void {
    const taker = this.#takers.shift();
    if (taker) {
      taker.resolve(message);
      return;
    }
    this.#queue.push(message);
    this.#queued += message.length + perMessage;
    if (this.#queued >= highWaterMark) this.#end.pause();
  }
  #onEnd(): void {
    this.#ended = true;
    for (const taker of this.#takers.splice(0)) taker.resolve(undefined);
  }
  #onBreak(error: PipegateError): void {
    this.#error = error;
    this.#queue = []; // as with bytes: a break discards, and the program sees it at once
    this.#queued = 0;
    for (const taker of this.#takers.splice(0)) taker.reject(error);
  }
}
