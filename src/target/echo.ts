/** The built-in `echo` target: gives back what it takes, bytes or messages, within the process. Promises: the Channel contract; at most 64 KiB wait. */
import type { Break, Channel, ChannelEvents } from "../base/channel.ts";

const HIGH_WATER = 64 << 10;

class Echo implements Channel {
  readonly messages: boolean;
  #events: ChannelEvents | undefined;
  #paused = false;
  #queue: { readonly chunk: Uint8Array; readonly last: boolean }[] = [];
  #bytes = 0;
  #wantsDrained = false;
  #ending = false;
  #delivering = false;
  #closed = false;

  constructor(messages: boolean) {
    this.messages = messages;
  }
  attach(events: ChannelEvents): void {
    this.#events = events;
  }
  write(chunk: Uint8Array, last: boolean): boolean {
    if (this.#ending || this.#closed) return true;
    if (!this.#paused && !this.#delivering && this.#queue.length === 0) {
      this.#delivering = true;
      this.#events?.data(chunk, last);
      this.#delivering = false;
      if (this.#queue.length > 0) this.#deliver();
      return !this.#full();
    }
    this.#queue.push({ chunk, last });
    this.#bytes += chunk.length + 64;
    return !this.#full();
  }
  closeWrite(): void {
    if (this.#ending || this.#closed) return;
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
    this.#deliver();
  }

  /** Whether the writer is to wait: for the reader, or for what is queued. */
  #full(): boolean {
    this.#wantsDrained = this.#paused || this.#bytes >= HIGH_WATER;
    return this.#wantsDrained;
  }
  #deliver(): void {
    if (this.#delivering) return;
    this.#delivering = true;
    let taken = 0;
    while (!this.#paused && !this.#closed && taken < this.#queue.length) {
      const { chunk, last } = this.#queue[taken++]!;
      this.#bytes -= chunk.length + 64;
      this.#events?.data(chunk, last);
    }
    if (taken > 0) this.#queue = this.#queue.slice(taken);
    this.#delivering = false;
    if (this.#closed || this.#paused || this.#queue.length > 0) return;
    if (this.#wantsDrained) {
      this.#wantsDrained = false;
      this.#events?.drained();
    }
    if (this.#ending && !this.#closed && !this.#paused && this.#queue.length === 0) {
      this.#events?.end();
      this.#close(undefined);
    }
  }
  #close(broken: Break | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    setImmediate(() => this.#events?.closed(broken));
  }
}

export function echoChannel(messages: boolean): Channel {
  return new Echo(messages);
}
