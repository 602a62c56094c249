/** A pipe of bytes as a Node stream. Half-open: `end()` ends our direction only; `destroy()` breaks both off. */
import { Duplex } from "node:stream";
import type { HeldEnd } from "./held-end.ts";

const highWaterMark = 64 << 10;

export class ChannelDuplex extends Duplex {
  readonly #end: HeldEnd;

  constructor(end: HeldEnd) {
    super({ allowHalfOpen: true, readableHighWaterMark: highWaterMark, writableHighWaterMark: highWaterMark });
    this.#end = end;
    end.take("duplex()", {
      data: (chunk) => {
        if (chunk.length > 0 && !this.push(chunk)) end.pause();
      },
      end: () => void this.push(null),
      broke: (error) => void this.destroy(error),
    });
  }

  override _read(): void {
    this.#end.resume();
  }
  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const wait = chunk.length === 0 ? undefined : this.#end.write(chunk, false);
    if (wait) wait.then(() => done(), done);
    else done();
  }
  override _final(done: (error?: Error | null) => void): void {
    this.#end.closeWrite();
    done();
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (!this.#end.finished || !this.#end.ended) this.#end.reset({ reason: "cancelled" });
    done(error);
  }
}
