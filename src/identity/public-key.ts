/**
 * A SubjectPublicKeyInfo out of its DER: which algorithm, which curve, how many bits. Read here and not by the runtime's crypto, because
 * Node takes curves that are spelt out where Deno does not, and a verdict must not depend on that.
 * Promises: throws only DerFault. Leaves to others: whether the key is strong enough (strength.ts), using it.
 */
import type { Buffer } from "node:buffer";
import { createPublicKey, type KeyObject } from "node:crypto";
import { bitLength, DerReader, oidText, Tag, wholeBits } from "./der.ts";

export const KeyAlgorithm = { RSA: "1.2.840.113549.1.1.1", EC: "1.2.840.10045.2.1", ED25519: "1.3.101.112", ED448: "1.3.101.113" } as const;

export interface PublicKey {
  /** The SubjectPublicKeyInfo whole: equal keys have equal bytes here. */
  readonly der: Buffer;
  /** OID. */
  readonly algorithm: string;
  /** OID of the named curve; undefined where there is none, or where it is spelt out. */
  readonly curve: string | undefined;
  /** Of an RSA modulus; 0 for other keys. */
  readonly bits: number;
  /** Whether an RSA exponent is one that hides anything: odd, 3 or more, 64 bits or fewer. True for other keys. */
  readonly soundExponent: boolean;
}

/** The next element of `reader`. */
export function readPublicKey(reader: DerReader): PublicKey {
  const { whole, content } = reader.next(Tag.SEQUENCE);
  const info = new DerReader(content);
  const identifier = info.into(Tag.SEQUENCE);
  const bits = wholeBits(info.next(Tag.BIT_STRING).content);
  info.end();
  const algorithm = oidText(identifier.next(Tag.OID).content);
  const key = { der: whole, algorithm, curve: undefined, bits: 0, soundExponent: true };
  if (algorithm === KeyAlgorithm.EC) {
    const curve = identifier.optional(Tag.OID);
    return { ...key, curve: curve && oidText(curve.content) };
  }
  if (algorithm !== KeyAlgorithm.RSA) return key;
  const outer = new DerReader(bits);
  const numbers = outer.into(Tag.SEQUENCE);
  outer.end();
  const modulus = bitLength(numbers.next(Tag.INTEGER).content);
  const exponent = numbers.next(Tag.INTEGER).content;
  numbers.end();
  const odd = ((exponent[exponent.length - 1] ?? 0) & 1) === 1;
  const size = bitLength(exponent);
  return { ...key, bits: modulus, soundExponent: odd && size > 1 && size <= 64 };
}

const objects = new WeakMap<PublicKey, KeyObject>();

/** The key for `verify`, made once. Throws when the runtime cannot read it. */
export function keyObject(key: PublicKey): KeyObject {
  let object = objects.get(key);
  if (object === undefined) objects.set(key, (object = createPublicKey({ key: key.der, format: "der", type: "spki" })));
  return object;
}
