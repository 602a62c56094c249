/**
 * Blocks out of PEM (RFC 7468). Promises: a block that is malformed, or has no end, makes all of it malformed; nothing that is not base64
 * is passed over but white space; no memory beyond what is decoded. Leaves to others: how large a text may be, what the blocks mean.
 */
import { Buffer } from "node:buffer";
import { atOnce, type Steps } from "../base/steps.ts";

/** Blocks with this label, decoded. Undefined when one is malformed. */
export function pemBlocks(text: string, label: string): Buffer[] | undefined {
  return atOnce(pemSteps(Buffer.from(text), label));
}

/** The same, in steps. */
export function* pemSteps(text: Buffer, label: string): Steps<Buffer[] | undefined> {
  const blocks: Buffer[] = [];
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  for (let at = text.indexOf(begin); at >= 0; at = text.indexOf(begin, at)) {
    const close = text.indexOf(end, at);
    const block = close < 0 ? undefined : yield* decode(text.subarray(at + begin.length, close));
    if (block === undefined) return undefined;
    blocks.push(block);
    at = close + end.length;
  }
  return blocks;
}

const PIECE = 32 << 10;
// Beyond the 64 values of letters:
const SPACE = 64;
const PAD = 65;
const ALIEN = 66;
const values = new Uint8Array(256).fill(ALIEN);
const alphabet = Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
for (const [value, letter] of alphabet.entries()) values[letter] = value;
for (const space of " \t\r\n\v\f") values[space.charCodeAt(0)] = SPACE;
values["=".charCodeAt(0)] = PAD;

/** Base64; undefined when it is empty or malformed. */
function* decode(text: Buffer): Steps<Buffer | undefined> {
  const bytes = Buffer.allocUnsafe(Math.ceil((text.length * 3) / 4));
  let length = 0;
  let bits = 0;
  let letters = 0;
  let padding = 0;
  for (let start = 0; start < text.length; start += PIECE) {
    const stop = Math.min(text.length, start + PIECE);
    for (let at = start; at < stop; at++) {
      const value = values[text[at] as number] as number;
      if (value === SPACE) continue;
      if (value === PAD) padding++;
      else if (value === ALIEN || padding > 0) return undefined;
      else {
        bits = ((bits << 6) | value) & 0xffffff;
        if ((++letters & 3) !== 0) continue;
        bytes[length++] = bits >> 16;
        bytes[length++] = (bits >> 8) & 0xff;
        bytes[length++] = bits & 0xff;
      }
    }
    yield;
  }
  const loose = letters & 3;
  if (letters === 0 || loose === 1 || padding > 2 || (padding > 0 && loose + padding !== 4)) return undefined;
  if (loose > 1) bytes[length++] = loose === 2 ? (bits >> 4) & 0xff : (bits >> 10) & 0xff;
  if (loose === 3) bytes[length++] = (bits >> 2) & 0xff;
  return bytes.subarray(0, length);
}
