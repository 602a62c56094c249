/**
 * Blocks out of PEM (RFC 7468). Promises: a block that is malformed, or has no end, makes all of it malformed; nothing that is not base64
 * is passed over but white space; where that is asked for, nothing but text stands around the blocks; no memory beyond what is decoded. Leaves to others: how large a text may be, what the blocks mean.
 */
import { Buffer } from "node:buffer";
import { atOnce, type Steps } from "../base/steps.ts";

/** Blocks with this label, decoded. Undefined when one is malformed. */
export function pemBlocks(text: string, label: string): Buffer[] | undefined {
  return atOnce(blockSteps(Buffer.from(text), { label, alone: false }));
}

/**
 * The same in steps, of a file that is for such blocks alone: one with a block of another label or a part of one outside of them, or with
 * what is no text, is malformed.
 */
export function onlyPemSteps(text: Buffer, label: string): Steps<Buffer[] | undefined> {
  return blockSteps(text, { label, alone: true });
}

function* blockSteps(text: Buffer, { label, alone }: { readonly label: string; readonly alone: boolean }): Steps<Buffer[] | undefined> {
  const blocks: Buffer[] = [];
  const begin = `-----BEGIN ${label}-----`;
  const end = Buffer.from(`-----END ${label}-----`);
  for (let from = 0; ;) {
    const at = yield* findSteps(text, begin, from);
    if (alone && !(yield* isPlainSteps(text.subarray(from, at < 0 ? text.length : at)))) return undefined;
    if (at < 0) return blocks;
    const block = yield* decode(text, at + begin.length);
    if (block === undefined || !text.subarray(block.stop, block.stop + end.length).equals(end)) return undefined;
    blocks.push(block.bytes);
    from = block.stop + end.length;
  }
}

/** Whether it is text, in which no block begins or ends, not even where it was cut off. */
function* isPlainSteps(between: Buffer): Steps<boolean> {
  for (const word of ["-----BEGIN", "-----END"]) if ((yield* findSteps(between, word, 0)) >= 0) return false;
  for (let start = 0; start < between.length; start += PIECE) {
    for (const byte of between.subarray(start, start + PIECE)) if (byte < 0x20 && values[byte] !== SPACE) return false;
    yield;
  }
  return !/(?:^|\n)-{1,5}B?E?G?I?$/.test(between.subarray(-10).toString("latin1"));
}

const PIECE = 32 << 10;

/** As `indexOf`, which on Deno takes its time. */
export function* findSteps(text: Buffer, words: string, from: number): Steps<number> {
  for (let start = from; start < text.length; start += PIECE) {
    const found = text.subarray(start, start + PIECE + words.length - 1).indexOf(words);
    if (found >= 0) return start + found;
    yield;
  }
  return -1;
}

// Beyond the 64 values of letters:
const SPACE = 64;
const PAD = 65;
const DASH = 66;
const ALIEN = 67;
const values = new Uint8Array(256).fill(ALIEN);
const alphabet = Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
for (const [value, letter] of alphabet.entries()) values[letter] = value;
for (const space of " \t\r\n\v\f") values[space.charCodeAt(0)] = SPACE;
values["=".charCodeAt(0)] = PAD;
values["-".charCodeAt(0)] = DASH;

interface Decoded {
  readonly bytes: Buffer;
  /** Where the dash stands that ends it. */
  readonly stop: number;
}

/** Base64 from `start` to the first dash; undefined when it is empty, malformed or has no end. */
function* decode(text: Buffer, start: number): Steps<Decoded | undefined> {
  const pieces: Buffer[] = [];
  let [bits, letters, padding] = [0, 0, 0];
  for (let at = start; at < text.length;) {
    const piece = Buffer.alloc(PIECE);
    let length = 0;
    for (const until = Math.min(text.length, at + PIECE); at < until; at++) {
      const value = values[text[at] as number] as number;
      if (value === SPACE) continue;
      if (value === DASH) {
        const rest = loose({ bits, letters, padding });
        return rest && { bytes: Buffer.concat([...pieces, piece.subarray(0, length), rest]), stop: at };
      }
      if (value === PAD) padding++;
      else if (value === ALIEN || padding > 0) return undefined;
      else {
        bits = ((bits << 6) | value) & 0xffffff;
        if ((++letters & 3) !== 0) continue;
        piece[length++] = bits >> 16;
        piece[length++] = (bits >> 8) & 0xff;
        piece[length++] = bits & 0xff;
      }
    }
    pieces.push(piece.subarray(0, length));
    yield;
  }
  return undefined;
}

interface Tail {
  /** Of the last letters. */
  readonly bits: number;
  readonly letters: number;
  readonly padding: number;
}

/** The bytes of the letters behind the last four; undefined when they and their padding cannot be. */
function loose({ bits, letters, padding }: Tail): Buffer | undefined {
  const left = letters & 3;
  if (letters === 0 || left === 1 || padding > 2 || (padding > 0 && left + padding !== 4)) return undefined;
  if (left === 0) return Buffer.alloc(0);
  return left === 2 ? Buffer.from([(bits >> 4) & 0xff]) : Buffer.from([(bits >> 10) & 0xff, (bits >> 2) & 0xff]);
}
