/**
 * Control frames as they arrive: which sizes and flags each may have, judged before its payload is kept, and what stands in it.
 * Promises: a malformed frame is a ProtocolFault, never anything else; values in, values out.
 * Leaves to others: order, ids, credit, what the fields mean for a session.
 */
import type { Buffer } from "node:buffer";
import type { Break } from "../base/channel.ts";
import { NO_ERROR, toReason } from "./code.ts";
import { ProtocolFault } from "./fault.ts";
import * as wire from "./frame.ts";
import { Flag, Resumed, Type, type OpenFields } from "./frame.ts";
import { decodeParameters, parameterDefaults, readRetryAfter, type Parameters } from "./parameters.ts";
import { decodeText } from "./text.ts";
import { CRITICAL, decodeTlvs, type Tlv } from "./tlv.ts";

/** Sizes, flags and place of a control frame. */
export function judgeControl(type: number, flags: number, { id, length }: { readonly id: number; readonly length: number }): void {
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

/** The first frame of a connection, which may be nothing else than `type`. */
export function judgeFirst(
  type: number,
  flags: number,
  at: { readonly id: number; readonly length: number; readonly wanted: number },
): void {
  if (type !== at.wanted || at.id !== 0 || flags !== 0)
    throw new ProtocolFault("protocol_error", `the first frame is not ${at.wanted === Type.HELLO ? "HELLO" : "WELCOME"}`);
  if (at.length > wire.MAX_HELLO || at.length < 8) throw new ProtocolFault("frame_size", "the first frame has a wrong size");
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
    case Type.NOTICE:
      return [0, wire.MAX_NOTICE, false];
    case Type.REGISTER:
    case Type.REGISTERED:
    case Type.UNREGISTER:
      return [6, wire.MAX_HELLO, false];
    default:
      return undefined;
  }
}

/** What a client says of itself. */
export function readHello(payload: Buffer): Parameters {
  requireMagic(payload);
  const min = payload[4] as number;
  const max = payload[5] as number;
  if (min > max || payload.readUInt16BE(6) !== 0) throw new ProtocolFault("protocol_error", "HELLO is malformed");
  if (min > wire.VERSION || max < wire.VERSION)
    throw new ProtocolFault("protocol_error", `no common version: the peer speaks ${min} to ${max}`);
  const peer = decodeParameters(decodeTlvs(payload, 8, payload.length));
  if (peer.role === "agent") throw new ProtocolFault("protocol_error", "this version does not take agents");
  return peer;
}

/** What a gateway says of itself, or why it will not have us. */
export function readWelcome(
  payload: Buffer,
): { readonly refused: Break; readonly peer?: undefined } | { readonly refused?: undefined; readonly peer: Parameters } {
  requireMagic(payload);
  const resumed = payload[5] as number;
  if (payload[4] !== wire.VERSION || resumed > Resumed.REFUSED) throw new ProtocolFault("protocol_error", "WELCOME is malformed");
  if (resumed === Resumed.RESUMED) throw new ProtocolFault("protocol_error", "WELCOME resumes what was not asked for");
  const parameters = decodeTlvs(payload, 8, payload.length);
  if (resumed !== Resumed.REFUSED) return { peer: decodeParameters(parameters) };
  // The GOAWAY that follows carries the detail; without it the code has to do.
  return { refused: readBreak({ code: payload.readUInt16BE(6), retryAfter: readRetryAfter(parameters) }) };
}

function requireMagic(payload: Buffer): void {
  if (payload.readUInt32BE(0) !== wire.MAGIC) throw new ProtocolFault("protocol_error", "the magic number is wrong");
}

export function readOpen(payload: Buffer): Required<OpenFields> {
  const length = payload.readUInt16BE(6);
  if (length < 1 || length > 255 || 8 + length > payload.length)
    throw new ProtocolFault("protocol_error", "the target's name is malformed");
  const mode = payload[4] as number;
  const weight = payload[5] as number;
  if (mode > 1 || weight === 0) throw new ProtocolFault("protocol_error", "OPEN has an unknown mode or weight 0");
  return {
    window: payload.readUInt32BE(0),
    messages: mode === wire.Mode.MESSAGES,
    weight,
    target: decodeText(payload, 8, 8 + length),
    metadata: readMetadata(payload, 8 + length),
  };
}

export function readAccept(payload: Buffer): { readonly window: number; readonly metadata: readonly Tlv[] } {
  return { window: payload.readUInt32BE(0), metadata: readMetadata(payload, 8) };
}

/** Shared: idle streams keep it. */
const none: readonly Tlv[] = [];

function readMetadata(payload: Buffer, start: number): readonly Tlv[] {
  if (payload.length === start) return none;
  if (payload.length - start > wire.MAX_METADATA) throw new ProtocolFault("protocol_error", "the metadata is too long");
  const metadata = decodeTlvs(payload, start, payload.length);
  for (const { key } of metadata) if ((key & CRITICAL) !== 0) throw new ProtocolFault("protocol_error", `unknown critical metadata ${key}`);
  return metadata;
}

export function readReset(payload: Buffer): Break {
  return readBreak({
    code: payload.readUInt32BE(0),
    retryAfter: payload.readUInt32BE(4),
    detail: decodeText(payload, 8, payload.length),
  });
}

/** `maxStreamId` only of the session's credit, on stream 0. */
export function readCredit(id: number, payload: Buffer): { readonly limit: number; readonly maxStreamId: number } {
  if (payload.length !== (id === 0 ? 12 : 8)) throw new ProtocolFault("frame_size", "CREDIT has a wrong size");
  const limit = wire.getU64(payload, 0);
  if (limit < 0) throw new ProtocolFault("protocol_error", "a limit beyond 2^53-1");
  const maxStreamId = id === 0 ? payload.readUInt32BE(8) : 0;
  if (maxStreamId > wire.MAX_STREAM_ID) throw new ProtocolFault("protocol_error", "the reserved bit of a stream id is set");
  return { limit, maxStreamId };
}

export interface Goaway {
  /** Undefined: nothing is wrong. */
  readonly broken: Break | undefined;
  readonly detail: string;
  readonly graceMs: number;
  readonly final: boolean;
}

export function readGoaway(flags: number, payload: Buffer): Goaway {
  const code = payload.readUInt32BE(4);
  const detail = decodeText(payload, 12, payload.length);
  return {
    broken: code === NO_ERROR ? undefined : readBreak({ code, detail }),
    detail,
    graceMs: payload.readUInt32BE(8),
    final: (flags & Flag.FINAL) !== 0,
  };
}

/** Keys that this version does not know are passed over: whoever needs to be understood does not send a NOTICE. */
export function readNotice(payload: Buffer): wire.Notice {
  let notice: wire.Notice = {};
  for (const { key, value } of decodeTlvs(payload, 0, payload.length)) {
    if ((key & CRITICAL) !== 0) throw new ProtocolFault("protocol_error", "a notice is critical");
    if (key !== wire.NoticeKey.CERTIFICATE_EXPIRES) continue;
    const seconds = value.length === 8 ? wire.getU64(value, 0) : -1;
    if (seconds < 0 || seconds > wire.MAX_MOMENT_S) throw new ProtocolFault("protocol_error", "a notice names no moment");
    notice = { certificateExpiresAt: seconds * 1000 };
  }
  return notice;
}

function readBreak(told: { readonly code: number; readonly retryAfter?: number; readonly detail?: string }): Break {
  const { code, retryAfter = 0, detail = "" } = told;
  return { reason: toReason(code), ...(detail === "" ? {} : { detail }), ...(retryAfter > 0 ? { retryAfter } : {}) };
}
