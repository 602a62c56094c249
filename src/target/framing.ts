/**
 * Messages on a byte-stream back end: a channel of messages over a channel of bytes, by the target's framing.
 * Promises: boundaries are kept both ways (but for `bytes`, which gives them up); a message that the back end cuts off is a break, never
 * an end; at most `maxMessageBytes` of an outgoing message are gathered, and nothing of an incoming one but the chunk that it lies in.
 * Leaves to others: the socket, the client's limits, joining what one turn brings into one write (runtime/socket-channel.ts).
 */
import type { Batch, Break, Channel, ChannelEvents } from "../base/channel.ts";
import { createCutter, type Cutter } from "./cutter.ts";
import { Gathering, type GatheringAccount } from "./gathering.ts";
import { Outgoing } from "./outgoing.ts";
import type { Framing, PrefixFraming } from "./target.ts";

export interface FrameOptions {
  readonly maxMessageBytes: number;
  /** Bounds what the messages of all channels that share it have gathered, by their owners (the clients' principals). */
  readonly gathering?: Omit<GatheringAccount, "evict">;
}

export interface FramedChannel extends Channel {
  /** Bytes of an outgoing message that are held until it is whole. */
  readonly pending: number;
}

/** `channel` (bytes, not attached) as a channel of messages. */
export function frameChannel(channel: Channel, framing: Framing, options: FrameOptions): FramedChannel {
  return new Framed(channel, framing, options);
}

const NEWLINE = 0x0a;
const tooMuchGathered: Break = { reason: "excessive_load", detail: "too much of unfinished messages was held for this client" };
const MAX_U16 = 0xffff;

class Framed implements FramedChannel {
  readonly messages = true;
  readonly #channel: Channel;
  readonly #framing: Framing;
  readonly #max: number;
  #events: ChannelEvents | undefined;

  // To the back end.
  readonly #out: Outgoing;
  readonly #gathering: Gathering;
  /** Bytes of the message under way. */
  #length = 0;
  #inside = false;
  #finished = false;
  /** `write` returned false and `drained` is owed. */
  #owesDrained = false;

  // From the back end.
  readonly #cutter: Cutter;
  #paused = false;
  /** What of a chunk was not delivered before a pause. */
  #rest: Uint8Array | undefined;
  #cutting = false;

  #broken: Break | undefined;
  #closed = false;

  constructor(channel: Channel, framing: Framing, { maxMessageBytes: max, gathering }: FrameOptions) {
    this.#channel = channel;
    this.#framing = framing;
    this.#max = framing === "u16" ? Math.min(max, MAX_U16) : max;
    this.#cutter = createCutter(framing, max);
    this.#gathering = new Gathering(gathering && { ...gathering, evict: () => this.#break(tooMuchGathered) });
    this.#out = new Outgoing(channel);
  }

  get pending(): number {
    return this.#gathering.bytes;
  }

  attach(events: ChannelEvents): void {
    this.#events = events;
    this.#channel.attach({
      data: (chunk) => this.#onData(chunk),
      end: () => this.#onEnd(),
      drained: () => this.#onDrained(),
      closed: (broken) => this.#onClosed(broken),
    });
  }

  // ---- to the back end

  write(chunk: Uint8Array, last: boolean): boolean {
    if (this.#broken !== undefined || this.#closed || this.#finished) return true;
    if (chunk.length > this.#max - this.#length) {
      this.#break({ reason: "message_too_large", detail: `a message of more than ${this.#max} bytes` });
      return true;
    }
    this.#length += chunk.length;
    this.#inside = !last;
    switch (this.#framing) {
      case "bytes":
        this.#out.put(chunk);
        break;
      case "lines":
        if (!this.#putLine(chunk, last)) return true;
        break;
      default:
        this.#putPrefixed(chunk, last);
        if (this.#broken !== undefined) return true;
    }
    if (last) this.#length = 0;
    if (this.#out.full) this.#owesDrained = true;
    return !this.#owesDrained;
  }

  /** Whole messages: nothing is gathered. */
  writeBatch(batch: Batch): boolean {
    const { chunk, places } = batch;
    for (let at = 0; at < places.length; at += 2) {
      const [start, end] = [places[at]!, places[at + 1]!];
      if (this.#framing === "lines" || this.#framing === "bytes" || end - start > this.#max) this.write(chunk.subarray(start, end), true);
      else this.#putWhole(chunk, start, end);
    }
    if (this.#out.full) this.#owesDrained = true;
    return !this.#owesDrained;
  }

  #putWhole(chunk: Uint8Array, start: number, end: number): void {
    if (this.#broken !== undefined || this.#closed || this.#finished) return;
    this.#out.putLength(end - start, this.#framing as "u32" | "u16" | "varint");
    this.#out.put(chunk, start, end);
  }

  #putPrefixed(chunk: Uint8Array, last: boolean): void {
    if (!last) {
      this.#gathering.add(chunk);
      return;
    }
    this.#out.putLength(this.#length, this.#framing as PrefixFraming);
    if (this.#gathering.bytes > 0) for (const part of this.#gathering.take()) this.#out.put(part);
    this.#out.put(chunk);
  }

  /** Lines need no gathering: their end is not known before it comes. */
  #putLine(chunk: Uint8Array, last: boolean): boolean {
    if (chunk.length > 0 && chunk.includes(NEWLINE)) {
      this.#break({ reason: "protocol_error", detail: "a message for a target of lines holds a line break" });
      return false;
    }
    this.#out.put(chunk);
    if (last) this.#out.putByte(NEWLINE);
    return true;
  }

  closeWrite(): void {
    if (this.#finished || this.#broken !== undefined || this.#closed) return;
    if (this.#inside) return this.#break({ reason: "protocol_error", detail: "ended inside a message" });
    this.#finished = true;
    this.#out.flush();
    this.#channel.closeWrite();
  }

  #onDrained(): void {
    this.#out.full = false;
    if (!this.#owesDrained || this.#broken !== undefined) return;
    this.#owesDrained = false;
    this.#events?.drained();
  }

  // ---- from the back end

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#channel.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#rest === undefined) this.#channel.resume();
    else queueMicrotask(() => this.#goOn());
  }

  #onData(chunk: Uint8Array): void {
    if (this.#broken === undefined) this.#cut(chunk);
  }

  #cut(chunk: Uint8Array): void {
    this.#cutting = true;
    const at = this.#events?.takesBatches === true ? this.#cutBatches(chunk, this.#events) : this.#cutter.cut(chunk, 0, this.#take);
    this.#cutting = false;
    const { fault } = this.#cutter;
    if (this.#broken !== undefined) return;
    if (fault !== undefined) this.#break({ reason: "message_too_large", detail: `the back end sent ${fault}` });
    else if (at < chunk.length) this.#rest = chunk.subarray(at);
  }

  readonly #takeOne = (part: Uint8Array, last: boolean): boolean => this.#take(part, last) && !last;

  readonly #take = (part: Uint8Array, last: boolean): boolean => {
    this.#events?.data(part, last);
    return !this.#paused && this.#broken === undefined;
  };

  /** Whole messages together; the end of one that has begun before, and the beginning of one that goes on, by themselves. */
  #cutBatches(chunk: Uint8Array, events: ChannelEvents): number {
    const cutter = this.#cutter;
    let at = cutter.inside ? cutter.cut(chunk, 0, this.#takeOne) : 0;
    while (at < chunk.length && !this.#paused && this.#broken === undefined) {
      const places: number[] = [];
      at = cutter.whole(chunk, at, places);
      if (places.length === 0) return cutter.cut(chunk, at, this.#take);
      events.batch!({ chunk, places });
    }
    return at;
  }

  /** The rest of a chunk; more comes, or the end, once the channel goes on. */
  #goOn(): void {
    const rest = this.#rest;
    if (rest === undefined || this.#paused || this.#cutting || this.#broken !== undefined) return;
    this.#rest = undefined;
    this.#cut(rest);
    if (this.#rest === undefined && this.#broken === undefined && !this.#paused) this.#channel.resume();
  }

  #onEnd(): void {
    if (this.#broken !== undefined) return;
    if (this.#cutter.inside) this.#break({ reason: "target_reset", detail: "the back end ended inside a message" });
    else this.#events?.end();
  }

  // ---- the end of both

  reset(broken: Break): void {
    if (this.#broken === undefined && !this.#closed) this.#break(broken);
  }

  #break(broken: Break): void {
    this.#broken = broken;
    this.#drop();
    this.#channel.reset(broken);
  }

  #onClosed(broken: Break | undefined): void {
    this.#closed = true;
    this.#broken ??= broken;
    this.#drop();
    queueMicrotask(() => this.#events?.closed(this.#broken));
  }

  #drop(): void {
    this.#rest = undefined;
    this.#out.drop();
    this.#gathering.drop();
  }
}
