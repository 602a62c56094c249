/** The framings once more, in the plainest way: what the tests hold src/target against. */
import { Buffer } from "node:buffer";
import type { Framing } from "../../src/target/target.ts";

export type Kept = Exclude<Framing, "bytes">;
export const kept: readonly Kept[] = ["u32", "u16", "varint", "lines"];

export function encodeOne(message: Uint8Array, framing: Kept): Buffer {
  if (framing === "lines") return Buffer.concat([message, Buffer.from("\n")]);
  const prefix: number[] = [];
  if (framing === "varint") {
    let left = message.length;
    do {
      const low = left % 128;
      left = Math.floor(left / 128);
      prefix.push(left > 0 ? low + 128 : low);
    } while (left > 0);
  } else for (let at = framing === "u32" ? 3 : 1; at >= 0; at--) prefix.push(Math.floor(message.length / 256 ** at) % 256);
  return Buffer.concat([Buffer.from(prefix), message]);
}

export function encode(messages: readonly Uint8Array[], framing: Kept): Buffer {
  return Buffer.concat(messages.map((message) => encodeOne(message, framing)));
}

/** `bytes` in pieces of the given lengths, over and over. */
export function split(bytes: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const length = Math.max(1, lengths[turn % lengths.length] ?? 1);
    pieces.push(bytes.slice(at, at + length));
    at += length;
  }
  return pieces;
}
