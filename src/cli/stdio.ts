/**
 * stdin and stdout as one channel, bytes as they are or a message a line. Promises: binary-safe; stdin is held back while the other
 * side cannot take more; `closed` without a break comes only after all output was handed to the system; a reader of stdout that
 * went away (EPIPE) breaks the channel and is told from other breaks by `readerGone`; another failure of ours (a full disk) by `fault`.
 */
import type { Break, Channel, ChannelEvents } from "../base/channel.ts";
import { isReaderGone, outputBroke } from "./terminal.ts";

export interface StdioOptions {
  readonly input: NodeJS.ReadStream;
  readonly output: NodeJS.WriteStream;
  /** Each line of input is one message, and each message becomes a line of output. */
  readonly lines: boolean;
}

const newline = 0x0a;

export class StdioChannel implements Channel {
  readonly messages: boolean;
  /** Whoever read our output does so no more. */
  readerGone = false;
  /** What failed on our own side, for people; undefined: nothing. */
  fault: string | undefined;
  readonly #input: NodeJS.ReadStream;
  readonly #output: NodeJS.WriteStream;
  #events: ChannelEvents | undefined;
  #inLine = false;
  /** Input that is not cut yet, as it came: what still arrives while the other side has stopped us. Never joined, which would cost its square. */
  readonly #rest: Buffer[] = [];
  #paused = false;
  #inputOver = false;
  #ended = false;
  #finished = false;
  #flushed = false;
  #closed = false;
  #waits = false;

  constructor(options: StdioOptions) {
    this.messages = options.lines;
    this.#input = options.input;
    this.#output = options.output;
  }

  attach(events: ChannelEvents): void {
    this.#events = events;
    this.#output.on("error", (error: Error) => this.#onOutputError(error));
    this.#output.on("drain", () => {
      if (!this.#waits) return;
      this.#waits = false;
      this.#events?.drained();
    });
    this.#input.on("error", (error: Error) => {
      this.fault = `stdin cannot be read (${error.message})`;
      this.#close({ reason: "cancelled" });
    });
    this.#input.on("end", () => this.#onEnd());
    this.#input.on("data", (chunk: Buffer) => {
      if (this.#closed || this.#ended) return;
      if (!this.messages) return events.data(chunk, false);
      this.#rest.push(chunk);
      this.#cut();
    });
  }

  write(chunk: Uint8Array, last: boolean): boolean {
    if (this.#closed || this.#finished) return true;
    let room = chunk.length === 0 || this.#put(chunk);
    if (this.messages && last) room = this.#put("\n");
    this.#waits = !room;
    return room;
  }
  closeWrite(): void {
    if (this.#closed || this.#finished) return;
    this.#finished = true;
    this.#output.write("", () => {
      this.#flushed = true;
      this.#settle();
    });
    // A person at a terminal is not asked to end a conversation that the other side has left.
    if (this.#input.isTTY === true) this.#onEnd();
  }
  reset(broken: Break): void {
    this.#close(broken);
  }
  pause(): void {
    this.#paused = true;
    this.#input.pause();
  }
  resume(): void {
    this.#paused = false;
    if (this.#closed || this.#ended) return;
    this.#cut();
    if (!this.#paused) this.#input.resume();
  }

  /** Deno throws where Node emits an error. */
  #put(chunk: Uint8Array | string): boolean {
    if (this.#closed) return true;
    try {
      return this.#output.write(chunk);
    } catch (error) {
      this.#onOutputError(error as Error);
      return true;
    }
  }
  #onOutputError(error: Error): void {
    if (this.#closed) return;
    outputBroke(this.#output, error);
    this.readerGone = isReaderGone(error);
    if (!this.readerGone) this.fault = `stdout cannot be written (${error.message})`;
    this.#close({ reason: "cancelled" });
  }
  /** Cuts at newlines until told to pause; the pieces of a long line go on as they come. */
  #cut(): void {
    while (this.#rest.length > 0 && !this.#paused && !this.#closed) {
      const chunk = this.#rest[0] as Buffer;
      const at = chunk.indexOf(newline);
      if (at >= 0 && at + 1 < chunk.length) this.#rest[0] = chunk.subarray(at + 1);
      else this.#rest.shift();
      this.#inLine = at < 0;
      this.#events?.data(at < 0 ? chunk : chunk.subarray(0, at), at >= 0);
    }
    if (this.#inputOver) this.#onEnd();
  }
  #onEnd(): void {
    this.#inputOver = true;
    if (this.#rest.length > 0 || this.#paused || this.#ended || this.#closed) return;
    if (this.#inLine) {
      this.#inLine = false;
      this.#events?.data(new Uint8Array(0), true); // a last line without its newline is a line
      return this.#onEnd(); // unless that stopped us
    }
    this.#ended = true;
    this.#events?.end();
    this.#settle();
  }
  #settle(): void {
    if (this.#ended && this.#flushed) this.#close(undefined);
  }
  #close(broken: Break | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#input.pause();
    queueMicrotask(() => this.#events?.closed(broken));
  }
}
