/**
 * Frames as they come: which may, judged at their header, and what each does to streams, credit and the session's life.
 * Promises: whatever a peer sends against the protocol is a ProtocolFault before any of its payload is kept.
 * Leaves to others: cutting bytes into frames (decoder.ts), the fields of control frames (control.ts), how a session ends (session.ts).
 */
import type { Buffer } from "node:buffer";
import type { Batch, Break } from "../base/channel.ts";
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
import type { FrameSink } from "./decoder.ts";
import { ProtocolFault } from "./fault.ts";
import * as wire from "./frame.ts";
import { Flag, FRAME_COST, Type } from "./frame.ts";
import type { Parameters } from "./parameters.ts";
import type { SessionParts } from "./parts.ts";
import type { Roster } from "./roster.ts";
import type { Stream } from "./stream.ts";

export interface IncomingOptions {
  readonly roster: Roster;
  hello(peer: Parameters): void;
  welcome(peer: Parameters): void;
  /** WELCOME said no. */
  refused(broken: Break): void;
  /** GOAWAY FINAL; undefined: in order. */
  over(broken: Break | undefined): void;
}

export class Incoming implements FrameSink {
  readonly #parts: SessionParts;
  readonly #roster: Roster;
  readonly #options: IncomingOptions;
  /** The stream of the last DATA frame, and that of the one whose header was judged. */
  #lastStream: Stream | undefined;
  #frameStream: Stream | undefined;
  /** Whether that frame is a whole message. */
  #isWhole = false;
  /** Whole messages of one stream in one chunk, which go on together: before anything else does. */
  #batch: Batch | undefined;
  #batchStream: Stream | undefined;
  #batchCost = 0;

  constructor(parts: SessionParts, options: IncomingOptions) {
    this.#parts = parts;
    this.#roster = options.roster;
    this.#options = options;
  }

  /** The stream is closed. */
  forget(stream: Stream): void {
    if (this.#lastStream === stream) this.#lastStream = undefined;
  }

  header(type: number, flags: number, id: number, length: number): void {
    if (id > wire.MAX_STREAM_ID) throw new ProtocolFault("protocol_error", "the reserved bit of a stream id is set");
    const { state, role } = this.#parts;
    if (state.phase === "hello") judgeFirst(type, flags, { id, length, wanted: role === "gateway" ? Type.HELLO : Type.WELCOME });
    else if (type === Type.DATA) this.#judgeData(flags, id, length);
    else judgeControl(type, flags, { id, length });
  }

  frame(type: number, flags: number, id: number, buffer: Buffer, start: number, end: number): boolean {
    if (type === Type.DATA) this.#onData(flags, buffer, start, end);
    else {
      this.flush();
      if (this.#goesOn) this.#onControl(type, flags, id, buffer.subarray(start, end)); // else who got the batch closed the session
    }
    return this.#goesOn;
  }

  get #goesOn(): boolean {
    const { phase } = this.#parts.state;
    return phase === "hello" || phase === "active";
  }

  // ---- DATA

  #judgeData(flags: number, id: number, length: number): void {
    if ((flags & ~(Flag.END_MESSAGE | Flag.FIN)) !== 0) throw new ProtocolFault("protocol_error", "an undefined flag is set");
    if (length > this.#parts.own.maxPayload) throw new ProtocolFault("frame_size", `a payload of ${length} bytes`);
    if (id === 0) throw new ProtocolFault("protocol_error", "DATA on stream 0");
    const cost = FRAME_COST + length;
    const { receiver } = this.#roster;
    let stream = this.#lastStream;
    if (stream === undefined || stream.id !== id) {
      if (stream !== undefined) this.#roster.changed();
      this.#lastStream = stream = this.#roster.streams.get(id);
    }
    receiver.receive(cost);
    this.#frameStream = stream;
    if (stream === undefined || stream.closed) {
      this.#frameStream = undefined;
      if (this.#parts.ids.isIdle(id)) throw new ProtocolFault("protocol_error", "DATA on a stream that was never opened");
      return receiver.receiveStray(cost);
    }
    if (stream.opener && !stream.accepted) throw new ProtocolFault("protocol_error", "DATA before ACCEPT");
    if (!stream.window.receive(cost)) throw new ProtocolFault("flow_control", "over the stream's limit");
    this.#isWhole = flags === Flag.END_MESSAGE && stream.betweenMessages;
    const fault = stream.judge(length, flags);
    if (fault === "too_large") {
      this.flush();
      stream.reset({ reason: "message_too_large" });
    } else if (fault !== undefined) throw new ProtocolFault("protocol_error", fault);
  }

  #onData(flags: number, buffer: Buffer, start: number, end: number): void {
    const cost = FRAME_COST + end - start;
    const stream = this.#frameStream;
    const { receiver } = this.#roster;
    this.#parts.budget.earnBytes(cost);
    if (stream === undefined) return receiver.consumed(cost);
    if (stream !== this.#batchStream || !this.#isWhole || buffer !== this.#batch?.chunk) this.flush();
    if (stream.closed) return; // since its header came; it was refunded whole
    if (this.#isWhole && (stream === this.#batchStream || stream.takesBatches)) return this.#collect(stream, { buffer, start, end });
    stream.receive(buffer.subarray(start, end), flags, cost);
    receiver.held();
  }

  #collect(stream: Stream, { buffer, start, end }: { readonly buffer: Buffer; readonly start: number; readonly end: number }): void {
    if (this.#batch === undefined) {
      this.#batch = { chunk: buffer, places: [] };
      this.#batchStream = stream;
    }
    this.#batch.places.push(start, end);
    this.#batchCost += FRAME_COST + end - start;
  }

  /** Hands on what was collected: the chunk is over, or something else comes. */
  flush(): void {
    const [batch, stream, cost] = [this.#batch, this.#batchStream, this.#batchCost];
    if (batch === undefined || stream === undefined) return;
    this.#batch = this.#batchStream = undefined;
    this.#batchCost = 0;
    if (stream.closed) return;
    stream.receiveBatch(batch, cost);
    this.#roster.receiver.held();
  }

  // ---- control frames

  #onControl(type: number, flags: number, id: number, payload: Buffer): void {
    const { budget, sender, heartbeat } = this.#parts;
    switch (type) {
      case Type.HELLO:
        this.#requireFirst();
        return this.#options.hello(readHello(payload));
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
        budget.charge(1);
        return sender.control(wire.encodePing(Type.PONG, payload));
      case Type.PONG:
        budget.charge(1);
        return heartbeat.pong(payload);
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
        budget.charge(1); // ignorable, or the header had been refused
    }
  }

  #requireFirst(): void {
    if (this.#parts.state.phase !== "hello") throw new ProtocolFault("protocol_error", "a second HELLO or WELCOME");
  }

  #onWelcome(payload: Buffer): void {
    this.#requireFirst();
    const { refused, peer } = readWelcome(payload);
    if (peer === undefined) this.#options.refused(refused);
    else this.#options.welcome(peer);
  }

  #onOpen(id: number, payload: Buffer): void {
    const { budget, state, events } = this.#parts;
    budget.charge(2);
    const stream = this.#roster.opened(id, readOpen(payload));
    if (state.draining === undefined && events.open !== undefined) return events.open(stream);
    stream.reset(state.draining ?? { reason: "forbidden" });
    stream.release();
  }

  #onAccept(id: number, payload: Buffer): void {
    const { budget, ids } = this.#parts;
    if (ids.isPeers(id) || ids.isIdle(id)) throw new ProtocolFault("protocol_error", "ACCEPT of a stream that we did not open");
    const { window, metadata } = readAccept(payload);
    const stream = this.#roster.streams.get(id);
    if (stream === undefined) return budget.charge(2);
    if (stream.accepted) throw new ProtocolFault("protocol_error", "a second ACCEPT");
    stream.accepted = true;
    stream.metadata = metadata;
    stream.credit(window);
    stream.onAccepted?.();
  }

  #onReset(id: number, payload: Buffer): void {
    const { budget, ids } = this.#parts;
    if (ids.isIdle(id)) throw new ProtocolFault("protocol_error", "RESET of a stream that was never opened");
    const stream = this.#roster.streams.get(id);
    const broken = readReset(payload);
    budget.charge(stream !== undefined && !stream.opener && !stream.accepted ? 20 : 2);
    stream?.break(broken);
  }

  #onCredit(id: number, payload: Buffer): void {
    const { budget, ids, sender } = this.#parts;
    const { limit, maxStreamId } = readCredit(id, payload);
    budget.charge(1);
    if (id === 0) {
      sender.credit(limit);
      if (maxStreamId > ids.maxOwn) {
        ids.maxOwn = maxStreamId;
        this.#roster.sendOpens();
      }
    } else if (ids.isIdle(id)) throw new ProtocolFault("protocol_error", "CREDIT for a stream that was never opened");
    else this.#roster.streams.get(id)?.credit(limit);
  }

  #onGoaway(flags: number, payload: Buffer): void {
    const { broken, detail, graceMs, final } = readGoaway(flags, payload);
    const { budget, state, events } = this.#parts;
    budget.charge(2);
    if (final) return this.#options.over(broken);
    if (state.draining !== undefined) return;
    state.draining = { reason: "draining", ...(detail === "" ? {} : { detail }) };
    this.#roster.breakWaiting(state.draining);
    events.goaway?.({ broken: broken ?? { reason: "draining" }, graceMs });
  }

  #onNotice(payload: Buffer): void {
    const { budget, state, events, role } = this.#parts;
    budget.charge(1);
    if (role === "gateway" || state.notices >= wire.MAX_NOTICES) return; // as one who does not know the frame
    state.notices++;
    events.notice?.(readNotice(payload));
  }
}
