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
import { NO_ERROR, toCode, toReason } from "./code.ts";
import { Decoder, type FrameSink } from "./decoder.ts";
import { ProtocolFault } from "./fault.ts";
import * as wire from "./frame.ts";
import { Flag, FRAME_COST, Resumed, Type } from "./frame.ts";
import { decodeParameters, encodeParameters, parameterDefaults, type Parameters } from "./parameters.ts";
import { nextId, Stream, type StreamOwner } from "./stream.ts";
import { decodeText } from "./text.ts";
import { decodeTlvs, type Tlv } from "./tlv.ts";
import { ReceiveWindow } from "./window.ts";
import { Writer, type Transport } from "./writer.ts";

export interface SessionEvents {
  /** HELLO or WELCOME came and was good. */
  ready?(peer: Parameters): void;
  /** The peer opened a stream: attach, then `accept` or `reset` it; `release` it when its back end is torn down. */
  open?(stream: Stream): void;
  /** The peer will take no more streams and closes after `graceMs`. */
  goaway?(notice: { readonly broken: Break; readonly graceMs: number }): void;
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

/** OPENs that the peer may send before the first of them is settled. */
const OPEN_CREDIT = 64;
const STREAM_WINDOW_MAX = 4 << 20;
const SESSION_WINDOW_MAX = 16 << 20;
/** Cost that a stream may put on the wire in one turn, at weight 16. */
const QUANTUM = 16 << 10;
/** Filled or queued bytes that are flushed at once. */
const FLUSH_AT = 16 << 10;
const STALL_MS = 5_000;
const DEAD_AFTER_PINGS = 4;
const LINGER_MS = 1_000;
/** After an orderly end: how long what is on its way has to arrive, ours at the peer and the peer's at whoever reads it. */
const DELIVER_MS = 30_000;
/** Shortest round trip that is believed, ms. More would let windows grow on fast paths, where they only make queues. */
const MIN_ROUND_TRIP = 0.1;
const ROUND_TRIP_AGE_MS = 10_000;
/** Before so many round trips were measured, the shortest is not believed: the first ones also measure a busy start. */
const ROUND_TRIP_SAMPLES = 4;

export class Session {
  readonly role: "client" | "gateway";
  /** What the peer said of itself; the defaults until `ready`. */
  peer: Parameters = parameterDefaults;
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #events: SessionEvents;
  readonly #own: Parameters;
  readonly #maxStreams: number;
  readonly #refusal: Break | undefined;
  readonly #writer: Writer;
  readonly #decoder: Decoder;
  readonly #budget: ControlBudget;
  readonly #owner: StreamOwner;
  readonly #soonPump = (): void => {
    this.#scheduled = false;
    this.#pump();
  };
  readonly #streams = new Map<number, Stream>();

  #state: "hello" | "active" | "closing" | "closed" = "hello";
  #broken: Break | undefined;
  #helloTimer: Timer | undefined;
  #heartbeatTimer: Timer | undefined;
  #stallTimer: Timer | undefined;
  #lingerTimer: Timer | undefined;
  #drainTimer: Timer | undefined;
  #deliverTimer: Timer | undefined;
  /** Set by GOAWAY, from either side. */
  #draining: Break | undefined;

  // Streams.
  #lastOwnId: number;
  #lastPeerId: number;
  #maxOwnId = 0;
  #maxPeerId: number;
  #livePeerStreams = 0;
  #pendingPeerStreams = 0;
  #waitingOpens: Stream[] = [];
  #lastStream: Stream | undefined;

  // Receiving.
  #receiving = false;
  readonly #window: ReceiveWindow;
  #stray = 0;
  #frameStream: Stream | undefined;
  #heard = true;
  #silentBeats = 0;

  // Sending.
  #sendLimit = 0;
  #sendUsed = 0;
  #readyHead: Stream | undefined;
  #readyTail: Stream | undefined;
  #pumping = false;
  /** The first stream in line was stopped in its turn by a full socket. */
  #midTurn = false;
  #scheduled = false;
  #writtenAtBeat = 0;

  // Round trip.
  #pingSentAt = -1;
  #pingCounter = 0;
  #roundTrip = MIN_ROUND_TRIP;
  #roundTripAt = -1;
  #roundTripSamples = 0;

  constructor(options: SessionOptions) {
    this.role = options.role;
    this.#transport = options.transport;
    this.#clock = options.clock;
    this.#events = options.events;
    this.#refusal = options.refusal;
    const gateway = options.role === "gateway";
    this.#maxStreams = options.maxStreams ?? (gateway ? 256 : 0);
    this.#lastOwnId = gateway ? 0 : -1;
    this.#lastPeerId = gateway ? -1 : 0;
    this.#maxPeerId = this.#lastPeerId + 2 * Math.min(this.#maxStreams, OPEN_CREDIT);
    this.#own = { ...parameterDefaults, maxStreamId: Math.max(0, this.#maxPeerId), ...options.parameters };
    this.#window = new ReceiveWindow({
      first: this.#own.sessionLimit,
      initial: this.#own.sessionLimit,
      max: Math.max(SESSION_WINDOW_MAX, this.#own.sessionLimit),
    });
    this.#writer = new Writer(options.transport, () => this.#pump());
    this.#budget = new ControlBudget(options.clock);
    this.#decoder = new Decoder(this.#sink());
    this.#owner = this.#asOwner();
    this.#helloTimer = this.#clock.after(options.helloTimeoutMs ?? 5_000, () =>
      this.close({ reason: "preface_timeout", detail: gateway ? "no HELLO came" : "no WELCOME came" }),
    );
    if (!gateway) {
      this.#writer.control(wire.encodeHello({ min: wire.VERSION, max: wire.VERSION }, encodeParameters(this.#own)));
      this.#writer.flush();
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
    return this.#roundTripSamples < ROUND_TRIP_SAMPLES ? MIN_ROUND_TRIP : this.#roundTrip;
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
      window: this.#streamWindow(this.#own.streamWindow),
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
    this.#heard = true;
    if (this.#state === "closing") return;
    this.#receiving = true;
    try {
      this.#decoder.feed(chunk);
    } catch (fault) {
      this.#receiving = false;
      if (fault instanceof ProtocolFault) this.close({ reason: fault.reason, detail: fault.message });
      else this.close({ reason: "internal", detail: fault instanceof Error ? (fault.stack ?? fault.message) : String(fault) });
      return;
    }
    this.#receiving = false;
    this.#pump();
  }

  /** The connection is gone, or its peer will send no more. */
  transportClosed(detail?: string): void {
    this.#finish({ reason: "session_lost", detail: detail ?? "the connection was closed" });
  }

  /** Takes no more streams, lets the open ones end, and closes after the last one or after `graceMs`. */
  drain(graceMs: number): void {
    if (this.#draining !== undefined || this.#state === "closed" || this.#state === "closing") return;
    this.#draining = { reason: "draining" };
    if (this.#state === "active") {
      this.#writer.control(this.#goaway("draining", { graceMs, text: "", final: false }));
      this.#touched();
    }
    this.#drainTimer = this.#clock.after(graceMs, () => this.close({ reason: "draining", detail: "the time to drain is over" }));
    if (this.#livePeerStreams === 0 && this.#streams.size === 0) this.close();
  }

  /** Says goodbye with the reason, then closes; streams that are open break with it. Without a reason: an orderly close. */
  close(broken?: Break): void {
    if (this.#state === "closed" || this.#state === "closing") return this.#closeAgain(broken);
    const refused = this.#state === "hello" && this.role === "gateway" && broken !== undefined;
    if (refused) this.#writer.control(wire.encodeWelcome({ resumed: Resumed.REFUSED, refusal: toCode(broken.reason) }, []));
    if (refused || this.#state === "active") {
      const text = broken?.reason === "internal" ? "" : (broken?.detail ?? ""); // an internal fault's detail is for our log only
      this.#writer.farewell(this.#goaway(broken?.reason, { graceMs: 0, text, final: true }));
    }
    this.#state = "closing";
    this.#broken = broken;
    this.#breakStreams(broken ?? { reason: "session_lost", detail: "the session was closed" });
    this.#writer.stop();
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
      if (broken === undefined && this.#writer.waiting > 0 && waitedMs < DELIVER_MS) this.#linger(broken, waitedMs + LINGER_MS);
      else this.#finish(broken);
    });
  }

  #goaway(reason: Break["reason"] | undefined, how: { readonly graceMs: number; readonly text: string; readonly final: boolean }): Buffer {
    return wire.encodeGoaway({
      lastStreamId: Math.max(0, this.#lastPeerId),
      code: reason === undefined ? NO_ERROR : toCode(reason),
      grace: how.graceMs,
      text: how.text,
      final: how.final,
    });
  }

  #breakStreams(broken: Break, { butWhole = false }: { readonly butWhole?: boolean } = {}): void {
    for (const stream of this.#waitingOpens) stream.break(broken);
    this.#waitingOpens = [];
    for (const stream of [...this.#streams.values()]) if (!(butWhole && stream.whole)) stream.break(broken);
  }

  #stopTimers(): void {
    for (const timer of [this.#helloTimer, this.#heartbeatTimer, this.#stallTimer, this.#lingerTimer, this.#drainTimer]) timer?.cancel();
    this.#deliverTimer?.cancel();
    this.#helloTimer = this.#heartbeatTimer = this.#stallTimer = this.#lingerTimer = this.#drainTimer = undefined;
  }

  #finish(broken: Break | undefined): void {
    if (this.#state === "closed") return;
    const first = this.#state === "closing" ? this.#broken : (this.#broken ?? broken);
    const orderly = this.#state === "closing" && first === undefined;
    this.#state = "closed";
    this.#stopTimers();
    this.#breakStreams(first ?? { reason: "session_lost" }, { butWhole: orderly });
    this.#writer.stop();
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
    const { id, length } = at;
    if (id > wire.MAX_STREAM_ID) throw new ProtocolFault("protocol_error", "the reserved bit of a stream id is set");
    if (this.#state === "hello") {
      if (type !== (this.role === "gateway" ? Type.HELLO : Type.WELCOME) || id !== 0 || flags !== 0) {
        throw new ProtocolFault(
          "protocol_error",
          this.role === "gateway" ? "the first frame is not HELLO" : "the first frame is not WELCOME",
        );
      }
      if (length > wire.MAX_HELLO || length < 8) throw new ProtocolFault("frame_size", "the first frame has a wrong size");
      return;
    }
    if (type === Type.DATA) this.#judgeData(flags, id, length);
    else judgeControl(type, flags, at);
  }

  #judgeData(flags: number, id: number, length: number): void {
    if ((flags & ~(Flag.END_MESSAGE | Flag.FIN)) !== 0) throw new ProtocolFault("protocol_error", "an undefined flag is set");
    if (length > this.#own.maxPayload) throw new ProtocolFault("frame_size", `a payload of ${length} bytes`);
    if (id === 0) throw new ProtocolFault("protocol_error", "DATA on stream 0");
    const cost = FRAME_COST + length;
    if (!this.#window.receive(cost)) throw new ProtocolFault("flow_control", "over the session's limit");
    let stream = this.#lastStream;
    if (stream === undefined || stream.id !== id) stream = this.#lastStream = this.#streams.get(id);
    this.#frameStream = stream;
    if (stream === undefined || stream.closed) {
      this.#frameStream = undefined;
      if (this.#isIdle(id)) throw new ProtocolFault("protocol_error", "DATA on a stream that was never opened");
      this.#stray -= cost;
      if (this.#stray < 0) throw new ProtocolFault("flow_control", "DATA on a closed stream");
      return;
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
    if (stream === undefined) return this.#refund(cost);
    if (stream.closed) return; // since its header came; it was refunded whole
    stream.receive(buffer.subarray(start, end), flags, cost);
    if (this.#window.pinned > this.#window.size >>> 1) this.#watchStalls();
  }

  #refund(cost: number): void {
    if (this.#window.consume(cost)) this.#grantSession();
  }

  #isIdle(id: number): boolean {
    const peers = (id & 1) === (this.role === "gateway" ? 1 : 0);
    return id > (peers ? this.#lastPeerId : this.#lastOwnId);
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
        this.#writer.control(wire.encodePing(Type.PONG, payload));
        return this.#checkOverflow();
      case Type.PONG:
        return this.#onPong(payload);
      case Type.GOAWAY:
        return this.#onGoaway(flags, payload);
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
    this.#readPreface(payload);
    const min = payload[4] as number;
    const max = payload[5] as number;
    if (min > max || payload.readUInt16BE(6) !== 0) throw new ProtocolFault("protocol_error", "HELLO is malformed");
    if (min > wire.VERSION || max < wire.VERSION)
      throw new ProtocolFault("protocol_error", `no common version: the peer speaks ${min} to ${max}`);
    const peer = decodeParameters(decodeTlvs(payload, 8, payload.length));
    if (peer.role === "agent") throw new ProtocolFault("protocol_error", "this version does not take agents");
    if (this.#refusal !== undefined) return this.close(this.#refusal);
    this.#writer.control(wire.encodeWelcome({ resumed: Resumed.FRESH, refusal: 0 }, encodeParameters(this.#own)));
    this.#activate(peer);
    if (this.#draining !== undefined) this.#writer.control(this.#goaway("draining", { graceMs: 0, text: "", final: false }));
  }

  #onWelcome(payload: Buffer): void {
    this.#readPreface(payload);
    const resumed = payload[5] as number;
    if (payload[4] !== wire.VERSION || resumed > Resumed.REFUSED) throw new ProtocolFault("protocol_error", "WELCOME is malformed");
    if (resumed === Resumed.RESUMED) throw new ProtocolFault("protocol_error", "WELCOME resumes what was not asked for");
    if (resumed === Resumed.REFUSED) {
      // The GOAWAY that follows carries the detail; without it the code has to do.
      const broken: Break = { reason: toReason(payload.readUInt16BE(6)) };
      this.#draining = this.#broken = broken;
      this.#state = "active";
      this.#helloTimer?.cancel();
      this.#lingerTimer = this.#clock.after(LINGER_MS, () => this.#finish(broken));
      return;
    }
    const peer = decodeParameters(decodeTlvs(payload, 8, payload.length));
    this.#maxOwnId = peer.maxStreamId;
    this.#activate(peer);
    this.#sendOpens();
  }

  #readPreface(payload: Buffer): void {
    if (this.#state !== "hello") throw new ProtocolFault("protocol_error", "a second HELLO or WELCOME");
    if (payload.readUInt32BE(0) !== wire.MAGIC) throw new ProtocolFault("protocol_error", "the magic number is wrong");
  }

  #activate(peer: Parameters): void {
    this.#state = "active";
    this.peer = peer;
    this.#sendLimit = peer.sessionLimit;
    this.#helloTimer?.cancel();
    this.#helloTimer = undefined;
    this.#beatLater();
    this.#events.ready?.(peer);
  }

  #onOpen(id: number, payload: Buffer): void {
    this.#budget.charge(2);
    if (id !== nextId(this.#lastPeerId)) throw new ProtocolFault("protocol_error", `OPEN of stream ${id} after ${this.#lastPeerId}`);
    if (id > this.#maxPeerId) throw new ProtocolFault("flow_control", "OPEN over the limit");
    const length = payload.readUInt16BE(6);
    if (length < 1 || length > 255 || 8 + length > payload.length)
      throw new ProtocolFault("protocol_error", "the target's name is malformed");
    if (payload.length - 8 - length > wire.MAX_METADATA) throw new ProtocolFault("protocol_error", "the metadata is too long");
    const mode = payload[4] as number;
    const weight = payload[5] as number;
    if (mode > 1 || weight === 0) throw new ProtocolFault("protocol_error", "OPEN has an unknown mode or weight 0");
    const stream = new Stream(this.#owner, {
      target: decodeText(payload, 8, 8 + length),
      messages: mode === wire.Mode.MESSAGES,
      weight,
      metadata: decodeTlvs(payload, 8 + length, payload.length),
      window: this.#streamWindow(this.#own.earlyWindow),
      sendLimit: payload.readUInt32BE(0),
      opener: false,
    });
    stream.id = id;
    this.#lastPeerId = id;
    this.#livePeerStreams++;
    this.#pendingPeerStreams++;
    if (this.#draining !== undefined || this.#events.open === undefined) {
      this.#streams.set(id, stream);
      stream.reset(this.#draining ?? { reason: "forbidden" });
      stream.release();
      return;
    }
    this.#streams.set(id, stream);
    this.#events.open(stream);
  }

  #onAccept(id: number, payload: Buffer): void {
    if ((id & 1) === (this.role === "gateway" ? 1 : 0) || this.#isIdle(id))
      throw new ProtocolFault("protocol_error", "ACCEPT of a stream that we did not open");
    const metadata = decodeTlvs(payload, 8, payload.length);
    if (payload.length - 8 > wire.MAX_METADATA) throw new ProtocolFault("protocol_error", "the metadata is too long");
    const stream = this.#streams.get(id);
    if (stream === undefined) return this.#budget.charge(2);
    if (stream.accepted) throw new ProtocolFault("protocol_error", "a second ACCEPT");
    stream.accepted = true;
    stream.metadata = metadata;
    stream.credit(payload.readUInt32BE(0));
    stream.onAccepted?.();
  }

  #onReset(id: number, payload: Buffer): void {
    if (this.#isIdle(id)) throw new ProtocolFault("protocol_error", "RESET of a stream that was never opened");
    const stream = this.#streams.get(id);
    const detail = decodeText(payload, 8, payload.length);
    this.#budget.charge(stream !== undefined && !stream.opener && !stream.accepted ? 20 : 2);
    if (stream === undefined) return;
    const retryAfter = payload.readUInt32BE(4);
    const reason = toReason(payload.readUInt32BE(0));
    stream.break({ reason, ...(detail === "" ? {} : { detail }), ...(retryAfter > 0 ? { retryAfter } : {}) });
  }

  #onCredit(id: number, payload: Buffer): void {
    if (payload.length !== (id === 0 ? 12 : 8)) throw new ProtocolFault("frame_size", "CREDIT has a wrong size");
    const limit = wire.getU64(payload, 0);
    if (limit < 0) throw new ProtocolFault("protocol_error", "a limit beyond 2^53-1");
    this.#budget.charge(1);
    if (id === 0) {
      const maxId = payload.readUInt32BE(8);
      if (maxId > wire.MAX_STREAM_ID) throw new ProtocolFault("protocol_error", "the reserved bit of a stream id is set");
      this.#sendLimit = Math.max(this.#sendLimit, limit);
      if (maxId > this.#maxOwnId) {
        this.#maxOwnId = maxId;
        this.#sendOpens();
      }
    } else if (this.#isIdle(id)) throw new ProtocolFault("protocol_error", "CREDIT for a stream that was never opened");
    else this.#streams.get(id)?.credit(limit);
  }

  #onGoaway(flags: number, payload: Buffer): void {
    const code = payload.readUInt32BE(4);
    const graceMs = payload.readUInt32BE(8);
    const detail = decodeText(payload, 12, payload.length);
    this.#budget.charge(2);
    const broken: Break = { reason: toReason(code), ...(detail === "" ? {} : { detail }) };
    if ((flags & Flag.FINAL) !== 0) {
      const first = code === NO_ERROR ? undefined : broken;
      this.#state = "closing";
      this.#broken = first;
      // Streams of which all has come and gone only have to be read to their end.
      this.#breakStreams(first ?? { reason: "session_lost", detail: "the other end closed the session" }, {
        butWhole: first === undefined,
      });
      this.#stopTimers();
      this.#writer.stop();
      this.#transport.end();
      return this.#linger(first);
    }
    if (this.#draining !== undefined) return;
    this.#draining = { reason: "draining", ...(detail === "" ? {} : { detail }) };
    const waiting = this.#waitingOpens;
    this.#waitingOpens = [];
    for (const stream of waiting) stream.break(this.#draining);
    this.#events.goaway?.({ broken: code === NO_ERROR ? { reason: "draining" } : broken, graceMs });
  }

  // ---- heartbeat

  #ping(): void {
    if (this.#pingSentAt >= 0) return;
    const opaque = Buffer.alloc(8);
    wire.putU64(opaque, ++this.#pingCounter, 0);
    this.#pingSentAt = this.#clock.now();
    this.#writer.control(wire.encodePing(Type.PING, opaque));
    this.#touched();
  }

  #onPong(payload: Buffer): void {
    this.#budget.charge(1);
    if (this.#pingSentAt < 0 || wire.getU64(payload, 0) !== this.#pingCounter) return;
    const now = this.#clock.now();
    const seen = Math.max(MIN_ROUND_TRIP, now - this.#pingSentAt);
    this.#pingSentAt = -1;
    this.#roundTrip = this.#roundTripAt < 0 || now - this.#roundTripAt > 60_000 ? seen : Math.min(this.#roundTrip, seen);
    this.#roundTripAt = now;
    if (++this.#roundTripSamples < ROUND_TRIP_SAMPLES) this.#ping();
  }

  #beatLater(): void {
    this.#heartbeatTimer = this.#clock.after(this.#own.heartbeatMs, () => this.#beat());
  }

  #beat(): void {
    if (this.#writer.waiting > 0 && this.#writer.written === this.#writtenAtBeat) {
      return this.#finish({ reason: "slow_reader", detail: "the peer has read nothing for a heartbeat" });
    }
    this.#writtenAtBeat = this.#writer.written;
    this.#silentBeats = this.#heard ? 0 : this.#silentBeats + 1;
    this.#heard = false;
    if (this.#silentBeats >= DEAD_AFTER_PINGS)
      return this.#finish({ reason: "session_lost", detail: "the peer has been silent for four heartbeats" });
    if (this.#silentBeats > 0) {
      this.#pingSentAt = -1;
      this.#ping();
    }
    this.#beatLater();
  }

  // ---- credit out

  #streamWindow(first: number): ReceiveWindow {
    const initial = this.#own.streamWindow;
    return new ReceiveWindow({ first, initial, max: Math.max(STREAM_WINDOW_MAX, initial) });
  }

  #consumed(stream: Stream, cost: number): void {
    if (stream.window.consume(cost) && stream.accepted && this.#state === "active") {
      const now = this.#clock.now();
      if (this.#roundTripAt < 0 || now - this.#roundTripAt > ROUND_TRIP_AGE_MS) this.#ping();
      stream.consumedAt = now;
      this.#writer.control(wire.encodeStreamCredit(stream.id, stream.window.grant(now, this.roundTripMs)));
      this.#window.grow(stream.window.size * 1.5);
      this.#touched();
    }
    if (this.#window.consume(cost)) this.#grantSession();
  }

  #grantSession(): void {
    if (this.#state !== "active") return;
    this.#writer.control(wire.encodeSessionCredit(this.#window.grant(this.#clock.now(), this.roundTripMs), Math.max(0, this.#maxPeerId)));
    this.#touched();
  }

  /** Streams whose reader stopped pin the session's window: they may not stall the others. */
  #watchStalls(): void {
    if (this.#stallTimer !== undefined) return;
    this.#stallTimer = this.#clock.after(STALL_MS, () => {
      this.#stallTimer = undefined;
      this.#breakStall();
    });
  }

  #breakStall(): void {
    const half = this.#window.size >>> 1;
    if (this.#state !== "active" || this.#window.pinned <= half) return;
    const now = this.#clock.now();
    let pinned = 0;
    let worst: Stream | undefined;
    for (const stream of this.#streams.values()) {
      if (stream.window.pinned === 0 || now - stream.consumedAt < STALL_MS) continue;
      pinned += stream.window.pinned;
      if (worst === undefined || stream.window.pinned > worst.window.pinned) worst = stream;
    }
    if (pinned > half) {
      if (this.#window.grow(this.#window.size * 2)) this.#grantSession();
      else worst?.reset({ reason: "slow_reader", detail: "its reader stopped while it filled the session" });
    }
    this.#watchStalls();
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
        return session.#sendLimit - session.#sendUsed;
      },
      get direct() {
        return session.#readyHead === undefined && !session.#writer.blocked && session.#state === "active" ? session.#writer : undefined;
      },
      sent: (cost) => {
        session.#sendUsed += cost;
        session.#budget.earnBytes(cost);
      },
      ready: (stream) => session.#enqueue(stream),
      touched: () => session.#touched(),
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
      const id = nextId(this.#lastOwnId);
      if (id === 0) return this.#usedUp();
      if (id > this.#maxOwnId) break;
      sent++;
      if (stream.closed) continue;
      this.#lastOwnId = id;
      stream.id = id;
      this.#streams.set(id, stream);
      this.#writer.control(
        wire.encodeOpen(id, {
          window: stream.window.limit,
          messages: stream.messages,
          weight: stream.weight,
          target: stream.target,
          metadata: stream.metadata,
        }),
      );
      stream.credit(this.peer.earlyWindow);
      if (stream.sendable) this.#enqueue(stream);
    }
    if (sent > 0) {
      this.#waitingOpens = this.#waitingOpens.slice(sent);
      this.#touched();
    }
  }

  /** A billion streams were opened: the next need a session of their own. */
  #usedUp(): void {
    const waiting = this.#waitingOpens;
    this.#waitingOpens = [];
    this.#draining = { reason: "draining", detail: "the session's stream ids are used up" };
    for (const stream of waiting) if (stream.id === 0) stream.break(this.#draining);
    this.#events.goaway?.({ broken: this.#draining, graceMs: 0 });
  }

  #accept(stream: Stream, metadata: readonly Tlv[]): void {
    this.#pendingPeerStreams--;
    this.#budget.earn(4);
    this.#writer.control(wire.encodeAccept(stream.id, stream.window.grant(this.#clock.now(), this.roundTripMs), metadata));
    this.#raiseOpenCredit();
    this.#touched();
  }

  #resetByUs(stream: Stream, broken: Break): void {
    if (stream.id === 0 || this.#state !== "active") return;
    this.#stray += Math.max(0, stream.window.left);
    this.#writer.control(wire.encodeReset(stream.id, { code: toCode(broken.reason), retryAfter: broken.retryAfter, text: broken.detail }));
    this.#touched();
    this.#checkOverflow();
  }

  #finished(stream: Stream): void {
    if (this.#lastStream === stream) this.#lastStream = undefined;
    this.#refund(stream.window.pinned); // what it never consumed is no longer held
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
    this.#livePeerStreams--;
    if (!stream.accepted) this.#pendingPeerStreams--;
    this.#raiseOpenCredit();
    this.#closeWhenDrained();
  }

  /** The peer may open as many as are free, but never more than 64 ahead of what was settled. */
  #raiseOpenCredit(): void {
    const ahead = Math.min(OPEN_CREDIT - this.#pendingPeerStreams, this.#maxStreams - this.#livePeerStreams);
    const raised = Math.min(wire.MAX_STREAM_ID, this.#lastPeerId + 2 * ahead);
    // In steps of a quarter, so that it costs little, unless the peer has nearly none left.
    const step = Math.max(2, Math.min(OPEN_CREDIT, this.#maxStreams) >>> 1);
    if (raised <= this.#maxPeerId || (raised - this.#maxPeerId < step && this.#maxPeerId - this.#lastPeerId >= step)) return;
    this.#maxPeerId = raised;
    this.#grantSession();
  }

  #closeWhenDrained(): void {
    if (this.#draining === undefined || this.#drainTimer === undefined || this.#streams.size > 0 || this.#livePeerStreams > 0) return;
    this.#clock.soon(() => this.close());
  }

  // ---- frames out

  #enqueue(stream: Stream): void {
    if (!stream.queued) {
      stream.queued = true;
      stream.next = undefined;
      if (this.#readyTail === undefined) this.#readyHead = stream;
      else this.#readyTail.next = stream;
      this.#readyTail = stream;
    }
    this.#touched();
    if (stream.waiting >= FLUSH_AT && !this.#receiving) this.#pump();
  }

  #touched(): void {
    if (this.#receiving || this.#pumping) return;
    if (this.#writer.filled >= FLUSH_AT) return this.#writer.flush();
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.soon(this.#soonPump);
  }

  /** Sends what may go: each ready stream in turn, as much as its weight gives it. */
  #pump(): void {
    if (this.#pumping || this.#state === "closed" || this.#state === "closing") return;
    this.#pumping = true;
    const writer = this.#writer;
    while (this.#readyHead !== undefined && !writer.blocked && this.#sendLimit - this.#sendUsed >= FRAME_COST) {
      const stream: Stream = this.#readyHead;
      if (!this.#midTurn) stream.deficit += (QUANTUM * stream.weight) >>> 4;
      this.#midTurn = false;
      let cost = 1;
      while (stream.deficit > 0 && !writer.blocked && (cost = stream.sendOne(writer)) > 0) stream.deficit -= cost;
      if (stream.deficit > 0 && writer.blocked && stream.sendable) {
        this.#midTurn = true; // its turn goes on when the socket has room
        stream.afterSend();
        break;
      }
      this.#readyHead = stream.next;
      if (this.#readyHead === undefined) this.#readyTail = undefined;
      stream.next = undefined;
      stream.queued = false;
      if (cost === 0 || !stream.sendable) stream.deficit = 0;
      if (stream.sendable) this.#enqueue(stream);
      stream.afterSend();
      if (cost === 0 && this.#sendLimit - this.#sendUsed <= FRAME_COST) break; // the session's credit is used up
    }
    this.#pumping = false;
    writer.flush();
    this.#checkOverflow();
  }

  #checkOverflow(): void {
    if (this.#writer.overflow && this.#state !== "closed")
      this.#finish({ reason: "slow_reader", detail: "the peer does not read our control frames" });
  }
}

/** Sizes and flags of control frames, before anything of them is kept. */
function judgeControl(type: number, flags: number, { id, length }: { readonly id: number; readonly length: number }): void {
  const bounds = controlBounds(type);
  if (bounds === undefined) {
    if ((type & wire.IGNORABLE) === 0) throw new ProtocolFault("protocol_error", `a frame of unknown type ${type}`);
    if (length > parameterDefaults.maxPayload) throw new ProtocolFault("frame_size", `an ignorable frame of ${length} bytes`);
    return;
  }
  const [min, max, onStream] = bounds;
  if (length < min || length > max) throw new ProtocolFault("frame_size", `a frame of type ${type} with ${length} bytes`);
  if (flags !== 0 && !(type === Type.GOAWAY && flags === Flag.FINAL)) throw new ProtocolFault("protocol_error", "an undefined flag is set");
  if (onStream === (id === 0) && type !== Type.CREDIT) throw new ProtocolFault("protocol_error", `a frame of type ${type} on stream ${id}`);
}

function controlBounds(type: number): readonly [min: number, max: number, onStream: boolean] | undefined {
  switch (type) {
    case Type.OPEN:
      return [9, 8 + 255 + wire.MAX_METADATA, true];
    case Type.ACCEPT:
      return [8, 8 + wire.MAX_METADATA, true];
    case Type.RESET:
      return [8, 8 + wire.MAX_REASON, true];
    case Type.CREDIT:
      return [8, 12, true];
    case Type.PING:
    case Type.PONG:
      return [8, 8, false];
    case Type.GOAWAY:
      return [12, 12 + wire.MAX_REASON, false];
    case Type.HELLO:
    case Type.WELCOME:
      return [8, wire.MAX_HELLO, false];
    case Type.ACK:
      return [8, 8, false];
    case Type.REGISTER:
    case Type.REGISTERED:
    case Type.UNREGISTER:
      return [6, wire.MAX_HELLO, false];
    default:
      return undefined;
  }
}
