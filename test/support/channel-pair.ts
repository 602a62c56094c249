/** Two channels joined in memory, by the rules of base/channel.ts: what is written to one arrives at the other, in order, a microtask later. */
import type { Break, Channel, ChannelEvents } from "../../src/base/channel.ts";

const highWater = 64 << 10;

type Item = { readonly chunk: Uint8Array; readonly last: boolean } | "end";

export class MemoryChannel implements Channel {
  readonly messages: boolean;
  peer!: MemoryChannel;
  /** Chunks that wait to be delivered here. */
  readonly inbox: Item[] = [];
  bytes = 0;
  paused = false;
  #events: ChannelEvents | undefined;
  #endGiven = false;
  #finished = false;
  #isClosed = false;
  #scheduled = false;
  #peerWaits = false;

  constructor(messages: boolean) {
    this.messages = messages;
  }
  get closed(): boolean {
    return this.#isClosed;
  }
  attach(events: ChannelEvents): void {
    this.#events = events;
    this.#schedule();
  }
  write(chunk: Uint8Array, last: boolean): boolean {
    if (this.#finished || this.#isClosed) return true;
    this.peer.#take({ chunk, last: this.messages && last });
    if (this.peer.bytes < highWater) return true;
    this.peer.#peerWaits = true;
    return false;
  }
  closeWrite(): void {
    if (this.#finished || this.#isClosed) return;
    this.#finished = true;
    this.peer.#take("end");
  }
  reset(broken: Break): void {
    this.#break(broken);
    this.peer.#break(broken);
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
    this.#schedule();
  }

  #take(item: Item): void {
    if (this.#isClosed) return;
    this.inbox.push(item);
    if (item !== "end") this.bytes += item.chunk.length;
    this.#schedule();
  }
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }
  #deliver(): void {
    while (this.#events && !this.paused && !this.#isClosed && this.inbox.length > 0) {
      const item = this.inbox.shift()!;
      if (item === "end") {
        this.#endGiven = true;
        this.#events.end();
        this.#settle();
        this.peer.#settle();
        continue;
      }
      this.bytes -= item.chunk.length;
      this.#events.data(item.chunk, item.last);
    }
    if (this.#peerWaits && this.bytes < highWater / 2) {
      this.#peerWaits = false;
      this.peer.#events?.drained();
    }
  }
  #settle(): void {
    if (this.#isClosed || !this.#endGiven || !this.peer.#endGiven) return;
    this.#isClosed = true;
    queueMicrotask(() => this.#events?.closed(undefined));
  }
  #break(broken: Break): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.inbox.length = 0;
    queueMicrotask(() => this.#events?.closed(broken));
  }
}

/** Both ends of one duplex channel. */
export function channelPair({ messages = false }: { readonly messages?: boolean } = {}): [MemoryChannel, MemoryChannel] {
  const pair: [MemoryChannel, MemoryChannel] = [new MemoryChannel(messages), new MemoryChannel(messages)];
  pair[0].peer = pair[1];
  pair[1].peer = pair[0];
  return pair;
}
