/**
 * Attaches to a channel and keeps what it says, for tests. Promises: whatever breaks the rules of base/channel.ts (an event within
 * `attach`, after `closed`, `data` after `end`, anything but `closed` while paused, a second `end`) is kept in `faults`.
 */
import { Buffer } from "node:buffer";
import type { Batch, Break, Channel } from "../../src/base/channel.ts";

export class ChannelWatch {
  readonly channel: Channel;
  readonly faults: string[] = [];
  readonly chunks: Uint8Array[] = [];
  /** Messages that are whole; bytes channels have none. */
  readonly messages: Buffer[] = [];
  bytes = 0;
  drains = 0;
  batches = 0;
  ended = false;
  /** What `closed` brought, once it came. */
  broken: Break | undefined;
  isClosed = false;
  paused = false;
  /** Called after each chunk. */
  onData: (chunk: Uint8Array, last: boolean) => void = () => {};
  #open: Uint8Array[] = [];
  #waiting: { readonly when: () => boolean; readonly act: () => void }[] = [];

  constructor(channel: Channel, { paused = false, batches = false }: { readonly paused?: boolean; readonly batches?: boolean } = {}) {
    this.channel = channel;
    if (paused) this.pause();
    let attaching = true;
    const event = (name: string, act: () => void): void => {
      if (attaching) this.faults.push(`${name} within attach`);
      if (this.isClosed) this.faults.push(`${name} after closed`);
      act();
      for (const each of [...this.#waiting]) {
        if (!each.when()) continue;
        this.#waiting.splice(this.#waiting.indexOf(each), 1);
        each.act();
      }
    };
    channel.attach({
      takesBatches: batches,
      batch: (batch) => event("batch", () => this.#takeBatch(batch)),
      data: (chunk, last) =>
        event("data", () => {
          if (this.paused) this.faults.push("data while paused");
          this.#take(chunk, last);
        }),
      end: () =>
        event("end", () => {
          if (this.ended) this.faults.push("a second end");
          if (this.paused) this.faults.push("end while paused");
          this.ended = true;
        }),
      drained: () => event("drained", () => void this.drains++),
      closed: (broken) =>
        event("closed", () => {
          this.isClosed = true;
          this.broken = broken;
        }),
    });
    attaching = false;
  }

  pause(): void {
    this.paused = true;
    this.channel.pause();
  }
  resume(): void {
    this.paused = false;
    this.channel.resume();
  }

  /** All bytes so far. */
  get content(): Buffer {
    return Buffer.concat(this.chunks);
  }

  /** Resolves after the event that makes `when` true; the test's own time limit bounds it. */
  until(when: () => boolean): Promise<void> {
    if (when()) return Promise.resolve();
    return new Promise((act) => void this.#waiting.push({ when, act }));
  }
  closed(): Promise<void> {
    return this.until(() => this.isClosed);
  }

  /** Writes all, waiting for `drained` as asked. */
  async send(chunks: Iterable<Uint8Array>, { last = false }: { readonly last?: boolean } = {}): Promise<void> {
    for (const chunk of chunks) {
      const { drains } = this;
      if (!this.channel.write(chunk, last)) await this.until(() => this.drains > drains || this.isClosed);
    }
  }

  #takeBatch({ chunk, places }: Batch): void {
    this.batches++;
    if (this.paused) this.faults.push("a batch while paused");
    if (this.#open.length > 0) this.faults.push("a batch inside a message");
    if (places.length < 2 || places.length % 2 > 0) this.faults.push(`a batch of ${places.length} places`);
    for (let at = 0; at < places.length; at += 2) this.#take(chunk.subarray(places[at], places[at + 1]), true);
  }

  #take(chunk: Uint8Array, last: boolean): void {
    if (this.ended) this.faults.push("data after end");
    if (last && !this.channel.messages) this.faults.push("last on a byte channel");
    this.chunks.push(chunk);
    this.bytes += chunk.length;
    if (this.channel.messages) {
      this.#open.push(chunk);
      if (last) this.messages.push(Buffer.concat(this.#open.splice(0)));
    }
    this.onData(chunk, last);
  }
}
