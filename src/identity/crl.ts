/**
 * A certificate revocation list (RFC 5280) out of its DER: its issuer, its times, its serials. Complete direct lists only: whatever
 * makes one partial, a delta or about others' certificates refuses it, also where its maker forgot to say that it is critical.
 * Promises: throws only DerFault; 100,000 entries in well under a second, in steps of a millisecond or so. Leaves to others: whose signature it is, what is out of date.
 */
import type { Buffer } from "node:buffer";
import { atOnce, type Steps } from "../base/steps.ts";
import { DerFault, DerReader, serialHex, smallInteger, Tag, time } from "./der.ts";
import { eachExtension } from "./extensions.ts";
import { readSigned, requireSameAlgorithm, type Signed } from "./signature.ts";

export const MAX_CRL = 16 << 20;

export interface Crl {
  /** The name whole, as DER. */
  readonly issuer: Buffer;
  /** Milliseconds since the epoch. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Serials as certificate.ts writes them. */
  readonly revoked: ReadonlySet<string>;
  readonly signed: Signed;
}

const Extension = { REASON: "2.5.29.21", DELTA: "2.5.29.27", DISTRIBUTION_POINT: "2.5.29.28", CERTIFICATE_ISSUER: "2.5.29.29" } as const;
const narrowing: ReadonlySet<string> = new Set([Extension.DELTA, Extension.DISTRIBUTION_POINT, Extension.CERTIFICATE_ISSUER]);
const REMOVE_FROM_CRL = 8;

const ENTRIES_A_STEP = 250;
const MAX_REMEMBERED = 64;

export function parseCrl(der: Buffer): Crl {
  return atOnce(crlSteps(der));
}

export function* crlSteps(der: Buffer): Steps<Crl> {
  if (der.length > MAX_CRL) throw new DerFault(`more than ${MAX_CRL} bytes`);
  const { signed, body } = readSigned(der);
  const version = body.optional(Tag.INTEGER);
  if (version !== undefined && smallInteger(version.content) !== 1) throw new DerFault("an unknown version");
  requireSameAlgorithm(body, signed);
  const issuer = body.next(Tag.SEQUENCE).whole;
  const thisUpdate = time(body.next());
  // Without it the list would never go out of date, and nobody would notice that no new one comes.
  if (body.tag !== Tag.UTC_TIME && body.tag !== Tag.GENERALIZED_TIME) throw new DerFault("no time of the next update");
  const nextUpdate = time(body.next());
  const entries = body.optional(Tag.SEQUENCE);
  const extensions = body.optional(0xa0);
  body.end();
  if (version === undefined && extensions !== undefined) throw new DerFault("extensions in a list of version 1");
  if (extensions !== undefined) requireComplete(extensions.content);
  return { issuer, thisUpdate, nextUpdate, revoked: yield* readSerials(entries?.content), signed };
}

function* readSerials(entries: Buffer | undefined): Steps<Set<string>> {
  const revoked = new Set<string>();
  if (entries === undefined) return revoked;
  const list = new DerReader(entries);
  const sound = new Set<string>(); // most entries of a list say the same about why
  for (let count = 1; !list.done; count++) {
    if (count % ENTRIES_A_STEP === 0) yield;
    const entry = list.into(Tag.SEQUENCE);
    revoked.add(serialHex(entry.next(Tag.INTEGER).content));
    time(entry.next());
    const extensions = entry.optional(Tag.SEQUENCE)?.whole;
    entry.end();
    const key = extensions?.toString("latin1");
    if (extensions === undefined || key === undefined || sound.has(key)) continue;
    requireComplete(extensions);
    if (sound.size < MAX_REMEMBERED) sound.add(key);
  }
  return revoked;
}

/** `extensions`: a SEQUENCE of them, of the list or of an entry. */
function requireComplete(extensions: Buffer): void {
  eachExtension(extensions, ({ oid, critical, value }) => {
    if (critical || narrowing.has(oid)) throw new DerFault(`a critical extension, ${oid}`);
    if (oid === Extension.REASON && reason(value) === REMOVE_FROM_CRL) throw new DerFault("an entry that takes back another list's");
  });
}

function reason(value: Buffer): number {
  const reader = new DerReader(value);
  const { content } = reader.next(Tag.ENUMERATED);
  reader.end();
  return smallInteger(content);
}
