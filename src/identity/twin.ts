/**
 * The other certificate that says the same: beside an ECDSA signature (r, s) stands (r, n - s), which is as good and which anybody can make of
 * it. So such a certificate has two fingerprints, and who is denied by one must be known by both. RSA and the Edwards curves have one.
 * Promises: pure; never throws. Leaves to others: whether the signature is good.
 */
import { Buffer } from "node:buffer";
import { fingerprintOf, type Certificate } from "./certificate.ts";
import { DerReader, element, Tag } from "./der.ts";

const ECDSA = "1.2.840.10045.4.3.";

/** Of P-256, P-384 and P-521: how many points there are. A signature is of the first that is larger than its numbers. */
const orders: readonly bigint[] = [
  0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
];

/** The fingerprint of a certificate's twin; undefined: it has none. */
export function twinOf({ signed: { algorithm, body, identifier, signature } }: Certificate): string | undefined {
  if (!algorithm.startsWith(ECDSA)) return undefined;
  const other = otherSignature(signature);
  return other && fingerprintOf(element(Tag.SEQUENCE, body, identifier, element(Tag.BIT_STRING, Buffer.of(0), other)));
}

function otherSignature(signature: Buffer): Buffer | undefined {
  try {
    const numbers = new DerReader(signature).into(Tag.SEQUENCE);
    const [first, second] = [numbers.next(Tag.INTEGER), numbers.next(Tag.INTEGER)];
    const [r, s] = [numberOf(first.content), numberOf(second.content)];
    const order = orders.find((one) => r < one && s < one);
    return order === undefined ? undefined : element(Tag.SEQUENCE, first.whole, element(Tag.INTEGER, bytesOf(order - s)));
  } catch {
    return undefined; // no signature that anybody believes
  }
}

function numberOf(content: Buffer): bigint {
  return BigInt(`0x${content.toString("hex")}`);
}

/** Of a positive number, with the sign byte where DER wants it. */
function bytesOf(value: bigint): Buffer {
  const digits = value.toString(16);
  const whole = digits.length % 2 === 0 ? digits : `0${digits}`;
  return Buffer.from(whole >= "80" ? `00${whole}` : whole, "hex");
}
