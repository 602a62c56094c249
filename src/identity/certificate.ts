/**
 * An X.509 certificate (RFC 5280) out of its DER: what judging needs, nothing else.
 * Promises: throws only DerFault (NameFault where the names are at fault); bounded in size and in names; names are bytes as they stood,
 * never a formatted string. Leaves to others: whether any of it is good enough (judge.ts).
 */
import type { Buffer } from "node:buffer";
import { createHash, X509Certificate, type KeyObject } from "node:crypto";
import { DerFault, DerReader, serialHex, smallInteger, Tag, time } from "./der.ts";
import { nameText } from "./distinguished-name.ts";
import { readExtensions, type Extensions } from "./extensions.ts";
import { readPublicKey, type PublicKey } from "./public-key.ts";
import { readSigned, requireSameAlgorithm, type Signed } from "./signature.ts";

export { nameText } from "./distinguished-name.ts";
export { Eku, KeyUsage, type GeneralName } from "./extensions.ts";

export const MAX_CERTIFICATE = 64 << 10;

export interface Certificate extends Extensions {
  readonly der: Buffer;
  /** 1 to 3. */
  readonly version: number;
  /** Lower-case hex, leading zeros kept, without DER's sign byte. */
  readonly serial: string;
  /** Names whole, as DER: equal names have equal bytes here. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** For people, not yet printable. */
  readonly issuerText: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly publicKey: PublicKey;
  readonly signed: Signed;
}

export function parseCertificate(der: Buffer): Certificate {
  if (der.length > MAX_CERTIFICATE) throw new DerFault(`more than ${MAX_CERTIFICATE} bytes`);
  const { signed, body } = readSigned(der);
  const version = readVersion(body);
  const serial = serialHex(body.next(Tag.INTEGER).content);
  requireSameAlgorithm(body, signed);
  const issuer = body.next(Tag.SEQUENCE).whole;
  const validity = body.into(Tag.SEQUENCE);
  const notBefore = time(validity.next());
  const notAfter = time(validity.next());
  validity.end();
  const subject = body.next(Tag.SEQUENCE).whole;
  nameText(subject); // read whole now: a certificate that parsed has names that can be read
  const publicKey = readPublicKey(body);
  body.optional(0x81);
  body.optional(0x82);
  const extensions = body.optional(0xa3);
  body.end();
  const issuerText = nameText(issuer);
  return {
    der,
    version,
    serial,
    issuer,
    subject,
    issuerText,
    notBefore,
    notAfter,
    publicKey,
    signed,
    ...readExtensions(extensions?.content),
  };
}

function readVersion(body: DerReader): number {
  const explicit = body.optional(0xa0);
  if (explicit === undefined) return 1;
  const reader = new DerReader(explicit.content);
  const version = 1 + smallInteger(reader.next(Tag.INTEGER).content);
  reader.end();
  if (version > 3) throw new DerFault("an unknown version");
  return version;
}

export function fingerprintOf(der: Uint8Array): string {
  return `sha256:${createHash("sha256").update(der).digest("hex")}`;
}

/** The same certificate in the runtime's own crypto, for those that hold a private key to it; parsed when asked for. */
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
