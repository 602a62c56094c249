/**
 * A Duplex over a TCP or unix socket that can be held: TLS runs on top of it where the runtime's TLS sockets cannot stop reading (Deno).
 * Promises: while held, or while nobody takes what is here, the socket is not read: at most one read of it and 64 KiB wait; the end comes
 * after the bytes before it, also when it arrived while held; who destroys one destroys both. Leaves to others: when to hold.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

const HIGH_WATER = 64 << 10;

export class Gate extends Duplex {
  readonly #socket: Socket;
  #held = false;
  #full = false;

  /** `socket` must be connected, with `allowHalfOpen`, and read by nobody else. */
  constructor(socket: Socket) {
    super({ allowHalfOpen: true, readableHighWaterMark: HIGH_WATER, writableHighWaterMark: HIGH_WATER });
    this.#socket = socket;
    socket.on("data", (chunk: Uint8Array) => {
      this.#full = !this.push(chunk);
      this.#flow();
    });
    socket.on("end", () => void this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
    socket.pause(); // until TLS asks for the first bytes
  }

  /** Stops reading from the socket until `release`. */
  hold(): void {
    this.#held = true;
    this.#flow();
  }

  release(): void {
    this.#held = false;
    this.#flow();
  }

  #flow(): void {
    if (this.#held || this.#full) this.#socket.pause();
    else this.#socket.resume();
  }

  override _read(): void {
    this.#full = false;
    this.#flow();
  }
  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done);
  }
  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(done);
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
