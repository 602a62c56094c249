/**
 * What leaves a session: control frames first, then the streams that have something to send in turn, those with little before those
 * with much, by weight, within the credit that the peer gave. What one turn of the event loop brings leaves in one write.
 * Promises: no stream starves another; payload never passes the session's credit. Leaves to others: frames' meaning, streams' own credit.
 */
import type { Buffer } from "node:buffer";
import type { Clock } from "../base/clock.ts";
import { FRAME_COST } from "./frame.ts";
import type { Stream } from "./stream.ts";
import { Writer, type Transport } from "./writer.ts";

/** Cost that a stream may put on the wire in one turn, at weight 16. */
const QUANTUM = 16 << 10;
/** Filled or queued bytes that are flushed at once. */
const FLUSH_AT = 16 << 10;
/** What several streams have filled is flushed from here on: more, and each could send all that it holds, whatever its weight. */
const SHARED_FLUSH_AT = 64 << 10;
/** Who has less than this to send is let pass those who have more. */
const LITTLE = 16 << 10;

export interface SenderOptions {
  readonly transport: Transport;
  readonly clock: Clock;
  /** The peer does not read its control frames. */
  overflowed(): void;
}

/** Streams one behind the other, by their own `next`. */
class Line {
  head: Stream | undefined;
  #tail: Stream | undefined;

  push(stream: Stream): void {
    stream.next = undefined;
    if (this.#tail === undefined) this.head = stream;
    else this.#tail.next = stream;
    this.#tail = stream;
  }

  /** Without its first. */
  take(): void {
    const stream = this.head;
    this.head = stream?.next;
    if (this.head === undefined) this.#tail = undefined;
    if (stream !== undefined) stream.next = undefined;
  }

  /** Without `stream`, wherever it stands. */
  remove(stream: Stream): void {
    if (this.head === stream) return this.take();
    let before = this.head;
    while (before !== undefined && before.next !== stream) before = before.next;
    if (before === undefined) return;
    before.next = stream.next;
    if (this.#tail === stream) this.#tail = before;
    stream.next = undefined;
  }
}

export class Sender {
  readonly #writer: Writer;
  readonly #clock: Clock;
  readonly #overflowed: () => void;
  #limit = 0;
  #used = 0;
  /** Streams with little to send, each for one turn; all others. */
  readonly #little = new Line();
  readonly #much = new Line();
  #stopped = false;
  #holding = false;
  #pumping = false;
  #scheduled = false;
  readonly #soonPump = (): void => {
    this.#scheduled = false;
    this.pump();
  };

  constructor({ transport, clock, overflowed }: SenderOptions) {
    this.#writer = new Writer(transport, () => this.pump());
    this.#clock = clock;
    this.#overflowed = overflowed;
  }

  /** Bytes that the transport has not taken yet. */
  get waiting(): number {
    return this.#writer.waiting;
  }
  /** Bytes that it has taken so far. */
  get written(): number {
    return this.#writer.written;
  }
  /** Cost that the session may still send. */
  get left(): number {
    return this.#limit - this.#used;
  }
  /** Where a frame may go straight into the slab: nothing else waits. */
  get direct(): Writer | undefined {
    return this.#little.head === undefined && this.#much.head === undefined && !this.#writer.blocked ? this.#writer : undefined;
  }

  /** Raises what the peer lets the session send. */
  credit(limit: number): void {
    this.#limit = Math.max(this.#limit, limit);
  }

  sent(cost: number): void {
    this.#used += cost;
  }

  /** Sends a control frame with this turn's other frames. */
  control(frame: Buffer): void {
    this.#writer.control(frame);
    this.touched();
  }

  /** Until `pump` nothing is flushed: the answers to a chunk leave together. */
  hold(): void {
    this.#holding = true;
  }

  /** Puts a stream in line: one that has little to say before those that have much. */
  enqueue(stream: Stream): void {
    if (!stream.queued) {
      stream.queued = true;
      (stream.waiting < LITTLE ? this.#little : this.#much).push(stream);
    }
    this.touched();
    if (stream.waiting >= FLUSH_AT && !this.#holding) this.pump();
  }

  /** The stream is closed: it leaves the line now, for its turn may never come (a peer that gives the session no credit). */
  forget(stream: Stream): void {
    if (!stream.queued) return;
    stream.queued = false;
    this.#little.remove(stream);
    this.#much.remove(stream);
  }

  /** Something was filled or queued: it leaves at the end of this turn, or at once when it is much. */
  touched(): void {
    if (this.#holding || this.#pumping) return;
    if (this.#writer.filled >= FLUSH_AT) return this.#writer.flush();
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.soon(this.#soonPump);
  }

  /** Sends what may go: each stream in line in turn, as much as its weight gives it. */
  pump(): void {
    this.#holding = false;
    if (this.#pumping || this.#stopped) return;
    this.#pumping = true;
    const writer = this.#writer;
    let first: Stream | undefined;
    while (this.left >= FRAME_COST && !writer.blocked) {
      const line = this.#little.head === undefined ? this.#much : this.#little;
      const stream = line.head;
      if (stream === undefined || !this.#turn(stream, line)) break;
      first ??= stream;
      if (stream !== first && writer.filled >= SHARED_FLUSH_AT) writer.flush();
    }
    this.#pumping = false;
    writer.flush();
    if (writer.overflow) this.#overflowed();
  }

  /** The turn of `stream`, the first in `line`; false when it was cut off and nobody else can go on. */
  #turn(stream: Stream, line: Line): boolean {
    const writer = this.#writer;
    if (stream.deficit <= 0) stream.deficit += (QUANTUM * stream.weight) >>> 4; // else its turn was cut off by a full socket
    let cost = 1;
    while (stream.deficit > 0 && !writer.blocked && (cost = stream.sendSome(writer)) > 0) stream.deficit -= cost;
    if (stream.deficit > 0 && writer.blocked && stream.sendable) {
      stream.afterSend();
      return false;
    }
    if (cost === 0 || !stream.sendable) stream.deficit = 0;
    if (line.head === stream) line.take(); // else it closed while it was sent
    stream.afterSend();
    // Who was let pass stays in line, though nothing may be left: else who writes little again and again would always be first.
    if (!stream.closed && (line === this.#little || stream.sendable)) this.#much.push(stream);
    else stream.queued = false;
    return cost > 0 || this.left > FRAME_COST; // else the session's credit is used up
  }

  /** Hands over what is filled and this last frame, whatever waits, so that the reason is not lost to a full socket. */
  farewell(frame: Buffer): void {
    this.#writer.farewell(frame);
  }

  /** Nothing more is sent; what waits is dropped. */
  stop(): void {
    this.#stopped = true;
    this.#writer.stop();
  }
}
