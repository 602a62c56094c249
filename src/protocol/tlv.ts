/**
 * Key-length-value lists of HELLO, WELCOME (parameters) and OPEN, ACCEPT (metadata): u16 key, u16 length, value; keys strictly
 * ascending. Promises: `decodeTlvs` never throws anything but a ProtocolFault and never reads beyond its bounds.
 */
import { Buffer } from "node:buffer";
import { ProtocolFault } from "./fault.ts";

export interface Tlv {
  readonly key: number;
  readonly value: Buffer;
}

/** Set in a key that the reader must know or refuse. */
export const CRITICAL = 0x8000;
export const MAX_TLVS = 32;

const nothing = Buffer.alloc(0);

export function encodeTlvs(entries: readonly Tlv[]): Buffer {
  if (entries.length === 0) return nothing;
  const sorted = [...entries].sort((a, b) => a.key - b.key);
  const parts: Buffer[] = [];
  for (const { key, value } of sorted) {
    const head = Buffer.allocUnsafe(4);
    head.writeUInt16BE(key, 0);
    head.writeUInt16BE(value.length, 2);
    parts.push(head, value);
  }
  return Buffer.concat(parts);
}

/** Reads the list that fills `buffer` from `start` to `end`. The values are copies: who keeps one keeps no more. */
export function decodeTlvs(buffer: Buffer, start: number, end: number): Tlv[] {
  const entries: Tlv[] = [];
  let previous = -1;
  let offset = start;
  while (offset < end) {
    if (end - offset < 4) throw new ProtocolFault("protocol_error", "a parameter is cut off");
    const key = buffer.readUInt16BE(offset);
    const length = buffer.readUInt16BE(offset + 2);
    offset += 4;
    if (length > end - offset) throw new ProtocolFault("protocol_error", "a parameter is longer than its frame");
    if (key <= previous) throw new ProtocolFault("protocol_error", "parameters are not in ascending order");
    if (entries.length === MAX_TLVS) throw new ProtocolFault("protocol_error", "too many parameters");
    const value = Buffer.allocUnsafeSlow(length);
    buffer.copy(value, 0, offset, offset + length);
    entries.push({ key, value });
    previous = key;
    offset += length;
  }
  return entries;
}
