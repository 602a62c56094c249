/**
 * The multiplexer on one connection: HELLO and WELCOME, streams, credit, fairness, heartbeat, GOAWAY (docs/protocol.md).
 * Bytes in by `receive`, bytes out by a Transport, time by a Clock: it knows no sockets and never pauses its connection.
 * Promises: a peer's violation ends the session with its reason, never anything else; every stream's `closed` comes before the
 * session's; memory is bounded by the windows. Leaves to others: TLS, who may open what, back ends.
 */
import { Buffer } from "node:buffer";
import type { Break } from "../base/channel.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { ControlBudget } from "./budget.ts";
import { NO_ERROR, toCode } from "./code.ts";
import {
  judgeControl,
  judgeFirst,
  readAccept,
  readCredit,
  readGoaway,
  readHello,
  readNotice,
  readOpen,
  readReset,
  readWelcome,
} from "./control.ts";
import { Decoder, type FrameSink } from "./decoder.ts";
import { ProtocolFault } from "./fault.ts";
import * as wire from "./frame.ts";
import { Flag, FRAME_COST, Resumed, Type } from "./frame.ts";
import { Heartbeat } from "./heartbeat.ts";
import { StreamIds } from "./ids.ts";
import { encodeParameters, encodeRetryAfter, parameterDefaults, type Parameters } from "./parameters.ts";
import { Receiver } from "./receiver.ts";
import { Sender } from "./sender.ts";
import { Stream, type StreamOwner } from "./stream.ts";
import type { Tlv } from "./tlv.ts";
import { ReceiveWindow, type WindowSizes } from "./window.ts";
import type { Transport } from "./writer.ts";

export interface SessionEvents {
  /** HELLO or WELCOME came and was good. */
  ready?(peer: Parameters): void;
  /** The peer opened a stream: attach, then `accept` or `reset` it; `release` it when its back end is torn down. */
  open?(stream: Stream): void;
  /** The peer will take no more streams and closes after `graceMs`. */
  goaway?(notice: { readonly broken: Break; readonly graceMs: number }): void;
  /** The gateway has something to say that changes nothing. Only of a client's session. */
  notice?(notice: wire.Notice): void;
  /** Once, last; undefined after an orderly close by either side. */
  closed(broken: Break | undefined): void;
}

export interface SessionOptions {
  readonly role: "client" | "gateway";
  readonly transport: Transport;
  readonly clock: Clock;
  readonly events: SessionEvents;
  /** What differs from `parameterDefaults`. */
  readonly parameters?: Partial<Parameters>;
  /** Streams that the peer may have at once; 0: it may open none. Default 256 for a gateway, 0 for a client. */
  readonly maxStreams?: number;
  /** The gateway answers the HELLO with this refusal. */
  readonly refusal?: Break;
  /** To the first frame. Default 5,000 ms. */
  readonly helloTimeoutMs?: number;
}

export interface OpenOptions {
  readonly messages: boolean;
  /** Share of the connection when it is busy, 1 to 255; 16 is ordinary. */
  readonly weight?: number;
  readonly metadata?: readonly Tlv[];
}

const STREAM_WINDOW_MAX = 4 << 20;
const LINGER_MS = 1_000;
/** After an orderly end: how long what is on its way has to arrive, ours at the peer and the peer's at whoever reads it. */
const DELIVER_MS = 30_000;

export class Session {
  readonly role: "client" | "gateway";
  /** What the peer said of itself; the defaults until `ready`. */
  peer: Parameters = parameterDefaults;
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #events: SessionEvents;
  readonly #own: Parameters;
  readonly #streamSizes: WindowSizes;
  readonly #refusal: Break | undefined;
  readonly #decoder: Decoder;
  readonly #budget: ControlBudget;
  readonly #ids: StreamIds;
  readonly #sender: Sender;
  readonly #receiver: Receiver;
  readonly #heartbeat: Heartbeat;
  readonly #owner: StreamOwner;
  readonly #streams = new Map<number, Stream>();
  /** Opened by us, and not yet told to the peer. */
  #waitingOpens: Stream[] = [];
  /** The stream of the last DATA frame, and that of the one whose header was judged. */
  #lastStream: Stream | undefined;
  #frameStream: Stream | undefined;

  #state: "hello" | "active" | "closing" | "closed" = "hello";
  #broken: Break | undefined;
  /** Set by GOAWAY, from either side. */
  #draining: Break | undefined;
  /** Set by `retire`. */
  #retired = false;
  /** Sent by a gateway, read by a client. */
  #notices = 0;
  #helloTimer: Timer | undefined;
  #lingerTimer: Timer | undefined;
  #drainTimer: Timer | undefined;
  #deliverTimer: Timer | undefined;

  constructor(options: SessionOptions) {
    const { role, transport, clock } = options;
    this.role = role;
    this.#transport = transport;
    this.#clock = clock;
    this.#events = options.events;
    this.#refusal = options.refusal;
    const gateway = role === "gateway";
    this.#ids = new StreamIds({ role, maxStreams: options.maxStreams ?? (gateway ? 256 : 0) });
    this.#own = { ...parameterDefaults, maxStreamId: this.#ids.maxPeer, ...options.parameters };
    const initial = this.#own.streamWindow;
    this.#streamSizes = { initial, max: Math.max(STREAM_WINDOW_MAX, initial) };
    this.#budget = new ControlBudget(clock);
    this.#decoder = new Decoder(this.#sink());
    this.#owner = this.#asOwner();
    this.#sender = new Sender({
      transport,
      clock,
      overflowed: () => this.#finish({ reason: "slow_reader", detail: "the peer does not read our control frames" }),
    });
    this.#receiver = new Receiver({ initial: this.#own.sessionLimit, clock, streams: this.#streams, grant: () => this.#grantSession() });
    this.#heartbeat = new Heartbeat({
      clock,
      everyMs: this.#own.heartbeatMs,
      outgoing: this.#sender,
      ping: (opaque) => this.#sender.control(wire.encodePing(Type.PING, opaque)),
      dead: (broken) => this.#finish(broken),
    });
    this.#helloTimer = clock.after(options.helloTimeoutMs ?? 5_000, () =>
      this.close({ reason: "preface_timeout", detail: gateway ? "no HELLO came" : "no WELCOME came" }),
    );
    if (!gateway) {
      this.#sender.control(wire.encodeHello({ min: wire.VERSION, max: wire.VERSION }, encodeParameters(this.#own)));
      this.#sender.pump();
    }
  }

  /** Streams that are open now. */
  get streams(): ReadonlyMap<number, Stream> {
    return this.#streams;
  }
  get ready(): boolean {
    return this.#state === "active";
  }
  get draining(): boolean {
    return this.#draining !== undefined;
  }
  /** Shortest round trip seen lately, ms; the shortest possible one until there are enough measurements. */
  get roundTripMs(): number {
    return this.#heartbeat.roundTripMs;
  }

  // ---- what the holder calls

  /** Opens a stream. It can be written to at once; a refusal comes as its `closed`. */
  open(target: string, options: OpenOptions): Stream {
    const length = Buffer.byteLength(target, "utf8");
    if (length < 1 || length > 255) throw new RangeError("the name of a target has 1 to 255 bytes");
    const stream = new Stream(this.#owner, {
      target,
      messages: options.messages,
      weight: Math.min(255, Math.max(1, options.weight ?? 16)),
      metadata: options.metadata ?? [],
      window: new ReceiveWindow(this.#streamSizes, this.#own.streamWindow),
      sendLimit: 0,
      opener: true,
    });
    if (this.#state === "closing" || this.#state === "closed") stream.break(this.#broken ?? { reason: "session_lost" });
    else if (this.#draining !== undefined) stream.break(this.#draining);
    else {
      this.#waitingOpens.push(stream);
      if (this.#state === "active") this.#sendOpens();
    }
    return stream;
  }

  /** Bytes from the connection. */
  receive(chunk: Buffer): void {
    if (this.#state === "closed") return;
    this.#heartbeat.heard();
    if (this.#state === "closing") return;
    this.#sender.hold();
    try {
      this.#decoder.feed(chunk);
    } catch (fault) {
      if (fault instanceof ProtocolFault) this.close({ reason: fault.reason, detail: fault.message });
      else this.close({ reason: "internal", detail: fault instanceof Error ? (fault.stack ?? fault.message) : String(fault) });
      return;
    }
    this.#sender.pump();
  }

  /** The connection is gone, or its peer will send no more. */
  transportClosed(detail?: string): void {
    this.#finish({ reason: "session_lost", detail: detail ?? "the connection was closed" });
  }

  /** Takes no more streams, lets the open ones end, and closes after the last one or after `graceMs`. */
  drain(graceMs: number): void {
    if (this.#draining !== undefined || this.#state === "closed" || this.#state === "closing") return;
    if (this.#state === "hello") return this.close({ reason: "draining" });
    this.#draining = { reason: "draining" };
    this.#sender.control(this.#goaway("draining", { graceMs, text: "", final: false }));
    this.#drainTimer = this.#clock.after(graceMs, () => this.close({ reason: "draining", detail: "the time to drain is over" }));
    if (this.#ids.live === 0 && this.#streams.size === 0) this.close();
  }

  /** Closes in order after the last stream; those that wait to be opened count, too. Whoever calls it opens no more. */
  retire(): void {
    this.#retired = true;
    this.#closeWhenDrained();
  }

  /** Tells the client what it may want to know; of a gateway's session that is ready, `MAX_NOTICES` times at most, else nothing happens. */
  notice(notice: wire.Notice): void {
    if (this.role !== "gateway" || this.#state !== "active" || this.#notices >= wire.MAX_NOTICES) return;
    this.#notices++;
    this.#sender.control(wire.encodeNotice(notice));
  }

  /** Says goodbye with the reason, then closes; streams that are open break with it. Without a reason: an orderly close. */
  close(broken?: Break): void {
    if (this.#state === "closed" || this.#state === "closing") return this.#closeAgain(broken);
    const refused = this.#state === "hello" && this.role === "gateway" && broken !== undefined;
    if (refused) {
      const later = broken.retryAfter === undefined ? [] : [encodeRetryAfter(broken.retryAfter)];
      this.#sender.control(wire.encodeWelcome({ resumed: Resumed.REFUSED, refusal: toCode(broken.reason) }, later));
    }
    if (refused || this.#state === "active") {
      const text = broken?.reason === "internal" ? "" : (broken?.detail ?? ""); // an internal fault's detail is for our log only
      this.#sender.farewell(this.#goaway(broken?.reason, { graceMs: 0, text, final: true }));
    }
    this.#endOurs(broken, { unbroken: "the session was closed" });
  }

  /** Sends nothing more and waits for the peer to close. Streams break; after an orderly GOAWAY of the peer's only those that miss something. */
  #endOurs(broken: Break | undefined, how: { readonly unbroken: string; readonly butWhole?: boolean }): void {
    this.#state = "closing";
    this.#broken = broken;
    this.#breakStreams(broken ?? { reason: "session_lost", detail: how.unbroken }, how);
    this.#sender.stop();
    this.#stopTimers();
    this.#transport.end();
    this.#linger(broken);
  }

  /** An orderly end waits for what is on its way, until somebody has no more patience. */
  #closeAgain(broken: Break | undefined): void {
    if (this.#broken !== undefined) return;
    this.#breakStreams(broken ?? { reason: "session_lost", detail: "the session was closed" });
    if (broken !== undefined) this.#finish(undefined);
  }

  /** Waits for the peer to close; after an orderly end as long as it takes to send what the transport has, within reason. */
  #linger(broken: Break | undefined, waitedMs = LINGER_MS): void {
    this.#lingerTimer = this.#clock.after(LINGER_MS, () => {
      if (broken === undefined && this.#sender.waiting > 0 && waitedMs < DELIVER_MS) this.#linger(broken, waitedMs + LINGER_MS);
      else this.#finish(broken);
    });
  }

  #goaway(reason: Break["reason"] | undefined, how: { readonly graceMs: number; readonly text: string; readonly final: boolean }): Buffer {
    return wire.encodeGoaway({
      lastStreamId: this.#ids.lastPeer,
      code: reason === undefined ? NO_ERROR : toCode(reason),
      grace: how.graceMs,
      text: how.text,
      final: how.final,
    });
  }

  #breakStreams(broken: Break, { butWhole = false }: { readonly butWhole?: boolean } = {}): void {
    this.#breakWaitingOpens(broken);
    for (const stream of [...this.#streams.values()]) if (!(butWhole && stream.whole)) stream.break(broken);
  }

  #stopTimers(): void {
    for (const timer of [this.#helloTimer, this.#lingerTimer, this.#drainTimer, this.#deliverTimer]) timer?.cancel();
    this.#helloTimer = this.#lingerTimer = this.#drainTimer = this.#deliverTimer = undefined;
    this.#heartbeat.stop();
    this.#receiver.stop();
  }

  #finish(broken: Break | undefined): void {
    if (this.#state === "closed") return;
    const first = this.#state === "closing" ? this.#broken : (this.#broken ?? broken);
    const orderly = this.#state === "closing" && first === undefined;
    this.#state = "closed";
    this.#stopTimers();
    this.#breakStreams(first ?? { reason: "session_lost" }, { butWhole: orderly });
    this.#sender.stop();
    this.#transport.destroy();
    if (this.#streams.size === 0) return this.#clock.soon(() => this.#events.closed(first));
    this.#deliverTimer = this.#clock.after(DELIVER_MS, () =>
      this.#breakStreams({ reason: "slow_reader", detail: "the session is over and its last bytes were not read" }),
    );
  }

  // ---- frames in

  #sink(): FrameSink {
    return {
      header: (type, flags, id, length) => this.#judgeHeader(type, flags, { id, length }),
      frame: (type, flags, id, buffer, start, end) => {
        if (type === Type.DATA) this.#onData(flags, buffer, start, end);
        else this.#onControl(type, flags, id, buffer.subarray(start, end));
        return this.#state === "hello" || this.#state === "active";
      },
    };
  }

  #judgeHeader(type: number, flags: number, at: { readonly id: number; readonly length: number }): void {
    if (at.id > wire.MAX_STREAM_ID) throw new ProtocolFault("protocol_error", "the reserved bit of a stream id is set");
    if (this.#state === "hello") judgeFirst(type, flags, { ...at, wanted: this.role === "gateway" ? Type.HELLO : Type.WELCOME });
    else if (type === Type.DATA) this.#judgeData(flags, at.id, at.length);
    else judgeControl(type, flags, at);
  }

  #judgeData(flags: number, id: number, length: number): void {
    if ((flags & ~(Flag.END_MESSAGE | Flag.FIN)) !== 0) throw new ProtocolFault("protocol_error", "an undefined flag is set");
    if (length > this.#own.maxPayload) throw new ProtocolFault("frame_size", `a payload of ${length} bytes`);
    if (id === 0) throw new ProtocolFault("protocol_error", "DATA on stream 0");
    const cost = FRAME_COST + length;
    this.#receiver.receive(cost);
    let stream = this.#lastStream;
    if (stream === undefined || stream.id !== id) stream = this.#lastStream = this.#streams.get(id);
    this.#frameStream = stream;
    if (stream === undefined || stream.closed) {
      this.#frameStream = undefined;
      if (this.#ids.isIdle(id)) throw new ProtocolFault("protocol_error", "DATA on a stream that was never opened");
      return this.#receiver.receiveStray(cost);
    }
    if (stream.opener && !stream.accepted) throw new ProtocolFault("protocol_error", "DATA before ACCEPT");
    if (!stream.window.receive(cost)) throw new ProtocolFault("flow_control", "over the stream's limit");
    const fault = stream.judge(length, flags);
    if (fault === "too_large") stream.reset({ reason: "message_too_large" });
    else if (fault !== undefined) throw new ProtocolFault("protocol_error", fault);
  }

  #onData(flags: number, buffer: Buffer, start: number, end: number): void {
    const cost = FRAME_COST + end - start;
    const stream = this.#frameStream;
    this.#budget.earnBytes(cost);
    if (stream === undefined) return this.#receiver.consumed(cost);
    if (stream.closed) return; // since its header came; it was refunded whole
    stream.receive(buffer.subarray(start, end), flags, cost);
    this.#receiver.held();
  }

  #onControl(type: number, flags: number, id: number, payload: Buffer): void {
    switch (type) {
      case Type.HELLO:
        return this.#onHello(payload);
      case Type.WELCOME:
        return this.#onWelcome(payload);
      case Type.OPEN:
        return this.#onOpen(id, payload);
      case Type.ACCEPT:
        return this.#onAccept(id, payload);
      case Type.RESET:
        return this.#onReset(id, payload);
      case Type.CREDIT:
        return this.#onCredit(id, payload);
      case Type.PING:
        this.#budget.charge(1);
        return this.#sender.control(wire.encodePing(Type.PONG, payload));
      case Type.PONG:
        this.#budget.charge(1);
        return this.#heartbeat.pong(payload);
      case Type.GOAWAY:
        return this.#onGoaway(flags, payload);
      case Type.NOTICE:
        return this.#onNotice(payload);
      case Type.ACK:
      case Type.REGISTER:
      case Type.REGISTERED:
      case Type.UNREGISTER:
        throw new ProtocolFault("protocol_error", "a frame of a feature that was not agreed on");
      default:
        this.#budget.charge(1); // ignorable, or the header had been refused
    }
  }

  #onHello(payload: Buffer): void {
    this.#requireFirst();
    const peer = readHello(payload);
    if (this.#refusal !== undefined) return this.close(this.#refusal);
    this.#sender.control(wire.encodeWelcome({ resumed: Resumed.FRESH, refusal: 0 }, encodeParameters(this.#own)));
    this.#activate(peer);
  }

  #onWelcome(payload: Buffer): void {
    this.#requireFirst();
    const { refused, peer } = readWelcome(payload);
    if (peer === undefined) {
      this.#draining = this.#broken = refused;
      this.#state = "active";
      this.#helloTimer?.cancel();
      this.#lingerTimer = this.#clock.after(LINGER_MS, () => this.#finish(refused));
      return;
    }
    this.#ids.maxOwn = peer.maxStreamId;
    this.#activate(peer);
    this.#sendOpens();
  }

  #requireFirst(): void {
    if (this.#state !== "hello") throw new ProtocolFault("protocol_error", "a second HELLO or WELCOME");
  }

  #activate(peer: Parameters): void {
    this.#state = "active";
    this.peer = peer;
    this.#sender.credit(peer.sessionLimit);
    this.#helloTimer?.cancel();
    this.#helloTimer = undefined;
    this.#heartbeat.start();
    this.#events.ready?.(peer);
  }

  #onOpen(id: number, payload: Buffer): void {
    this.#budget.charge(2);
    const { window, ...asked } = readOpen(payload);
    this.#ids.peerOpens(id);
    const stream = new Stream(this.#owner, {
      ...asked,
      window: new ReceiveWindow(this.#streamSizes, this.#own.earlyWindow),
      sendLimit: window,
      opener: false,
    });
    stream.id = id;
    this.#streams.set(id, stream);
    if (this.#draining === undefined && this.#events.open !== undefined) return this.#events.open(stream);
    stream.reset(this.#draining ?? { reason: "forbidden" });
    stream.release();
  }

  #onAccept(id: number, payload: Buffer): void {
    if (this.#ids.isPeers(id) || this.#ids.isIdle(id)) throw new ProtocolFault("protocol_error", "ACCEPT of a stream that we did not open");
    const { window, metadata } = readAccept(payload);
    const stream = this.#streams.get(id);
    if (stream === undefined) return this.#budget.charge(2);
    if (stream.accepted) throw new ProtocolFault("protocol_error", "a second ACCEPT");
    stream.accepted = true;
    stream.metadata = metadata;
    stream.credit(window);
    stream.onAccepted?.();
  }

  #onReset(id: number, payload: Buffer): void {
    if (this.#ids.isIdle(id)) throw new ProtocolFault("protocol_error", "RESET of a stream that was never opened");
    const stream = this.#streams.get(id);
    const broken = readReset(payload);
    this.#budget.charge(stream !== undefined && !stream.opener && !stream.accepted ? 20 : 2);
    stream?.break(broken);
  }

  #onCredit(id: number, payload: Buffer): void {
    const { limit, maxStreamId } = readCredit(id, payload);
    this.#budget.charge(1);
    if (id === 0) {
      this.#sender.credit(limit);
      if (maxStreamId > this.#ids.maxOwn) {
        this.#ids.maxOwn = maxStreamId;
        this.#sendOpens();
      }
    } else if (this.#ids.isIdle(id)) throw new ProtocolFault("protocol_error", "CREDIT for a stream that was never opened");
    else this.#streams.get(id)?.credit(limit);
  }

  #onGoaway(flags: number, payload: Buffer): void {
    const { broken, detail, graceMs, final } = readGoaway(flags, payload);
    this.#budget.charge(2);
    if (final) {
      const refused = this.#broken; // by WELCOME, which alone says when to come again
      return this.#endOurs(broken !== undefined && broken.reason === refused?.reason ? { ...refused, ...broken } : broken, {
        unbroken: "the other end closed the session",
        butWhole: broken === undefined,
      });
    }
    if (this.#draining !== undefined) return;
    this.#draining = { reason: "draining", ...(detail === "" ? {} : { detail }) };
    this.#breakWaitingOpens(this.#draining);
    this.#events.goaway?.({ broken: broken ?? { reason: "draining" }, graceMs });
  }

  #onNotice(payload: Buffer): void {
    this.#budget.charge(1);
    if (this.role === "gateway" || this.#notices >= wire.MAX_NOTICES) return; // as one who does not know the frame
    this.#notices++;
    this.#events.notice?.(readNotice(payload));
  }

  // ---- credit out

  #consumed(stream: Stream, cost: number): void {
    if (stream.window.consume(cost) && stream.accepted && this.#state === "active") {
      const now = this.#clock.now();
      this.#heartbeat.measure(now);
      stream.consumedAt = now;
      this.#sender.control(wire.encodeStreamCredit(stream.id, stream.window.grant(now, this.roundTripMs)));
      this.#receiver.suit(stream.window.size);
    }
    this.#receiver.consumed(cost);
  }

  #grantSession(): void {
    if (this.#state !== "active") return;
    this.#sender.control(wire.encodeSessionCredit(this.#receiver.grant(this.#clock.now(), this.roundTripMs), this.#ids.maxPeer));
  }

  // ---- streams

  #asOwner(): StreamOwner {
    // oxlint-disable-next-line no-this-alias -- getters below need the session
    const session = this;
    return {
      get maxPayload() {
        return session.peer.maxPayload;
      },
      get maxMessage() {
        return session.#own.maxMessage;
      },
      get sendLeft() {
        return session.#sender.left;
      },
      get direct() {
        return session.#sender.direct;
      },
      sent: (cost) => {
        session.#sender.sent(cost);
        session.#budget.earnBytes(cost);
      },
      ready: (stream) => session.#sender.enqueue(stream),
      touched: () => session.#sender.touched(),
      consumed: (stream, cost) => session.#consumed(stream, cost),
      resetByUs: (stream, broken) => session.#resetByUs(stream, broken),
      finished: (stream) => session.#finished(stream),
      accept: (stream, metadata) => session.#accept(stream, metadata),
      release: (stream) => session.#release(stream),
      later: (act) => session.#clock.soon(act),
      now: () => session.#clock.now(),
    };
  }

  #sendOpens(): void {
    let sent = 0;
    for (const stream of this.#waitingOpens) {
      const id = this.#ids.next();
      if (id === "used up") return this.#usedUp();
      if (id === "wait") break;
      sent++;
      if (stream.closed) continue;
      this.#ids.use(id);
      stream.id = id;
      this.#streams.set(id, stream);
      const { target, messages, weight, metadata } = stream;
      this.#sender.control(wire.encodeOpen(id, { target, messages, weight, metadata, window: stream.window.limit }));
      stream.credit(this.peer.earlyWindow);
      if (stream.sendable) this.#sender.enqueue(stream);
    }
    if (sent > 0) this.#waitingOpens = this.#waitingOpens.slice(sent);
  }

  /** A billion streams were opened: the next need a session of their own. */
  #usedUp(): void {
    this.#draining = { reason: "draining", detail: "the session's stream ids are used up" };
    this.#breakWaitingOpens(this.#draining);
    this.#events.goaway?.({ broken: this.#draining, graceMs: 0 });
  }

  #breakWaitingOpens(broken: Break): void {
    const waiting = this.#waitingOpens;
    this.#waitingOpens = [];
    for (const stream of waiting) if (stream.id === 0) stream.break(broken);
  }

  #accept(stream: Stream, metadata: readonly Tlv[]): void {
    this.#budget.earn(4);
    this.#sender.control(wire.encodeAccept(stream.id, stream.window.grant(this.#clock.now(), this.roundTripMs), metadata));
    if (this.#ids.settled()) this.#grantSession();
  }

  #resetByUs(stream: Stream, broken: Break): void {
    if (stream.id === 0 || this.#state !== "active") return;
    this.#receiver.expectStray(stream.window.left);
    this.#sender.control(wire.encodeReset(stream.id, { code: toCode(broken.reason), retryAfter: broken.retryAfter, text: broken.detail }));
  }

  #finished(stream: Stream): void {
    if (this.#lastStream === stream) this.#lastStream = undefined;
    this.#receiver.consumed(stream.window.pinned); // what it never consumed is no longer held
    if (stream.id === 0) this.#waitingOpens = this.#waitingOpens.filter((other) => other !== stream);
    else this.#streams.delete(stream.id);
    if (this.#deliverTimer !== undefined && this.#streams.size === 0) this.#delivered();
    this.#closeWhenDrained();
  }

  /** After the end of the session the last of its streams was read. */
  #delivered(): void {
    this.#deliverTimer?.cancel();
    this.#deliverTimer = undefined;
    this.#clock.soon(() => this.#clock.soon(() => this.#events.closed(undefined))); // the stream's own `closed` comes first
  }

  #release(stream: Stream): void {
    if (stream.opener) return;
    if (this.#ids.released({ settled: stream.accepted })) this.#grantSession();
    this.#closeWhenDrained();
  }

  #closeWhenDrained(): void {
    const drained = this.#draining !== undefined && this.#drainTimer !== undefined && this.#ids.live === 0;
    const spent = this.#retired && this.#waitingOpens.length === 0;
    if ((drained || spent) && this.#streams.size === 0) this.#clock.soon(() => this.close());
  }
}
