/**
 * The extensions of a certificate that judging needs. Promises: throws only DerFault (NameFault where the names are at fault); one of
 * each kind at most; what is not understood and must be obeyed is listed, never skipped.
 * Leaves to others: what follows from any of it (judge.ts, path.ts).
 */
import type { Buffer } from "node:buffer";
import { boolean, DerFault, DerReader, namedBits, oidText, serialHex, smallInteger, Tag } from "./der.ts";

export const MAX_NAMES = 100;
const MAX_EXTENSIONS = 50;
const MAX_USAGES = 100;

/** KeyUsage bits as namedBits gives them. */
export const KeyUsage = { DIGITAL_SIGNATURE: 0x8000, KEY_CERT_SIGN: 0x0400, CRL_SIGN: 0x0200 } as const;
export const Eku = { ANY: "2.5.29.37.0", SERVER_AUTH: "1.3.6.1.5.5.7.3.1", CLIENT_AUTH: "1.3.6.1.5.5.7.3.2" } as const;

/** The subject alternative names are malformed or too many. */
export class NameFault extends DerFault {}

export interface GeneralName {
  /** Context tag: 1 rfc822, 2 DNS, 6 URI, 7 IP, ... */
  readonly kind: number;
  readonly bytes: Buffer;
}

export interface Extensions {
  readonly names: readonly GeneralName[];
  readonly keyUsage: number | undefined;
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly ca: boolean;
  readonly pathLength: number | undefined;
  /** Hex. */
  readonly subjectKeyId: string | undefined;
  readonly authorityKeyId: string | undefined;
  /** Hex of the issuer's serial, where the certificate tells it. */
  readonly authoritySerial: string | undefined;
  /** OIDs of critical extensions that are not known here; also of name constraints, which restrict whether they are critical or not. */
  readonly unknownCritical: readonly string[];
}

const Extension = {
  SUBJECT_KEY_ID: "2.5.29.14",
  KEY_USAGE: "2.5.29.15",
  SUBJECT_ALT_NAME: "2.5.29.17",
  BASIC_CONSTRAINTS: "2.5.29.19",
  NAME_CONSTRAINTS: "2.5.29.30",
  AUTHORITY_KEY_ID: "2.5.29.35",
  EXTENDED_KEY_USAGE: "2.5.29.37",
} as const;

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** `list`: the content of the certificate's [3], where it has one. */
export function readExtensions(list: Buffer | undefined): Extensions {
  const unknownCritical: string[] = [];
  const found: Writable<Extensions> = {
    names: [],
    keyUsage: undefined,
    extendedKeyUsage: undefined,
    ca: false,
    pathLength: undefined,
    subjectKeyId: undefined,
    authorityKeyId: undefined,
    authoritySerial: undefined,
    unknownCritical,
  };
  if (list === undefined) return found;
  eachExtension(list, ({ oid, critical, value }) => {
    const known = readExtension(oid, new DerReader(value), found);
    if (!known && (critical || oid === Extension.NAME_CONSTRAINTS)) unknownCritical.push(oid);
  });
  return found;
}

export interface RawExtension {
  readonly oid: string;
  readonly critical: boolean;
  /** DER of what the extension says. */
  readonly value: Buffer;
}

/** Walks over a SEQUENCE of extensions, which is all of `der`. Throws when one stands twice. */
export function eachExtension(der: Buffer, visit: (extension: RawExtension) => void): void {
  const outer = new DerReader(der);
  const list = outer.into(Tag.SEQUENCE);
  outer.end();
  const seen = new Set<string>();
  while (!list.done) {
    const one = list.into(Tag.SEQUENCE);
    const oid = oidText(one.next(Tag.OID).content);
    const flag = one.optional(Tag.BOOLEAN);
    const value = one.next(Tag.OCTET_STRING).content;
    one.end();
    if (seen.has(oid) || seen.size === MAX_EXTENSIONS) throw new DerFault("an extension twice, or too many of them");
    seen.add(oid);
    visit({ oid, critical: flag !== undefined && boolean(flag.content), value });
  }
}

/** Reads an extension that we know; false for others. */
function readExtension(oid: string, value: DerReader, found: Writable<Extensions>): boolean {
  switch (oid) {
    case Extension.SUBJECT_ALT_NAME:
      found.names = readNames(value);
      return true;
    case Extension.KEY_USAGE:
      found.keyUsage = namedBits(value.next(Tag.BIT_STRING).content);
      break;
    case Extension.EXTENDED_KEY_USAGE:
      found.extendedKeyUsage = readUsages(value.into(Tag.SEQUENCE));
      break;
    case Extension.BASIC_CONSTRAINTS:
      readConstraints(value.into(Tag.SEQUENCE), found);
      break;
    case Extension.SUBJECT_KEY_ID:
      found.subjectKeyId = value.next(Tag.OCTET_STRING).content.toString("hex");
      break;
    case Extension.AUTHORITY_KEY_ID: {
      const id = value.into(Tag.SEQUENCE);
      found.authorityKeyId = id.optional(0x80)?.content.toString("hex");
      id.optional(0xa1); // the issuer's issuer: a name, and names prove nothing
      const serial = id.optional(0x82);
      found.authoritySerial = serial && serialHex(serial.content);
      id.end();
      break;
    }
    default:
      return false;
  }
  value.end();
  return true;
}

function readNames(value: DerReader): GeneralName[] {
  try {
    const list = value.into(Tag.SEQUENCE);
    value.end();
    const names: GeneralName[] = [];
    while (!list.done) {
      const { tag, content } = list.next();
      if (names.length === MAX_NAMES) throw new NameFault(`more than ${MAX_NAMES} names`);
      names.push({ kind: generalNameKind(tag), bytes: content });
    }
    if (names.length === 0) throw new NameFault("an empty list of names");
    return names;
  } catch (error) {
    throw error instanceof NameFault ? error : new NameFault((error as DerFault).message);
  }
}

/** The kinds that hold a structure are constructed, the others are not. */
function generalNameKind(tag: number): number {
  const kind = tag & 0x1f;
  const structured = kind === 0 || (kind >= 3 && kind <= 5);
  if (kind > 8 || tag - kind !== (structured ? 0xa0 : 0x80)) throw new NameFault("a name of an unknown kind");
  return kind;
}

function readUsages(list: DerReader): string[] {
  const usages: string[] = [];
  while (!list.done) if (usages.push(oidText(list.next(Tag.OID).content)) > MAX_USAGES) throw new DerFault("too many usages");
  return usages;
}

function readConstraints(constraints: DerReader, found: Writable<Extensions>): void {
  const ca = constraints.optional(Tag.BOOLEAN);
  found.ca = ca !== undefined && boolean(ca.content);
  const length = constraints.optional(Tag.INTEGER);
  if (length !== undefined) found.pathLength = smallInteger(length.content);
  constraints.end();
  if (length !== undefined && !found.ca) throw new DerFault("a path length, but no CA");
}
