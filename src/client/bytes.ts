/**
 * A pipe of bytes as web streams, bridged by hand: `Duplex.toWeb` throws where nobody can catch it (Deno). Backpressure goes both ways: the channel is paused while the stream's queue is full, and a write settles when
 * the channel takes more. Not a `type: "bytes"` stream: those detach the whole ArrayBuffer of a chunk, and chunks of several pipes
 * share one.
 */
import type { Duplex } from "node:stream";
import type { PipegateError } from "../base/error.ts";
import { ChannelDuplex } from "./duplex.ts";
import type { HeldEnd } from "./held-end.ts";
import type { Pipe } from "./types.ts";

const highWaterMark = 64 << 10;

interface Streams {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly writable: WritableStream<Uint8Array>;
}

export class BytePipe implements Pipe {
  readonly target: string;
  readonly #end: HeldEnd;
  #streams: Streams | undefined;
  #duplex: ChannelDuplex | undefined;

  constructor(target: string, end: HeldEnd) {
    this.target = target;
    this.#end = end;
  }
  get closed(): Promise<void> {
    return this.#end.closed;
  }
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return (this.#streams ??= webStreams(this.#end)).readable;
  }
  get writable(): WritableStream<Uint8Array> {
    return (this.#streams ??= webStreams(this.#end)).writable;
  }
  duplex(): Duplex {
    return (this.#duplex ??= new ChannelDuplex(this.#end));
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
}

function webStreams(end: HeldEnd): Streams {
  let reading: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> | undefined;
  let writing: WritableStreamDefaultController | undefined;
  const readable = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      start: (controller) => void (reading = controller),
      pull: () => end.resume(),
      cancel: () => end.reset({ reason: "cancelled" }),
    },
    new ByteLengthQueuingStrategy({ highWaterMark }),
  );
  const writable = new WritableStream<Uint8Array>({
    start: (controller) => void (writing = controller),
    write(chunk) {
      if (!(chunk instanceof Uint8Array)) throw new TypeError("a pipe takes Uint8Array chunks");
      return chunk.length === 0 ? undefined : end.write(chunk, false);
    },
    close: () => end.closeWrite(),
    abort: () => end.reset({ reason: "cancelled" }),
  });
  end.take("its web streams", {
    data(chunk) {
      if (chunk.length === 0 || !reading) return;
      reading.enqueue(chunk as Uint8Array<ArrayBuffer>);
      if ((reading.desiredSize ?? 0) <= 0) end.pause();
    },
    end() {
      reading?.close();
      reading = undefined;
    },
    broke(error: PipegateError) {
      reading?.error(error);
      writing?.error(error);
      reading = undefined;
      writing = undefined;
    },
  });
  return { readable, writable };
}
