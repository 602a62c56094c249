/**
 * A Duplex over a TCP or unix socket that can be held: TLS runs on top of it where the runtime's TLS sockets cannot stop reading (Deno).
 * Promises: while held at most one read of the socket and 64 KiB wait here; the end is never lost; who destroys one destroys both.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

const HIGH_WATER = 64 << 10;

export class Gate extends Duplex {
  readonly socket: Socket;
  #held = false;

  constructor(socket: Socket) {
    super({ allowHalfOpen: true, readableHighWaterMark: HIGH_WATER, writableHighWaterMark: HIGH_WATER });
    this.socket = socket;
    socket.on("data", (chunk: Uint8Array) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.on("end", () => void this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
    socket.pause();
  }

  /** Stops reading from the socket until `release`. */
  hold(): void {
    this.#held = true;
    this.socket.pause();
  }

  release(): void {
    this.#held = false;
    this.socket.resume();
  }

  override _read(): void {
    if (!this.#held) this.socket.resume();
  }
  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.socket.write(chunk, done);
  }
  override _final(done: () => void): void {
    this.socket.end(done);
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.socket.destroy();
    done(error);
  }
}
