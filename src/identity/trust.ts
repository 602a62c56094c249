/**
 * What a listener trusts: its CAs and their revocation lists, parsed, checked and counted before anything is served.
 * Promises: junk, an empty list, a certificate that is no CA, an expired CA or list, a list that nobody trusted signed: a PipegateError
 * (config) that says which. Leaves to others: reading files, judging peers.
 */
import { Buffer } from "node:buffer";
import { PipegateError } from "../base/error.ts";
import { CertificateKey, KeyUsage, parseCertificate, type Certificate } from "./certificate.ts";
import { isSignedBy, MAX_CRL, parseCrl, type Crl } from "./crl.ts";
import { weakness } from "./strength.ts";

export interface Anchor {
  readonly certificate: Certificate;
  readonly key: CertificateKey;
}

export interface Trust {
  readonly anchors: readonly Anchor[];
  /** By the issuer's name in hex; several lists of one CA count together. */
  readonly crls: ReadonlyMap<string, readonly Crl[]>;
}

export interface TrustOptions {
  /** PEM texts, each with at least one CA certificate. */
  readonly ca: readonly string[];
  /** PEM (several lists allowed) or DER. */
  readonly crl: readonly Uint8Array[];
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** Blocks of a PEM text with this label, decoded. Undefined when one is malformed. */
export function pemBlocks(text: string, label: string): Buffer[] | undefined {
  const blocks: Buffer[] = [];
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  for (let at = text.indexOf(begin); at >= 0; at = text.indexOf(begin, at)) {
    const close = text.indexOf(end, at);
    if (close < 0) return undefined;
    const body = text.slice(at + begin.length, close).replace(/\s+/g, "");
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(body)) return undefined;
    blocks.push(Buffer.from(body, "base64"));
    at = close + end.length;
  }
  return blocks;
}

function refuse(what: string, next: string): PipegateError {
  return new PipegateError("config", what, { next });
}

export function createTrust({ ca, crl, now }: TrustOptions): Trust {
  const anchors = ca.flatMap((text, index) => readAnchors(text, { label: `trust.ca[${index}]`, now }));
  if (anchors.length === 0) throw refuse("trust.ca has no CA, so nobody could connect", "name the file of your CA: trust: { ca: [certs/ca.pem] }");
  const crls = new Map<string, Crl[]>();
  for (const [index, bytes] of crl.entries()) {
    for (const list of readCrls(Buffer.from(bytes), { label: `trust.crl[${index}]`, now, anchors })) {
      const key = list.issuer.toString("hex");
      crls.set(key, [...(crls.get(key) ?? []), list]);
    }
  }
  return { anchors, crls };
}

function readAnchors(text: string, { label, now }: { readonly label: string; readonly now: number }): Anchor[] {
  const blocks = pemBlocks(text, "CERTIFICATE");
  if (blocks === undefined || blocks.length === 0) throw refuse(`${label} holds no certificate in PEM`, "give the CA's certificate, which begins with -----BEGIN CERTIFICATE-----");
  return blocks.map((der) => {
    let certificate: Certificate;
    const key = new CertificateKey(der);
    try {
      certificate = parseCertificate(der);
      void key.publicKey;
    } catch (error) {
      throw refuse(`${label} holds a certificate that cannot be read: ${(error as Error).message}`, "copy the CA's certificate again");
    }
    const usage = certificate.keyUsage;
    if (!certificate.ca || (usage !== undefined && (usage & KeyUsage.KEY_CERT_SIGN) === 0)) {
      throw refuse(`${label} holds a certificate that is not a CA's`, "give the certificate of the CA, not one that it issued");
    }
    if (now > certificate.notAfter) throw refuse(`${label}: the CA expired on ${day(certificate.notAfter)}`, "renew it: pipegate ca init --force makes a new one");
    const weak = weakness(key.publicKey);
    if (weak !== undefined) throw refuse(`${label}: the CA's key is too weak: ${weak}`, "make a CA with P-256, Ed25519, or RSA of 2048 bits and more");
    return { certificate, key };
  });
}

function readCrls(bytes: Buffer, { label, now, anchors }: { readonly label: string; readonly now: number; readonly anchors: readonly Anchor[] }): Crl[] {
  if (bytes.length > MAX_CRL * 2) throw refuse(`${label} is larger than ${MAX_CRL * 2} bytes`, "name a revocation list");
  const text = bytes.subarray(0, 4096).includes("-----BEGIN") ? bytes.toString("latin1") : undefined;
  const blocks = text === undefined ? [bytes] : pemBlocks(text, "X509 CRL");
  if (blocks === undefined || blocks.length === 0) throw refuse(`${label} holds no revocation list`, "make one: pipegate ca crl");
  return blocks.map((der) => {
    let list: Crl;
    try {
      list = parseCrl(der);
    } catch (error) {
      throw refuse(`${label} holds a revocation list that cannot be read: ${(error as Error).message}`, "make it again: pipegate ca crl");
    }
    const issuers = anchors.filter(({ certificate }) => certificate.subject.equals(list.issuer) && maySignCrls(certificate));
    if (issuers.length === 0) throw refuse(`${label} holds a revocation list of a CA that trust.ca does not name`, "add that CA, or remove the list");
    if (!issuers.some(({ key }) => isSignedBy(list, key.publicKey))) throw refuse(`${label} holds a revocation list whose signature is not its CA's`, "make it again: pipegate ca crl");
    if (now > list.nextUpdate) throw refuse(`${label}: the revocation list went out of date on ${day(list.nextUpdate)}`, "make a new one: pipegate ca crl");
    if (list.thisUpdate > now + 60_000) throw refuse(`${label}: the revocation list is of the future, ${day(list.thisUpdate)}`, "check the clock");
    return list;
  });
}

function maySignCrls({ keyUsage }: Certificate): boolean {
  return keyUsage === undefined || (keyUsage & KeyUsage.CRL_SIGN) !== 0;
}

function day(at: number): string {
  return new Date(at).toISOString();
}
