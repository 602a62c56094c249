/**
 * What HELLO and WELCOME tell about their sender, and the defaults of what they leave out (docs/protocol.md, "Parameters").
 * Promises: values read are within their ranges; a critical key that is unknown is a fault; others are passed over.
 */
import { Buffer } from "node:buffer";
import { ProtocolFault } from "./fault.ts";
import { getU64, MIN_PAYLOAD, putU64 } from "./frame.ts";
import { decodeText } from "./text.ts";
import { CRITICAL, type Tlv } from "./tlv.ts";

export interface Parameters {
  /** Name and version, for logs. */
  readonly software: string;
  /** Largest payload of a DATA frame that the sender of these takes, bytes. */
  readonly maxPayload: number;
  /** First absolute credit for the whole session that the sender grants. */
  readonly sessionLimit: number;
  /** Highest stream id that the peer of the sender may open; 0: none. */
  readonly maxStreamId: number;
  /** Credit of each stream until ACCEPT or OPEN says otherwise. */
  readonly streamWindow: number;
  /** Credit of a stream before ACCEPT. */
  readonly earlyWindow: number;
  /** Silence after which the sender pings, milliseconds. */
  readonly heartbeatMs: number;
  readonly role: "client" | "agent";
  readonly maxMessage: number;
}

export const parameterDefaults: Parameters = {
  software: "",
  maxPayload: 16_376, // with its header exactly one TLS record
  sessionLimit: 4 << 20,
  maxStreamId: 0,
  streamWindow: 256 << 10,
  earlyWindow: 16 << 10,
  heartbeatMs: 30_000,
  role: "client",
  maxMessage: 1 << 20,
};

const Key = {
  SOFTWARE: 1,
  MAX_PAYLOAD: 2,
  SESSION_LIMIT: 3,
  MAX_STREAM_ID: 4,
  STREAM_WINDOW: 5,
  EARLY_WINDOW: 6,
  HEARTBEAT: 7,
  ROLE: 8,
  MAX_MESSAGE: 9,
  RETRY_AFTER: 10,
} as const;

function u32(key: number, value: number): Tlv {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value, 0);
  return { key, value: bytes };
}

/** Only what differs from the defaults is written. */
export function encodeParameters(own: Parameters): Tlv[] {
  const entries: Tlv[] = [];
  const add = (key: number, name: "maxPayload" | "maxStreamId" | "streamWindow" | "earlyWindow" | "heartbeatMs" | "maxMessage"): void => {
    if (own[name] !== parameterDefaults[name]) entries.push(u32(key, own[name]));
  };
  if (own.software !== "") entries.push({ key: Key.SOFTWARE, value: Buffer.from(own.software, "utf8").subarray(0, 64) });
  add(Key.MAX_PAYLOAD, "maxPayload");
  if (own.sessionLimit !== parameterDefaults.sessionLimit) {
    const value = Buffer.allocUnsafe(8);
    putU64(value, own.sessionLimit, 0);
    entries.push({ key: Key.SESSION_LIMIT, value });
  }
  add(Key.MAX_STREAM_ID, "maxStreamId");
  add(Key.STREAM_WINDOW, "streamWindow");
  add(Key.EARLY_WINDOW, "earlyWindow");
  add(Key.HEARTBEAT, "heartbeatMs");
  if (own.role !== parameterDefaults.role) entries.push({ key: Key.ROLE, value: Buffer.from([1]) });
  add(Key.MAX_MESSAGE, "maxMessage");
  return entries;
}

/** Of a WELCOME that refuses: when another try can succeed, milliseconds. */
export function encodeRetryAfter(ms: number): Tlv {
  return u32(Key.RETRY_AFTER, Math.min(0xffffffff, Math.ceil(ms)));
}

/** 0: nothing is said of it. */
export function readRetryAfter(entries: readonly Tlv[]): number {
  const entry = entries.find(({ key }) => key === Key.RETRY_AFTER);
  return entry === undefined ? 0 : readU32(entry, { min: 0, max: 0xffffffff });
}

function readU32({ key, value }: Tlv, range: { readonly min: number; readonly max: number }): number {
  if (value.length !== 4) throw new ProtocolFault("protocol_error", `parameter ${key} has ${value.length} bytes instead of 4`);
  const number = value.readUInt32BE(0);
  if (number < range.min || number > range.max) throw new ProtocolFault("protocol_error", `parameter ${key} is out of range: ${number}`);
  return number;
}

const window = { min: 0, max: 1 << 30 } as const;

export function decodeParameters(entries: readonly Tlv[]): Parameters {
  const read: { -readonly [Name in keyof Parameters]: Parameters[Name] } = { ...parameterDefaults };
  for (const entry of entries) {
    switch (entry.key) {
      case Key.SOFTWARE:
        if (entry.value.length > 64) throw new ProtocolFault("protocol_error", "parameter 1 is longer than 64 bytes");
        read.software = decodeText(entry.value, 0, entry.value.length);
        break;
      case Key.MAX_PAYLOAD:
        read.maxPayload = readU32(entry, { min: MIN_PAYLOAD, max: 65_535 });
        break;
      case Key.SESSION_LIMIT:
        read.sessionLimit = entry.value.length === 8 ? getU64(entry.value, 0) : -1;
        if (read.sessionLimit < 0) throw new ProtocolFault("protocol_error", "parameter 3 is malformed");
        break;
      case Key.MAX_STREAM_ID:
        read.maxStreamId = readU32(entry, { min: 0, max: 0x7fffffff });
        break;
      case Key.STREAM_WINDOW:
        read.streamWindow = readU32(entry, window);
        break;
      case Key.EARLY_WINDOW:
        read.earlyWindow = readU32(entry, window);
        break;
      case Key.HEARTBEAT:
        read.heartbeatMs = readU32(entry, { min: 1000, max: 3_600_000 });
        break;
      case Key.ROLE:
        if (entry.value.length !== 1 || (entry.value[0] as number) > 1)
          throw new ProtocolFault("protocol_error", "parameter 8 is malformed");
        read.role = entry.value[0] === 1 ? "agent" : "client";
        break;
      case Key.MAX_MESSAGE:
        read.maxMessage = readU32(entry, { min: 1, max: 0xffffffff });
        break;
      default:
        if ((entry.key & CRITICAL) !== 0) throw new ProtocolFault("protocol_error", `unknown critical parameter ${entry.key}`);
    }
  }
  return read;
}
