/** Writes DER, also DER that means nothing: the words of odd certificates and lists for tests. Each function returns one whole element. */

export type Bytes = Uint8Array;

/** Any element: `tag` is the whole identifier octet. */
export function element(tag: number, ...parts: readonly Bytes[]): Bytes {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const head = [tag];
  if (length < 0x80) head.push(length);
  else {
    const digits: number[] = [];
    for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256);
    head.push(0x80 | digits.length, ...digits);
  }
  const whole = new Uint8Array(head.length + length);
  whole.set(head);
  let at = head.length;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export const sequence = (...parts: readonly Bytes[]): Bytes => element(0x30, ...parts);
export const setOf = (...parts: readonly Bytes[]): Bytes => element(0x31, ...parts);
/** `[number]`, constructed: EXPLICIT, or the IMPLICIT of a sequence. */
export const context = (number: number, ...parts: readonly Bytes[]): Bytes => element(0xa0 | number, ...parts);
/** `[number]`, primitive: the IMPLICIT of a string. */
export const contextBytes = (number: number, value: Bytes): Bytes => element(0x80 | number, value);
export const boolean = (value: boolean): Bytes => element(0x01, Uint8Array.of(value ? 0xff : 0));
export const nothing: Bytes = element(0x05);
export const octets = (value: Bytes): Bytes => element(0x04, value);
export const bits = (value: Bytes, unused = 0): Bytes => element(0x03, Uint8Array.of(unused), value);
export const utf8 = (text: string): Bytes => element(0x0c, Buffer.from(text, "utf8"));

/** From a number below 2^53 or the bytes of a positive one, big-endian; `negative` ones only as bytes through `element(0x02, ...)`. */
export function integer(value: number | Bytes): Bytes {
  let bytes = typeof value === "number" ? Buffer.from(value.toString(16).padStart(value > 0xff_ffff_ffff ? 14 : 10, "0"), "hex") : value;
  while (bytes.length > 1 && bytes[0] === 0) bytes = bytes.subarray(1);
  return bytes[0]! >= 0x80 ? element(0x02, Uint8Array.of(0), bytes) : element(0x02, bytes);
}

/** From dotted text. */
export function oid(text: string): Bytes {
  const [first, second, ...rest] = text.split(".").map(Number);
  const bytes: number[] = [];
  for (const arc of [first! * 40 + second!, ...rest]) {
    const digits = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) digits.unshift(0x80 | (left % 128));
    bytes.push(...digits);
  }
  return element(0x06, Uint8Array.from(bytes));
}

/** UTCTime to 2049, GeneralizedTime after. `at`: milliseconds since the epoch. */
export function time(at: number): Bytes {
  const text = new Date(at).toISOString().replace(/[-:T]|\.\d+/gu, "");
  return Number(text.slice(0, 4)) < 2050 ? element(0x17, Buffer.from(text.slice(2))) : element(0x18, Buffer.from(text));
}

/** PEM with lines of 64. */
export function pem(label: string, der: Bytes): string {
  const lines = Buffer.from(der)
    .toString("base64")
    .replace(/.{64}(?=.)/gu, "$&\n");
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
