/** A certificate with the other of the two ECDSA signatures that its CA's one allows: what its holder can make without the CA. */
import { Buffer } from "node:buffer";
import { at, edit } from "./der-edit.ts";
import { bits, type Bytes, integer, sequence } from "./der.ts";
import type { Issued } from "./mint.ts";

/** By the bytes that the curve's numbers have. */
const orders: Readonly<Record<number, bigint>> = {
  32: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  48: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  66: 0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
};

export function twin({ der }: Pick<Issued, "der">): Bytes {
  return edit(der, [2], (element) => {
    const signature = element.subarray(element[1]! >= 0x80 ? 4 : 3);
    const [r, s] = [at(signature, [0]), at(signature, [1])];
    const size = Number(Object.keys(orders).find((bytes) => Number(bytes) + 8 > r.length && r.length > Number(bytes) - 8));
    const other = orders[size]! - BigInt(`0x${Buffer.from(s.subarray(2)).toString("hex")}`);
    return bits(sequence(r, integer(Buffer.from(other.toString(16).padStart(2 * size, "0"), "hex"))));
  });
}
