/**
 * A certificate revocation list (RFC 5280) out of its DER: its issuer, its times, its serials. Complete direct lists only.
 * Promises: throws only DerFault; 100,000 entries in well under a second. Leaves to others: the signature's key, what is out of date.
 */
import { verify, type KeyObject } from "node:crypto";
import { DerFault, DerReader, integerHex, oidText, smallInteger, Tag, time } from "./der.ts";

export const MAX_CRL = 16 << 20;

export interface Crl {
  readonly issuer: Buffer;
  readonly thisUpdate: number;
  /** Infinity when the list does not say. */
  readonly nextUpdate: number;
  readonly revoked: ReadonlySet<string>;
  readonly signed: { readonly body: Buffer; readonly algorithm: string; readonly signature: Buffer };
}

export function parseCrl(der: Buffer): Crl {
  if (der.length > MAX_CRL) throw new DerFault(`more than ${MAX_CRL} bytes`);
  const outer = new DerReader(der);
  const list = outer.into(Tag.SEQUENCE);
  outer.end();
  const { whole, content } = list.next(Tag.SEQUENCE);
  const algorithm = oidText(list.into(Tag.SEQUENCE).next(Tag.OID).content);
  const signature = list.next(Tag.BIT_STRING).content;
  list.end();
  if (signature[0] !== 0) throw new DerFault("a signature with loose bits");

  const body = new DerReader(content);
  const version = body.optional(Tag.INTEGER);
  if (version !== undefined && smallInteger(version.content) !== 1) throw new DerFault("an unknown version");
  if (oidText(body.into(Tag.SEQUENCE).next(Tag.OID).content) !== algorithm) throw new DerFault("two different signature algorithms");
  const issuer = body.next(Tag.SEQUENCE).whole;
  const thisUpdate = time(body.next());
  const timed = body.tag === Tag.UTC_TIME || body.tag === Tag.GENERALIZED_TIME;
  const nextUpdate = timed ? time(body.next()) : Infinity;
  const revoked = new Set<string>();
  const entries = body.optional(Tag.SEQUENCE);
  if (entries !== undefined) {
    const reader = new DerReader(entries.content);
    while (!reader.done) revoked.add(entry(reader.into(Tag.SEQUENCE)));
  }
  const extensions = body.optional(0xa0);
  body.end();
  if (extensions !== undefined) refuseCritical(new DerReader(extensions.content).into(Tag.SEQUENCE));
  return { issuer, thisUpdate, nextUpdate, revoked, signed: { body: whole, algorithm, signature: signature.subarray(1) } };
}

/** The serial of an entry. A critical extension (an indirect list's issuer) refuses the list. */
function entry(reader: DerReader): string {
  const serial = integerHex(reader.next(Tag.INTEGER).content);
  time(reader.next());
  const extensions = reader.optional(Tag.SEQUENCE);
  if (extensions !== undefined) refuseCritical(new DerReader(extensions.content));
  reader.end();
  return serial;
}

function refuseCritical(extensions: DerReader): void {
  while (!extensions.done) {
    const one = extensions.into(Tag.SEQUENCE);
    const oid = oidText(one.next(Tag.OID).content);
    // Critical ones make a list partial or indirect: deltas, issuing distribution points, entries of other issuers.
    if (one.optional(Tag.BOOLEAN) !== undefined) throw new DerFault(`a critical extension, ${oid}`);
    one.next(Tag.OCTET_STRING);
  }
}

/** Signature algorithms that are strong enough, with the hash that node:crypto wants (null: the key knows). */
export const signatureHash: ReadonlyMap<string, string | null> = new Map([
  ["1.2.840.113549.1.1.11", "sha256"],
  ["1.2.840.113549.1.1.12", "sha384"],
  ["1.2.840.113549.1.1.13", "sha512"],
  ["1.2.840.10045.4.3.2", "sha256"],
  ["1.2.840.10045.4.3.3", "sha384"],
  ["1.2.840.10045.4.3.4", "sha512"],
  ["1.3.101.112", null],
  ["1.3.101.113", null],
]);

/** Whether the list was signed by this key, with an algorithm that is strong enough. */
export function isSignedBy({ signed }: Crl, key: KeyObject): boolean {
  const hash = signatureHash.get(signed.algorithm);
  if (hash === undefined) return false;
  try {
    return verify(hash, signed.body, key, signed.signature);
  } catch {
    return false; // a key of another kind
  }
}
