/**
 * One duplex channel in a session: what waits to be sent, what arrived and waits to be taken, and the credit of both.
 * Promises: the Channel contract (base/channel.ts); memory bounded by the receive window and by what `write` was told to stop at.
 * Leaves to others: ids and when credit is granted (roster.ts), whose turn it is (sender.ts), frames on the wire.
 */
import { Buffer } from "node:buffer";
import { toKeep } from "../base/bytes.ts";
import type { Batch, Break, Channel, ChannelEvents } from "../base/channel.ts";
import { Queue } from "../base/queue.ts";
import { Flag, FRAME_COST } from "./frame.ts";
import { Outbox } from "./outbox.ts";
import type { StreamInit, StreamOwner } from "./stream-owner.ts";
import type { Tlv } from "./tlv.ts";
import type { ReceiveWindow } from "./window.ts";
import type { Writer } from "./writer.ts";

/** `write` returns false from here on. */
const HIGH_WATER = 64 << 10;

interface Arrived {
  readonly chunk: Uint8Array;
  readonly last: boolean;
  readonly cost: number;
}

const nothing = Buffer.alloc(0);
/** Of all streams that never had to wait. */
const none = new Outbox();

export class Stream implements Channel {
  readonly target: string;
  readonly messages: boolean;
  readonly weight: number;
  /** Of the OPEN; of the ACCEPT once it came. */
  metadata: readonly Tlv[];
  /** 0 until the OPEN is sent. */
  id = 0;
  /** Called once when the peer accepted. */
  onAccepted: (() => void) | undefined;
  /** Called once when the stream broke, before `closed`: for whoever still prepares its other end. */
  onBroken: ((broken: Break) => void) | undefined;
  readonly opener: boolean;
  readonly window: ReceiveWindow;
  accepted = false;

  // For the session's round robin.
  next: Stream | undefined;
  queued = false;
  deficit = 0;
  /** When something of it was last consumed, for the starvation guard. */
  consumedAt = 0;
  released = false;

  readonly #owner: StreamOwner<Stream>;
  #events: ChannelEvents | undefined;
  #closed = false;

  #sendLimit: number;
  #sendUsed = 0;
  #outbox = none;
  #wantsDrained = false;
  #ending = false;
  #finSent = false;

  readonly #inbox = new Queue<Arrived>();
  #paused = false;
  #finReceived = false;
  #endGiven = false;
  #delivering = false;
  #messageBytes = 0;

  constructor(owner: StreamOwner<Stream>, init: StreamInit) {
    this.#owner = owner;
    this.target = init.target;
    this.messages = init.messages;
    this.weight = init.weight;
    this.metadata = init.metadata;
    this.window = init.window;
    this.opener = init.opener;
    this.#sendLimit = init.sendLimit;
  }

  get closed(): boolean {
    return this.#closed;
  }
  /** Everything has come and gone on the wire: what is left is for our reader to take. */
  get whole(): boolean {
    return this.#finReceived && this.#finSent;
  }
  /** Cost of what waits to be sent. */
  get waiting(): number {
    return this.#outbox.bytes;
  }

  // ---- Channel: what the holder calls

  attach(events: ChannelEvents): void {
    this.#events = events;
    if (this.#inbox.length > 0 || this.#finReceived) this.#owner.later(() => this.#deliver());
  }

  write(chunk: Uint8Array, last: boolean): boolean {
    if (this.#closed || this.#ending) return true;
    const end = this.messages && last;
    if (chunk.length === 0 && !end) return true;
    const cost = FRAME_COST + chunk.length;
    const writer = this.#outbox.empty && this.id !== 0 ? this.#owner.direct : undefined;
    if (
      writer !== undefined &&
      chunk.length <= this.#owner.maxPayload &&
      cost <= this.#sendLimit - this.#sendUsed &&
      cost <= this.#owner.sendLeft
    ) {
      writer.data(this.id, end ? Flag.END_MESSAGE : 0, chunk, 0, chunk.length);
      this.#sendUsed += cost;
      this.#owner.sent(cost);
      this.#owner.touched();
      return true;
    }
    if (this.#outbox === none) this.#outbox = new Outbox();
    this.#outbox.push(chunk, { id: this.id, last: end });
    return this.#waits();
  }

  writeBatch(batch: Batch): boolean {
    if (this.#closed || this.#ending) return true;
    const sent = this.#writeDirect(batch);
    if (sent === batch.places.length) return true;
    if (this.#outbox === none) this.#outbox = new Outbox();
    this.#outbox.pushBatch(batch, { id: this.id, start: sent });
    return this.#waits();
  }

  /** How many of `places` were done with: those that could go straight into the slab. */
  #writeDirect({ chunk, places }: Batch): number {
    const writer = this.#outbox.empty && this.id !== 0 ? this.#owner.direct : undefined;
    if (writer === undefined) return 0;
    const { maxPayload, sendLeft } = this.#owner;
    const room = Math.min(this.#sendLimit - this.#sendUsed, sendLeft);
    let cost = 0;
    let at = 0;
    for (; at < places.length && !writer.blocked; at += 2) {
      const [from, to] = [places[at]!, places[at + 1]!];
      if (to - from > maxPayload || cost + FRAME_COST + to - from > room) break;
      writer.data(this.id, Flag.END_MESSAGE, chunk, from, to);
      cost += FRAME_COST + to - from;
    }
    if (at === 0) return 0;
    this.#sendUsed += cost;
    this.#owner.sent(cost);
    this.#owner.touched();
    return at;
  }

  /** Something waits now: false once it is much. */
  #waits(): boolean {
    if (this.sendable) this.#owner.ready(this);
    if (this.#outbox.bytes >= HIGH_WATER) this.#wantsDrained = true; // and it stays owed, whatever is written meanwhile
    return !this.#wantsDrained;
  }

  closeWrite(): void {
    if (this.#closed || this.#ending) return;
    this.#ending = true;
    if (this.sendable) this.#owner.ready(this);
  }

  reset(broken: Break): void {
    if (this.#closed) return;
    this.#owner.resetByUs(this, broken);
    this.break(broken);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (!this.#delivering) this.#deliver();
  }

  // ---- for whoever accepts

  /** Accepts an incoming stream: payload may flow. */
  accept(metadata: readonly Tlv[] = []): void {
    if (this.#closed || this.accepted) return;
    this.accepted = true;
    this.#owner.accept(this, metadata);
  }

  /** Gives the stream's place back to the peer: its back end is torn down. Until then its id credit stays used. */
  release(): void {
    if (this.released) return;
    this.released = true;
    this.#owner.release(this);
  }

  // ---- for the session: sending

  /** Whether something waits that the stream's own credit lets go. */
  get sendable(): boolean {
    if (this.#closed || this.id === 0) return false;
    const left = this.#sendLimit - this.#sendUsed;
    if (!this.#outbox.empty) return left > FRAME_COST || (left === FRAME_COST && this.#outbox.nextIsEmpty);
    return this.#ending && !this.#finSent && left >= FRAME_COST;
  }

  /** Raises what the peer lets us send; false when it is no raise. */
  credit(limit: number): boolean {
    if (limit <= this.#sendLimit) return false;
    this.#sendLimit = limit;
    if (this.sendable) this.#owner.ready(this);
    return true;
  }

  /** Puts what waits, until the turn is over; its cost, or 0 when nothing may go now. */
  sendSome(writer: Writer): number {
    if (!this.sendable) return 0;
    const room = Math.min(this.#sendLimit - this.#sendUsed, this.#owner.sendLeft);
    if (room < FRAME_COST) return 0;
    let cost = FRAME_COST;
    if (this.#outbox.empty) writer.data(this.id, Flag.FIN, nothing, 0, 0);
    else
      cost = this.#outbox.put(writer, {
        id: this.id,
        room,
        wanted: this.deficit,
        maxPayload: this.#owner.maxPayload,
        ending: this.#ending,
      });
    if (this.#ending && this.#outbox.empty) this.#finSent = true;
    this.#sendUsed += cost;
    this.#owner.sent(cost);
    return cost;
  }

  /** After the session sent what it could: tells the holder to write on, or that all is done. */
  afterSend(): void {
    if (this.#wantsDrained && this.#outbox.bytes < HIGH_WATER / 2) {
      this.#wantsDrained = false;
      this.#events?.drained();
    }
    if (this.#finSent) this.#settle();
  }

  // ---- for the session: receiving

  /** Judges a DATA frame that arrived; a sentence when it breaks the protocol, `too_large` when the message grows too long. */
  judge(length: number, flags: number): string | undefined {
    if (this.#finReceived) return "DATA after FIN";
    if (length === 0 && flags === 0) return "an empty DATA frame";
    const ends = (flags & Flag.END_MESSAGE) !== 0;
    if (!this.messages) return ends ? "END_MESSAGE on a byte stream" : undefined;
    this.#messageBytes += length;
    if ((flags & Flag.FIN) !== 0 && !ends && this.#messageBytes > 0) return "FIN inside a message";
    if (this.#messageBytes > this.#owner.maxMessage) return "too_large";
    if (ends) this.#messageBytes = 0;
    return undefined;
  }

  /** Whether no message has begun. */
  get betweenMessages(): boolean {
    return this.#messageBytes === 0;
  }

  /** Whether whole messages may come by `receiveBatch` now. */
  get takesBatches(): boolean {
    return !this.#paused && !this.#delivering && this.#inbox.length === 0 && this.#events?.takesBatches === true;
  }

  /** Whole messages, in DATA frames that were judged and counted. */
  receiveBatch(batch: Batch, cost: number): void {
    this.#delivering = true;
    this.#events?.batch?.(batch);
    this.#delivering = false;
    if (!this.#closed) this.#owner.consumed(this, cost);
    if (this.#inbox.length > 0 || this.#finReceived) this.#deliver();
  }

  /** Takes a DATA frame that was judged and counted. */
  receive(chunk: Buffer, flags: number, cost: number): void {
    const last = (flags & Flag.END_MESSAGE) !== 0;
    if ((flags & Flag.FIN) !== 0) this.#finReceived = true;
    const payload = chunk.length > 0 || last;
    if (!this.#paused && !this.#delivering && this.#inbox.length === 0 && this.#events !== undefined) {
      this.#delivering = true;
      if (payload) this.#events.data(chunk, last);
      this.#delivering = false;
      if (!this.#closed) this.#owner.consumed(this, cost);
      if (this.#inbox.length > 0 || this.#finReceived) this.#deliver();
      return;
    }
    if (payload) {
      this.#inbox.push({ chunk: toKeep(chunk), last, cost });
      if (this.#inbox.length === 1) this.consumedAt = this.#owner.now();
    } else {
      this.#owner.consumed(this, cost);
    }
    if (!this.#delivering) this.#deliver();
  }

  #deliver(): void {
    if (this.#events === undefined || this.#delivering) return;
    this.#delivering = true;
    if (this.#inbox.length > 0) this.consumedAt = this.#owner.now();
    while (!this.#paused && !this.#closed) {
      const piece = this.#inbox.take();
      if (piece === undefined) break;
      this.#events.data(piece.chunk, piece.last);
      if (!this.#closed) this.#owner.consumed(this, piece.cost);
    }
    this.#delivering = false;
    if (this.#finReceived && !this.#endGiven && !this.#closed && !this.#paused && this.#inbox.length === 0) {
      this.#endGiven = true;
      this.#events.end();
      this.#settle();
    }
  }

  /** Ended both ways. */
  #settle(): void {
    if (this.#closed || !this.#finSent || !this.#endGiven) return;
    this.#closed = true;
    this.#owner.finished(this);
    this.#owner.later(() => this.#events?.closed(undefined));
  }

  /** The peer, the session or we ourselves broke it off. */
  break(broken: Break): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wantsDrained = false;
    this.#outbox.clear();
    this.#inbox.clear();
    this.#owner.finished(this);
    this.onBroken?.(broken);
    this.#owner.later(() => this.#events?.closed(broken));
  }
}
