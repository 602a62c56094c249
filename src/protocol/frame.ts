/**
 * The shape of pipegate/1 frames (docs/protocol.md): an 8-byte header, then up to 65,535 bytes. Constants, and encoders for
 * every frame that is sent but DATA, whose header the writer and the outbox put straight into their buffers.
 * Promises: what is encoded here is accepted by a conforming decoder. Leaves to others: order, credit, meaning.
 */
import { Buffer } from "node:buffer";
import { encodeTlvs, type Tlv } from "./tlv.ts";

export const ALPN = "pipegate/1";
export const MAGIC = 0x50475431; // "PGT1"
export const VERSION = 1;
export const HEADER = 8;

export const Type = {
  DATA: 0x00,
  OPEN: 0x01,
  ACCEPT: 0x02,
  RESET: 0x03,
  REGISTER: 0x04,
  REGISTERED: 0x05,
  UNREGISTER: 0x06,
  HELLO: 0x80,
  WELCOME: 0x81,
  ACK: 0x82,
  CREDIT: 0x83,
  PING: 0x84,
  PONG: 0x85,
  GOAWAY: 0x86,
  NOTICE: 0xc0,
} as const;

/** A frame of a type that has this bit may be ignored by whoever does not know it. */
export const IGNORABLE = 0x40;

export const Flag = { END_MESSAGE: 0x01, FIN: 0x02, FINAL: 0x01 } as const;

export const Mode = { BYTES: 0, MESSAGES: 1 } as const;

/** Cost of a DATA frame beyond its payload, in credit: what a frame of any size costs to hold. */
export const FRAME_COST = 64;

/** Largest HELLO and WELCOME payload, metadata of OPEN and ACCEPT, and reason text, in bytes. */
export const MAX_HELLO = 4096;
export const MAX_METADATA = 4096;
export const MAX_REASON = 256;
export const MAX_STREAM_ID = 0x7fffffff;
/** What every peer takes as the payload of a DATA frame. */
export const MIN_PAYLOAD = 1024;
/** Largest NOTICE payload in bytes, how many of a session are sent and read, and the last moment that one can name: the end of the year 9999. */
export const MAX_NOTICE = 1024;
export const MAX_NOTICES = 16;
export const MAX_MOMENT_S = 253_402_300_799;

/** Keys of a NOTICE. */
export const NoticeKey = { CERTIFICATE_EXPIRES: 1 } as const;

/** Writes a header at `offset`. */
export function putHeader(buffer: Buffer, offset: number, length: number, type: number, flags: number, id: number): void {
  buffer[offset] = length >>> 8;
  buffer[offset + 1] = length;
  buffer[offset + 2] = type;
  buffer[offset + 3] = flags;
  buffer[offset + 4] = id >>> 24;
  buffer[offset + 5] = id >>> 16;
  buffer[offset + 6] = id >>> 8;
  buffer[offset + 7] = id;
}

function frame(type: number, flags: number, id: number, length: number): Buffer {
  const buffer = Buffer.allocUnsafe(HEADER + length);
  putHeader(buffer, 0, length, type, flags, id);
  return buffer;
}

/** Writes a whole number up to 2^53-1 as u64. */
export function putU64(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32BE(Math.floor(value / 0x100000000), offset);
  buffer.writeUInt32BE(value % 0x100000000, offset + 4);
}

/** Reads a u64; -1 when it is beyond 2^53-1. */
export function getU64(buffer: Buffer, offset: number): number {
  const high = buffer.readUInt32BE(offset);
  return high > 0x1fffff ? -1 : high * 0x100000000 + buffer.readUInt32BE(offset + 4);
}

export interface OpenFields {
  readonly window: number;
  readonly messages: boolean;
  readonly weight: number;
  readonly target: string;
  readonly metadata?: readonly Tlv[];
}

export function encodeOpen(id: number, open: OpenFields): Buffer {
  const target = Buffer.from(open.target, "utf8");
  const metadata = encodeTlvs(open.metadata ?? []);
  if (target.length < 1 || target.length > 255 || metadata.length > MAX_METADATA) throw new RangeError("target or metadata too long");
  const buffer = frame(Type.OPEN, 0, id, 8 + target.length + metadata.length);
  buffer.writeUInt32BE(open.window, HEADER);
  buffer[HEADER + 4] = open.messages ? Mode.MESSAGES : Mode.BYTES;
  buffer[HEADER + 5] = open.weight;
  buffer.writeUInt16BE(target.length, HEADER + 6);
  target.copy(buffer, HEADER + 8);
  metadata.copy(buffer, HEADER + 8 + target.length);
  return buffer;
}

export function encodeAccept(id: number, window: number, metadata: readonly Tlv[] = []): Buffer {
  const tail = encodeTlvs(metadata);
  const buffer = frame(Type.ACCEPT, 0, id, 8 + tail.length);
  buffer.writeUInt32BE(window, HEADER);
  buffer.writeUInt32BE(0, HEADER + 4);
  tail.copy(buffer, HEADER + 8);
  return buffer;
}

export function encodeReset(
  id: number,
  fields: { readonly code: number; readonly retryAfter?: number | undefined; readonly text?: string | undefined },
): Buffer {
  const text = reasonText(fields.text ?? "");
  const buffer = frame(Type.RESET, 0, id, 8 + text.length);
  buffer.writeUInt32BE(fields.code, HEADER);
  buffer.writeUInt32BE(Math.min(0xffffffff, Math.max(0, Math.ceil(fields.retryAfter ?? 0))), HEADER + 4);
  text.copy(buffer, HEADER + 8);
  return buffer;
}

export function encodeHello(versions: { readonly min: number; readonly max: number }, parameters: readonly Tlv[]): Buffer {
  const tail = encodeTlvs(parameters);
  const buffer = frame(Type.HELLO, 0, 0, 8 + tail.length);
  buffer.writeUInt32BE(MAGIC, HEADER);
  buffer[HEADER + 4] = versions.min;
  buffer[HEADER + 5] = versions.max;
  buffer.writeUInt16BE(0, HEADER + 6);
  tail.copy(buffer, HEADER + 8);
  return buffer;
}

/** WELCOME's `resumed`. */
export const Resumed = { FRESH: 0, RESUMED: 1, REFUSED: 2 } as const;

export function encodeWelcome(fields: { readonly resumed: number; readonly refusal: number }, parameters: readonly Tlv[]): Buffer {
  const tail = encodeTlvs(parameters);
  const buffer = frame(Type.WELCOME, 0, 0, 8 + tail.length);
  buffer.writeUInt32BE(MAGIC, HEADER);
  buffer[HEADER + 4] = VERSION;
  buffer[HEADER + 5] = fields.resumed;
  buffer.writeUInt16BE(fields.refusal, HEADER + 6);
  tail.copy(buffer, HEADER + 8);
  return buffer;
}

export function encodeStreamCredit(id: number, limit: number): Buffer {
  const buffer = frame(Type.CREDIT, 0, id, 8);
  putU64(buffer, limit, HEADER);
  return buffer;
}

export function encodeSessionCredit(limit: number, maxStreamId: number): Buffer {
  const buffer = frame(Type.CREDIT, 0, 0, 12);
  putU64(buffer, limit, HEADER);
  buffer.writeUInt32BE(maxStreamId, HEADER + 8);
  return buffer;
}

/** `opaque`: 8 bytes. */
export function encodePing(type: typeof Type.PING | typeof Type.PONG, opaque: Buffer): Buffer {
  const buffer = frame(type, 0, 0, 8);
  opaque.copy(buffer, HEADER, 0, 8);
  return buffer;
}

export interface GoawayFields {
  readonly lastStreamId: number;
  readonly code: number;
  /** Milliseconds. */
  readonly grace: number;
  readonly text: string;
  readonly final: boolean;
}

export function encodeGoaway(fields: GoawayFields): Buffer {
  const text = reasonText(fields.text);
  const buffer = frame(Type.GOAWAY, fields.final ? Flag.FINAL : 0, 0, 12 + text.length);
  buffer.writeUInt32BE(fields.lastStreamId, HEADER);
  buffer.writeUInt32BE(fields.code, HEADER + 4);
  buffer.writeUInt32BE(Math.min(0xffffffff, Math.ceil(fields.grace)), HEADER + 8);
  text.copy(buffer, HEADER + 12);
  return buffer;
}

/** What a gateway has to say of the peer's certificate; `certificateExpiresAt` in milliseconds since the epoch, sent in whole seconds. */
export interface Notice {
  readonly certificateExpiresAt?: number;
}

export function encodeNotice({ certificateExpiresAt }: Notice): Buffer {
  const entries: Tlv[] = [];
  if (certificateExpiresAt !== undefined) {
    const value = Buffer.allocUnsafe(8);
    putU64(value, Math.min(MAX_MOMENT_S, Math.max(0, Math.floor(certificateExpiresAt / 1000))), 0);
    entries.push({ key: NoticeKey.CERTIFICATE_EXPIRES, value });
  }
  const tail = encodeTlvs(entries);
  const buffer = frame(Type.NOTICE, 0, 0, tail.length);
  tail.copy(buffer, HEADER);
  return buffer;
}

/** A reason's text cut to its bound without cutting a character. */
function reasonText(text: string): Buffer {
  let bytes = Buffer.from(text, "utf8");
  if (bytes.length > MAX_REASON) {
    let end = MAX_REASON;
    while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end--;
    bytes = bytes.subarray(0, end);
  }
  return bytes;
}
