/**
 * An X.509 v3 certificate (RFC 5280) out of its DER: what judging needs, nothing else.
 * Promises: throws only DerFault; bounded in size and in names; names are bytes as they stood, never a formatted string.
 * Leaves to others: whether any of it is good enough (judge.ts).
 */
import { createHash, X509Certificate, type KeyObject } from "node:crypto";
import { boolean, DerFault, DerReader, integerHex, namedBits, oidText, smallInteger, Tag, time, type Element } from "./der.ts";

export const MAX_CERTIFICATE = 64 << 10;
export const MAX_NAMES = 100;

/** KeyUsage bits as namedBits gives them. */
export const KeyUsage = { DIGITAL_SIGNATURE: 0x8000, KEY_CERT_SIGN: 0x0400, CRL_SIGN: 0x0200 } as const;
export const Eku = { ANY: "2.5.29.37.0", SERVER_AUTH: "1.3.6.1.5.5.7.3.1", CLIENT_AUTH: "1.3.6.1.5.5.7.3.2" } as const;

export interface GeneralName {
  /** Context tag: 1 rfc822, 2 DNS, 6 URI, 7 IP, ... */
  readonly kind: number;
  readonly bytes: Buffer;
}

export interface Certificate {
  readonly der: Buffer;
  /** 1 to 3. */
  readonly version: number;
  readonly serial: string;
  /** OID of the signature. */
  readonly signature: string;
  /** Names whole, as DER: equal names have equal bytes here. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** Values of the subject's common names, in order, as their string elements. */
  readonly commonNames: readonly Element[];
  /** For people. */
  readonly issuerText: string;
  readonly notBefore: number;
  readonly notAfter: number;
  /** OID of the key's algorithm, and of its curve where it has one. */
  readonly keyAlgorithm: string;
  readonly names: readonly GeneralName[];
  readonly keyUsage: number | undefined;
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly ca: boolean;
  readonly pathLength: number | undefined;
  readonly subjectKeyId: string | undefined;
  readonly authorityKeyId: string | undefined;
  /** OIDs of critical extensions that this file does not know. */
  readonly unknownCritical: readonly string[];
}

const Extension = {
  SUBJECT_KEY_ID: "2.5.29.14",
  KEY_USAGE: "2.5.29.15",
  SUBJECT_ALT_NAME: "2.5.29.17",
  BASIC_CONSTRAINTS: "2.5.29.19",
  AUTHORITY_KEY_ID: "2.5.29.35",
  EXTENDED_KEY_USAGE: "2.5.29.37",
} as const;

interface Extensions {
  names: GeneralName[];
  keyUsage: number | undefined;
  extendedKeyUsage: string[] | undefined;
  ca: boolean;
  pathLength: number | undefined;
  subjectKeyId: string | undefined;
  authorityKeyId: string | undefined;
  unknownCritical: string[];
}

export function parseCertificate(der: Buffer): Certificate {
  if (der.length > MAX_CERTIFICATE) throw new DerFault(`more than ${MAX_CERTIFICATE} bytes`);
  const outer = new DerReader(der);
  const certificate = outer.into(Tag.SEQUENCE);
  outer.end();
  const body = certificate.into(Tag.SEQUENCE);
  const signature = algorithm(certificate);
  certificate.next(Tag.BIT_STRING);
  certificate.end();

  const explicit = body.optional(0xa0);
  const version = explicit === undefined ? 1 : 1 + smallInteger(new DerReader(explicit.content).next(Tag.INTEGER).content);
  if (version < 1 || version > 3) throw new DerFault("an unknown version");
  const serial = body.next(Tag.INTEGER).content;
  if (serial.length > 21) throw new DerFault("a serial of more than 20 bytes");
  if (algorithm(body) !== signature) throw new DerFault("two different signature algorithms");
  const issuer = body.next(Tag.SEQUENCE).whole;
  const validity = body.into(Tag.SEQUENCE);
  const notBefore = time(validity.next());
  const notAfter = time(validity.next());
  validity.end();
  const subject = body.next(Tag.SEQUENCE).whole;
  const keyAlgorithm = algorithm(body.into(Tag.SEQUENCE));
  body.optional(0x81);
  body.optional(0x82);
  const list = body.optional(0xa3);
  body.end();
  return {
    der,
    version,
    serial: integerHex(serial),
    signature,
    issuer,
    subject,
    commonNames: attributes(subject).filter(({ type }) => type === "2.5.4.3").map(({ value }) => value),
    issuerText: nameText(issuer),
    notBefore,
    notAfter,
    keyAlgorithm,
    ...extensions(list?.content),
  };
}

/** The OID of an AlgorithmIdentifier. */
function algorithm(reader: DerReader): string {
  const identifier = reader.into(Tag.SEQUENCE);
  return oidText(identifier.next(Tag.OID).content);
}

function extensions(content: Buffer | undefined): Extensions {
  const found: Extensions = {
    names: [],
    keyUsage: undefined,
    extendedKeyUsage: undefined,
    ca: false,
    pathLength: undefined,
    subjectKeyId: undefined,
    authorityKeyId: undefined,
    unknownCritical: [],
  };
  if (content === undefined) return found;
  const outer = new DerReader(content);
  const list = outer.into(Tag.SEQUENCE);
  outer.end();
  const seen = new Set<string>();
  while (!list.done) {
    const one = list.into(Tag.SEQUENCE);
    const oid = oidText(one.next(Tag.OID).content);
    const flag = one.optional(Tag.BOOLEAN);
    const critical = flag !== undefined && boolean(flag.content);
    const value = new DerReader(one.next(Tag.OCTET_STRING).content);
    one.end();
    if (seen.has(oid) || seen.size >= 50) throw new DerFault("an extension twice, or too many of them");
    seen.add(oid);
    if (!readExtension(oid, value, found) && critical) found.unknownCritical.push(oid);
  }
  return found;
}

/** Reads an extension that we know; false for others. */
function readExtension(oid: string, value: DerReader, found: Extensions): boolean {
  switch (oid) {
    case Extension.SUBJECT_ALT_NAME: {
      const names = value.into(Tag.SEQUENCE);
      while (!names.done) {
        const { tag, content } = names.next();
        if (found.names.push({ kind: tag & 0x1f, bytes: content }) > MAX_NAMES) throw new DerFault(`more than ${MAX_NAMES} names`);
      }
      break;
    }
    case Extension.KEY_USAGE:
      found.keyUsage = namedBits(value.next(Tag.BIT_STRING).content);
      break;
    case Extension.EXTENDED_KEY_USAGE: {
      const uses = value.into(Tag.SEQUENCE);
      found.extendedKeyUsage = [];
      while (!uses.done) if (found.extendedKeyUsage.push(oidText(uses.next(Tag.OID).content)) > MAX_NAMES) throw new DerFault("too many usages");
      break;
    }
    case Extension.BASIC_CONSTRAINTS: {
      const constraints = value.into(Tag.SEQUENCE);
      const ca = constraints.optional(Tag.BOOLEAN);
      found.ca = ca !== undefined && boolean(ca.content);
      const length = constraints.optional(Tag.INTEGER);
      if (length !== undefined) found.pathLength = smallInteger(length.content);
      constraints.end();
      break;
    }
    case Extension.SUBJECT_KEY_ID:
      found.subjectKeyId = value.next(Tag.OCTET_STRING).content.toString("hex");
      break;
    case Extension.AUTHORITY_KEY_ID:
      found.authorityKeyId = value.into(Tag.SEQUENCE).optional(0x80)?.content.toString("hex");
      return true; // its other fields do not matter
    default:
      return false;
  }
  value.end();
  return true;
}

/** Attributes of a Name, flat; `alone`: its RDN has no other. */
function attributes(name: Buffer): { readonly type: string; readonly value: Element; readonly alone: boolean }[] {
  const found: { type: string; value: Element; alone: boolean }[] = [];
  const names = new DerReader(name).into(Tag.SEQUENCE);
  while (!names.done) {
    const set = names.into(Tag.SET);
    const first = found.length;
    while (!set.done) {
      const pair = set.into(Tag.SEQUENCE);
      const type = oidText(pair.next(Tag.OID).content);
      found.push({ type, value: pair.next(), alone: true });
      pair.end();
      if (found.length > MAX_NAMES) throw new DerFault("too many attributes in a name");
    }
    if (found.length - first > 1) for (const one of found.slice(first)) one.alone = false;
  }
  return found;
}

/** Whether a common name stands in a multi-valued RDN: such a name says nothing for sure. */
export function hasMultiValuedName(subject: Buffer): boolean {
  return attributes(subject).some(({ type, alone }) => type === "2.5.4.3" && !alone);
}

const short: Readonly<Record<string, string>> = { "2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU" };

/** A directory string as text; undefined when its bytes are not what its type says. */
export function stringText({ tag, content }: Element): string | undefined {
  switch (tag) {
    case Tag.UTF8:
      try {
        return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content);
      } catch {
        return undefined;
      }
    case Tag.PRINTABLE:
    case Tag.IA5:
      return content.every((byte) => byte < 0x80) ? content.toString("latin1") : undefined;
    case Tag.T61:
      return content.toString("latin1");
    case Tag.BMP:
      return content.length % 2 === 0 ? Buffer.from(content).swap16().toString("utf16le") : undefined;
    default:
      return undefined;
  }
}

/** A Name for people, not for comparing. */
export function nameText(name: Buffer): string {
  return attributes(name)
    .map(({ type, value }) => `${short[type] ?? type}=${stringText(value) ?? value.content.toString("hex")}`)
    .join(", ");
}

export function fingerprintOf(der: Uint8Array): string {
  return `sha256:${createHash("sha256").update(der).digest("hex")}`;
}

/** Public key and issuing, by the runtime's own crypto; parsed when asked for. */
export class CertificateKey {
  readonly #der: Buffer;
  #x509: X509Certificate | undefined;
  constructor(der: Buffer) {
    this.#der = der;
  }
  get x509(): X509Certificate {
    return (this.#x509 ??= new X509Certificate(this.#der));
  }
  get publicKey(): KeyObject {
    return this.x509.publicKey;
  }
}
