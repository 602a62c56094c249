/** Networks as people write them, and who is inside. Values in, values out; nothing is resolved. */
import { addressBytes } from "./address.ts";
import type { Reading } from "./reading.ts";

/** An address with a prefix length: all addresses that begin with the same bits. */
export interface Network {
  /** 4 or 16. */
  readonly bytes: readonly number[];
  /** Bits. */
  readonly prefix: number;
}

/** `10.0.0.0/8`, `fd00::/8`; an address alone is a network of one. */
export function parseNetwork(text: string): Reading<Network> {
  const [, address = "", bits] = /^([0-9A-Fa-f:.]{2,45})(?:\/([0-9]{1,3}))?$/.exec(text) ?? [];
  const bytes = addressBytes(address);
  if (bytes === undefined) return { ok: false };
  const longest = bytes.length * 8;
  const prefix = bits === undefined ? longest : Number(bits);
  if (prefix > longest) return { ok: false, note: `the longest prefix is /${longest}` };
  return { ok: true, value: { bytes, prefix } };
}

/** Whether an address lies in any of them; what is no address lies in none. */
export function isWithin(address: string, networks: readonly Network[]): boolean {
  const bytes = addressBytes(address);
  return bytes !== undefined && networks.some((network) => contains(network, bytes));
}

function contains({ bytes, prefix }: Network, address: readonly number[]): boolean {
  if (bytes.length !== address.length) return false;
  return bytes.every((byte, index) => {
    const bits = Math.min(8, Math.max(0, prefix - index * 8));
    return (byte ^ address[index]!) >> (8 - bits) === 0;
  });
}
