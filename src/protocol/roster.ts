/**
 * The streams of a session: those that are open, those that wait until the peer lets them, and what they ask of the session: frames of
 * theirs, and credit for what they consumed.
 * Promises: ids in order; credit as docs/protocol.md says; nothing of a stream is held for it after it closed.
 * Leaves to others: frames that come (incoming.ts), when the session ends (session.ts).
 */
import { Buffer } from "node:buffer";
import type { Break } from "../base/channel.ts";
import { toCode } from "./code.ts";
import * as wire from "./frame.ts";
import type { SessionParts } from "./parts.ts";
import { Receiver } from "./receiver.ts";
import { Stream } from "./stream.ts";
import type { StreamOwner } from "./stream-owner.ts";
import type { Tlv } from "./tlv.ts";
import { ReceiveWindow, type WindowSizes } from "./window.ts";
import type { Writer } from "./writer.ts";

export interface OpenOptions {
  readonly messages: boolean;
  /** Share of the connection when it is busy, 1 to 255; 16 is ordinary. */
  readonly weight?: number;
  readonly metadata?: readonly Tlv[];
}

export interface RosterEvents {
  /** A stream closed. */
  finished(stream: Stream): void;
  /** A place became free. */
  released(): void;
}

const STREAM_WINDOW_MAX = 4 << 20;
/** So long after two streams received bytes in turn they still share the connection. */
const SHARED_MS = 10_000;

export class Roster implements StreamOwner<Stream> {
  readonly receiver: Receiver;
  readonly #parts: SessionParts;
  readonly #events: RosterEvents;
  readonly #sizes: WindowSizes;
  readonly #streams = new Map<number, Stream>();
  /** Opened by us, and not yet told to the peer. */
  #waiting: Stream[] = [];
  /** Set by who sees DATA change from one open stream to another; whoever grants next notes when. */
  #changed = false;
  #sharedAt = -Infinity;

  constructor(parts: SessionParts, events: RosterEvents) {
    this.#parts = parts;
    this.#events = events;
    const { own, clock } = parts;
    const initial = own.streamWindow;
    this.#sizes = { initial, max: Math.max(STREAM_WINDOW_MAX, initial) };
    this.receiver = new Receiver({ initial: own.sessionLimit, clock, streams: this.#streams, grant: () => this.#grantSession() });
  }

  get streams(): ReadonlyMap<number, Stream> {
    return this.#streams;
  }
  /** Whether streams wait to be opened. */
  get waits(): boolean {
    return this.#waiting.length > 0;
  }

  // ---- streams come

  /** One of ours: it can be written to at once, and is told to the peer when that lets us. */
  open(target: string, options: OpenOptions): Stream {
    const length = Buffer.byteLength(target, "utf8");
    if (length < 1 || length > 255) throw new RangeError("the name of a target has 1 to 255 bytes");
    const { state, own } = this.#parts;
    const stream = new Stream(this, {
      target,
      messages: options.messages,
      weight: Math.min(255, Math.max(1, options.weight ?? 16)),
      metadata: options.metadata ?? [],
      window: new ReceiveWindow(this.#sizes, own.streamWindow),
      sendLimit: 0,
      opener: true,
    });
    if (state.phase === "closing" || state.phase === "closed") stream.break(state.broken ?? { reason: "session_lost" });
    else if (state.draining !== undefined) stream.break(state.draining);
    else {
      this.#waiting.push(stream);
      if (state.phase === "active") this.sendOpens();
    }
    return stream;
  }

  /** One that the peer opened. */
  opened(id: number, { window, ...asked }: Required<wire.OpenFields>): Stream {
    this.#parts.ids.peerOpens(id);
    const stream = new Stream(this, {
      ...asked,
      window: new ReceiveWindow(this.#sizes, this.#parts.own.earlyWindow),
      sendLimit: window,
      opener: false,
    });
    stream.id = id;
    this.#streams.set(id, stream);
    return stream;
  }

  /** Tells the peer of those that wait, as many as it lets us. */
  sendOpens(): void {
    const { ids } = this.#parts;
    let sent = 0;
    for (const stream of this.#waiting) {
      const id = ids.next();
      if (id === "used up") return this.#usedUp();
      if (id === "wait") break;
      sent++;
      if (!stream.closed) this.#sendOpen(id, stream);
    }
    if (sent > 0) this.#waiting = this.#waiting.slice(sent);
  }

  #sendOpen(id: number, stream: Stream): void {
    const { ids, sender, state } = this.#parts;
    ids.use(id);
    stream.id = id;
    this.#streams.set(id, stream);
    const { target, messages, weight, metadata } = stream;
    sender.control(wire.encodeOpen(id, { target, messages, weight, metadata, window: stream.window.limit }));
    stream.credit(state.peer.earlyWindow);
    if (stream.sendable) sender.enqueue(stream);
  }

  /** A billion streams were opened: the next need a session of their own. */
  #usedUp(): void {
    const broken: Break = { reason: "draining", detail: "the session's stream ids are used up" };
    this.#parts.state.draining = broken;
    this.breakWaiting(broken);
    this.#parts.events.goaway?.({ broken, graceMs: 0 });
  }

  // ---- streams go

  breakWaiting(broken: Break): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const stream of waiting) if (stream.id === 0) stream.break(broken);
  }

  /** `butWhole`: not those of which all has come and gone. */
  breakAll(broken: Break, { butWhole = false }: { readonly butWhole?: boolean } = {}): void {
    this.breakWaiting(broken);
    for (const stream of [...this.#streams.values()]) if (!(butWhole && stream.whole)) stream.break(broken);
  }

  // ---- what a stream asks of its session

  get maxPayload(): number {
    return this.#parts.state.peer.maxPayload;
  }
  get maxMessage(): number {
    return this.#parts.own.maxMessage;
  }
  get sendLeft(): number {
    return this.#parts.sender.left;
  }
  get direct(): Writer | undefined {
    return this.#parts.sender.direct;
  }

  sent(cost: number): void {
    this.#parts.sender.sent(cost);
    this.#parts.budget.earnBytes(cost);
  }

  ready(stream: Stream): void {
    this.#parts.sender.enqueue(stream);
  }

  touched(): void {
    this.#parts.sender.touched();
  }

  later(act: () => void): void {
    this.#parts.clock.soon(act);
  }

  now(): number {
    return this.#parts.clock.now();
  }

  consumed(stream: Stream, cost: number): void {
    if (stream.window.consume(cost) && stream.accepted && this.#parts.state.phase === "active") this.#grant(stream);
    this.receiver.consumed(cost);
  }

  /** DATA of another open stream than before came. */
  changed(): void {
    this.#changed = true; // reading the clock for each change would cost more than all else here
  }

  #grant(stream: Stream): void {
    const { clock, heartbeat, sender } = this.#parts;
    const now = clock.now();
    heartbeat.measure(now);
    stream.consumedAt = now;
    sender.control(wire.encodeStreamCredit(stream.id, this.#limitOf(stream, now)));
    this.receiver.suit(stream.window.size);
  }

  /** What the stream's peer may send from now on. */
  #limitOf(stream: Stream, now: number): number {
    if (this.#changed) this.#sharedAt = now;
    this.#changed = false;
    return stream.window.grant({ now, roundTrip: this.#parts.heartbeat.roundTripMs, shared: now - this.#sharedAt < SHARED_MS });
  }

  #grantSession(): void {
    const { state, clock, heartbeat, ids, sender } = this.#parts;
    if (state.phase !== "active") return;
    sender.control(wire.encodeSessionCredit(this.receiver.grant(clock.now(), heartbeat.roundTripMs), ids.maxPeer));
  }

  accept(stream: Stream, metadata: readonly Tlv[]): void {
    const { budget, clock, ids, sender } = this.#parts;
    budget.earn(4);
    sender.control(wire.encodeAccept(stream.id, this.#limitOf(stream, clock.now()), metadata));
    if (ids.settled()) this.#grantSession();
  }

  resetByUs(stream: Stream, broken: Break): void {
    const { state, sender } = this.#parts;
    if (stream.id === 0 || state.phase !== "active") return;
    this.receiver.expectStray(stream.window.left);
    sender.control(wire.encodeReset(stream.id, { code: toCode(broken.reason), retryAfter: broken.retryAfter, text: broken.detail }));
  }

  finished(stream: Stream): void {
    this.#parts.sender.forget(stream);
    this.receiver.consumed(stream.window.pinned); // what it never consumed is no longer held
    if (stream.id === 0) this.#waiting = this.#waiting.filter((other) => other !== stream);
    else this.#streams.delete(stream.id);
    this.#events.finished(stream);
  }

  release(stream: Stream): void {
    if (stream.opener) return;
    if (this.#parts.ids.released({ settled: stream.accepted })) this.#grantSession();
    this.#events.released();
  }
}
