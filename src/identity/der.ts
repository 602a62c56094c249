/**
 * A strict, bounded reader of DER (X.690): definite minimal lengths, low tag numbers, nothing behind the end. No recursion: whoever
 * reads a structure steps into it. Promises: throws only a DerFault; never reads beyond its bytes. Leaves to others: what values mean.
 * Beside it the one that writes an element, for the few that are made here.
 */
import { Buffer } from "node:buffer";

export class DerFault extends Error {
  override readonly name = "DerFault";
}

export const Tag = {
  BOOLEAN: 0x01,
  INTEGER: 0x02,
  BIT_STRING: 0x03,
  OCTET_STRING: 0x04,
  OID: 0x06,
  ENUMERATED: 0x0a,
  UTF8: 0x0c,
  SEQUENCE: 0x30,
  SET: 0x31,
  PRINTABLE: 0x13,
  T61: 0x14,
  IA5: 0x16,
  UTC_TIME: 0x17,
  GENERALIZED_TIME: 0x18,
  UNIVERSAL: 0x1c,
  BMP: 0x1e,
} as const;

/** One element: its tag, its content, and itself whole (for hashes and signatures). */
export interface Element {
  readonly tag: number;
  readonly content: Buffer;
  readonly whole: Buffer;
}

export class DerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** The next element's tag, or -1 at the end. */
  get tag(): number {
    return this.done ? -1 : (this.#bytes[this.#at] as number);
  }

  /** The next element, of `tag` when one is named. */
  next(tag?: number): Element {
    const start = this.#at;
    const bytes = this.#bytes;
    if (bytes.length - start < 2) throw new DerFault("cut off");
    const found = bytes[start] as number;
    if ((found & 0x1f) === 0x1f) throw new DerFault("a tag of many bytes");
    if (tag !== undefined && found !== tag) throw new DerFault(`tag ${found} where ${tag} belongs`);
    let at = start + 2;
    let length = bytes[start + 1] as number;
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 3) throw new DerFault("an indefinite or giant length");
      if (bytes.length - at < count) throw new DerFault("cut off");
      length = bytes.readUIntBE(at, count);
      at += count;
      if (length < 0x80 || (count > 1 && length < 2 ** (8 * (count - 1)))) throw new DerFault("a length that is not minimal");
    }
    if (length > bytes.length - at) throw new DerFault("cut off");
    this.#at = at + length;
    return { tag: found, content: bytes.subarray(at, this.#at), whole: bytes.subarray(start, this.#at) };
  }

  /** The next element when it has this tag. */
  optional(tag: number): Element | undefined {
    return this.tag === tag ? this.next(tag) : undefined;
  }

  /** A reader of the next element's content. */
  into(tag: number): DerReader {
    return new DerReader(this.next(tag).content);
  }

  end(): void {
    if (!this.done) throw new DerFault("more than belongs there");
  }
}

/** Writes an element; `tag` is one that the reader takes. */
export function element(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([Buffer.of(tag, ...lengthBytes(content.length)), content]);
}

/** As few as will do. */
function lengthBytes(length: number): number[] {
  if (length < 0x80) return [length];
  const bytes: number[] = [];
  for (let left = length; left > 0; left >>>= 8) bytes.unshift(left & 0xff);
  return [0x80 | bytes.length, ...bytes];
}

/** Dotted text of an OID's content. */
export function oidText(content: Buffer): string {
  if (content.length === 0 || content.length > 64) throw new DerFault("an OID of a wrong size");
  if ((content[content.length - 1] as number) >= 0x80) throw new DerFault("an OID that is cut off");
  const arcs: (number | bigint)[] = [];
  let value: number | bigint = 0;
  let fresh = true;
  for (const byte of content) {
    if (fresh && byte === 0x80) throw new DerFault("an OID that is not minimal");
    // Arcs made of a UUID have 128 bits: beyond what a number holds exactly, count in bigint.
    if (typeof value === "number" && value < 2 ** 45) value = value * 128 + (byte & 0x7f);
    else value = (BigInt(value) << 7n) | BigInt(byte & 0x7f);
    fresh = byte < 0x80;
    if (!fresh) continue;
    if (arcs.length > 0) arcs.push(value);
    else {
      // The first two arcs share one number.
      const first = value < 40 ? 0 : value < 80 ? 1 : 2;
      arcs.push(first, typeof value === "bigint" ? value - 80n : value - 40 * first);
    }
    value = 0;
  }
  return arcs.join(".");
}

/** A serial: lower-case hex of a positive INTEGER of 20 bytes at most, without its sign byte. Zero is taken: old CAs have it. */
export function serialHex(content: Buffer): string {
  requireMinimal(content);
  if ((content[0] as number) >= 0x80) throw new DerFault("a negative serial"); // its hex would be that of another one
  const bytes = content[0] === 0 && content.length > 1 ? content.subarray(1) : content;
  if (bytes.length > 20) throw new DerFault("a serial of more than 20 bytes");
  return bytes.toString("hex");
}

function requireMinimal(integer: Buffer): void {
  const [first, second] = integer;
  if (first === undefined) throw new DerFault("an empty INTEGER");
  if (second === undefined) return;
  if ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80)) throw new DerFault("an INTEGER that is not minimal");
}

/** The bits of a positive INTEGER, such as an RSA modulus. */
export function bitLength(content: Buffer): number {
  requireMinimal(content);
  if ((content[0] as number) >= 0x80) throw new DerFault("a negative INTEGER");
  const bytes = content[0] === 0 ? content.subarray(1) : content;
  return bytes.length === 0 ? 0 : 8 * bytes.length - Math.clz32(bytes[0] as number) + 24;
}

/** A small non-negative INTEGER. */
export function smallInteger(content: Buffer): number {
  requireMinimal(content);
  if ((content[0] as number) >= 0x80 || content.length > 4) throw new DerFault("an INTEGER out of range");
  return content.readUIntBE(0, content.length);
}

export function boolean(content: Buffer): boolean {
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw new DerFault("a BOOLEAN of a wrong value");
  return content[0] === 0xff;
}

/** The bytes of a BIT STRING that has whole bytes, such as a key or a signature. */
export function wholeBits(content: Buffer): Buffer {
  if (content[0] !== 0) throw new DerFault("a BIT STRING with loose bits");
  return content.subarray(1);
}

/** Bits of a BIT STRING as a number whose highest of 16 bits is bit 0; unused bits must be 0. */
export function namedBits(content: Buffer): number {
  const unused = content[0];
  if (unused === undefined || unused > 7 || content.length > 3) throw new DerFault("a BIT STRING of a wrong size");
  const bits = ((content[1] ?? 0) << 8) | (content[2] ?? 0);
  const last = content[content.length - 1] as number;
  if (content.length === 1 ? unused !== 0 : (last & ((1 << unused) - 1)) !== 0) throw new DerFault("a BIT STRING with loose bits");
  return bits;
}

/** Milliseconds since the epoch of a UTCTime or GeneralizedTime as RFC 5280 has them: with seconds, in Z, without fractions. */
export function time({ tag, content }: Element): number {
  const long = tag === Tag.GENERALIZED_TIME;
  if (!long && tag !== Tag.UTC_TIME) throw new DerFault("no time where one belongs");
  const years = long ? 4 : 2;
  if (content.length !== years + 11 || content[years + 10] !== 0x5a) throw new DerFault("a time that is malformed");
  const two = (at: number): number => 10 * digit(content[at]) + digit(content[at + 1]);
  const short = two(0);
  const year = long ? 100 * short + two(2) : short < 50 ? 2000 + short : 1900 + short;
  const [month, day, hour, minute, second] = [two(years), two(years + 2), two(years + 4), two(years + 6), two(years + 8)];
  const date = new Date(0);
  const midnight = date.setUTCFullYear(year, month - 1, day); // carries what is too much, such as February 30
  const exists = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  if (!exists) throw new DerFault("a time that does not exist");
  return midnight + 1000 * (second + 60 * (minute + 60 * hour));
}

function digit(byte: number | undefined): number {
  if (byte === undefined || byte < 0x30 || byte > 0x39) throw new DerFault("a time that is malformed");
  return byte - 0x30;
}
