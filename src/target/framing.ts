/**
 * Messages on a byte-stream back end: a Channel of messages over a Channel of bytes, by the target's framing.
 * Promises: boundaries are kept both ways (but for `bytes`, which gives them up); a message cut by the back end's end is a break,
 * never an end; at most `maxMessageBytes` of one outgoing message are gathered, and nothing of an incoming one.
 * Leaves to others: the socket, the client's limits.
 */
import { Buffer } from "node:buffer";
import type { Break, Channel, ChannelEvents } from "../base/channel.ts";
import { Cutter } from "./cutter.ts";
import type { Framing } from "./target.ts";

/** Messages up to this size are copied, prefix and all, into a slab that goes out as one write; larger ones go by reference. */
const COPY_UP_TO = 8 << 10;
const SLAB = 64 << 10;

/** Channels whose slab waits to be written at the end of this turn. */
let dirty: FramedChannel[] = [];
function flushAll(): void {
  const channels = dirty;
  dirty = [];
  for (const channel of channels) channel.flush();
}
const slabs: Buffer[] = [];

class FramedChannel implements Channel {
  readonly messages = true;
  readonly #channel: Channel;
  readonly #framing: Framing;
  readonly #max: number;
  readonly #cutter: Cutter;
  #events: ChannelEvents | undefined;
  #slab: Buffer | undefined;
  #filled = 0;
  #isDirty = false;
  #gathered: Uint8Array[] = [];
  #gatheredBytes = 0;
  #full = false;
  #broken: Break | undefined;
  #closed = false;

  constructor(channel: Channel, { framing, maxMessageBytes }: { readonly framing: Framing; readonly maxMessageBytes: number }) {
    this.#channel = channel;
    this.#framing = framing;
    this.#max = maxMessageBytes;
    this.#cutter = new Cutter(framing, maxMessageBytes);
  }

  attach(events: ChannelEvents): void {
    this.#events = events;
    this.#channel.attach({
      data: (chunk) => this.#onData(chunk),
      end: () => this.#onEnd(),
      drained: () => {
        this.#full = false;
        events.drained();
      },
      closed: (broken) => {
        this.#closed = true;
        events.closed(this.#broken ?? broken);
      },
    });
  }

  write(chunk: Uint8Array, last: boolean): boolean {
    if (this.#broken !== undefined || this.#closed) return true;
    switch (this.#framing) {
      case "bytes":
        this.#put(chunk);
        break;
      case "lines":
        this.#writeLine(chunk, last);
        break;
      default:
        this.#writePrefixed(chunk, last);
    }
    return !this.#full;
  }

  closeWrite(): void {
    this.flush();
    this.#channel.closeWrite();
  }
  reset(broken: Break): void {
    this.#broken ??= broken;
    this.#drop();
    this.#channel.reset(broken);
  }
  pause(): void {
    this.#channel.pause();
  }
  resume(): void {
    this.#channel.resume();
  }

  // ---- to the back end

  #writePrefixed(chunk: Uint8Array, last: boolean): void {
    if (this.#gatheredBytes + chunk.length > this.#max) return this.#break({ reason: "message_too_large", detail: `over ${this.#max} bytes` });
    if (!last) {
      this.#gathered.push(chunk);
      this.#gatheredBytes += chunk.length;
      return;
    }
    const length = this.#gatheredBytes + chunk.length;
    if (this.#framing === "u16" && length > 0xffff) return this.#break({ reason: "message_too_large", detail: "over 65,535 bytes, the most that u16 can say" });
    this.#prefix(length);
    if (this.#gathered.length > 0) {
      for (const part of this.#gathered) this.#put(part);
      this.#gathered = [];
      this.#gatheredBytes = 0;
    }
    this.#put(chunk);
  }

  #prefix(length: number): void {
    const slab = this.#room(5);
    let at = this.#filled;
    if (this.#framing === "u32") {
      slab[at++] = length >>> 24;
      slab[at++] = length >>> 16;
      slab[at++] = length >>> 8;
      slab[at++] = length;
    } else if (this.#framing === "u16") {
      slab[at++] = length >>> 8;
      slab[at++] = length;
    } else {
      for (; length > 0x7f; length >>>= 7) slab[at++] = (length & 0x7f) | 0x80;
      slab[at++] = length;
    }
    this.#filled = at;
    this.#touch();
  }

  #writeLine(chunk: Uint8Array, last: boolean): void {
    if (chunk.includes(0x0a)) return this.#break({ reason: "protocol_error", detail: "a message for this target must not contain a line break" });
    this.#put(chunk);
    if (!last) return;
    this.#room(1)[this.#filled++] = 0x0a;
    this.#touch();
  }

  #put(chunk: Uint8Array): void {
    const size = chunk.length;
    if (size > COPY_UP_TO) {
      this.#write();
      this.#pass(chunk);
    } else if (size > 0) {
      this.#room(size).set(chunk, this.#filled);
      this.#filled += size;
      this.#touch();
    }
  }

  /** The slab, with room for `size` more bytes. */
  #room(size: number): Buffer {
    if (this.#slab !== undefined && this.#filled + size > SLAB) this.#write();
    return (this.#slab ??= slabs.pop() ?? Buffer.allocUnsafeSlow(SLAB));
  }

  #touch(): void {
    if (this.#isDirty) return;
    this.#isDirty = true;
    if (dirty.push(this) === 1) setImmediate(flushAll);
  }

  /** Hands over what is filled: a copy of its size, so that the slab can be lent again at once. */
  #write(): void {
    const slab = this.#slab;
    if (slab === undefined) return;
    this.#slab = undefined;
    const size = this.#filled;
    this.#filled = 0;
    if (size > SLAB / 2) this.#pass(slab.subarray(0, size));
    else {
      if (size > 0) this.#pass(Buffer.from(slab.subarray(0, size)));
      if (slabs.length < 16) slabs.push(slab);
    }
  }

  #pass(chunk: Uint8Array): void {
    if (!this.#channel.write(chunk, false)) this.#full = true;
  }

  flush(): void {
    this.#isDirty = false;
    if (this.#broken === undefined) this.#write();
  }

  // ---- from the back end

  #onData(chunk: Uint8Array): void {
    if (this.#broken !== undefined) return;
    const fault = this.#cutter.cut(chunk, (part, last) => {
      this.#events?.data(part, last);
      return this.#broken === undefined;
    });
    if (fault !== undefined) this.#break(fault);
  }

  #onEnd(): void {
    if (this.#broken !== undefined) return;
    if (this.#cutter.inside) this.#break({ reason: "target_reset", detail: "the back end ended inside a message" });
    else this.#events?.end();
  }

  #break(broken: Break): void {
    this.reset(broken);
  }

  #drop(): void {
    this.#gathered = [];
    this.#gatheredBytes = this.#filled = 0;
    this.#slab = undefined;
  }
}

/** `channel` (bytes) as a channel of messages. */
export function frameChannel(channel: Channel, options: { readonly framing: Framing; readonly maxMessageBytes: number }): Channel {
  return new FramedChannel(channel, options);
}
