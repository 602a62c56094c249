/**
 * What a listener trusts: its CAs and their revocation lists, parsed, checked and counted before anything is served.
 * Promises: junk, an empty list, a certificate that is no CA, an expired CA or list, a CA that leads to no root, a list that nobody
 * trusted signed: a PipegateError (config) that says which. Leaves to others: reading files, judging peers.
 */
import { Buffer } from "node:buffer";
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";
import { fingerprintOf, KeyUsage, nameText, parseCertificate, type Certificate } from "./certificate.ts";
import { MAX_CRL, parseCrl, type Crl } from "./crl.ts";
import { strandedFault, type Anchor } from "./path.ts";
import { keyObject } from "./public-key.ts";
import { SKEW_MS, type Refusal } from "./refusal.ts";
import { nameKey, type Lists, type OnExpired, type TrustedCrl } from "./revocation.ts";
import { isSignedBy } from "./signature.ts";
import { weakness } from "./strength.ts";

export { nextChange, staleLists } from "./revocation.ts";

export interface Trust extends Lists {
  readonly anchors: readonly Anchor[];
  /** The same by their fingerprints. */
  readonly byFingerprint: ReadonlyMap<string, Anchor>;
}

export interface TrustOptions {
  /** PEM texts, each with at least one CA certificate. */
  readonly ca: readonly string[];
  /** PEM (several lists allowed) or DER. */
  readonly crl: readonly Uint8Array[];
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Clients of a CA whose list is out of date. With `warn` such a list is taken, too. Default: refuse. */
  readonly onExpired?: OnExpired;
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

/** The CAs in PEM, for the handshake: those that are judged by, and no others. */
export function authorityTexts({ anchors }: Trust): readonly string[] {
  return anchors.map(({ certificate: { der } }) => {
    const lines = der.toString("base64").replace(/.{64}(?=.)/g, "$&\n");
    return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
  });
}

function refuse(what: string, next: string): PipegateError {
  return new PipegateError("config", what, { next });
}

export function createTrust({ ca, crl, now, onExpired = "refuse" }: TrustOptions): Trust {
  const named = readAnchors(ca, now);
  const anchors = named.map(({ anchor }) => anchor);
  if (anchors.length === 0)
    throw refuse("trust.ca has no CA, so nobody could connect", "name the file of your CA: trust: { ca: [certs/ca.pem] }");
  const [stranded] = strandedAmong(named, now);
  if (stranded !== undefined) throw stranded.error;
  const crls = new Map<string, TrustedCrl[]>();
  for (const [index, bytes] of crl.entries()) {
    for (const list of readCrls(Buffer.from(bytes), { label: `trust.crl[${index}]`, now, anchors, onExpired })) {
      const name = nameKey(list.issuer);
      crls.set(name, [...(crls.get(name) ?? []), list]);
    }
  }
  return { anchors, byFingerprint: new Map(anchors.map((anchor) => [anchor.fingerprint, anchor])), crls, onExpired };
}

/** A CA of which nobody would be believed. */
export interface StrandedAuthority {
  /** Of the text in `ca`. */
  readonly index: number;
  readonly error: PipegateError;
}

/** All of them, when the texts are good by themselves: `createTrust` throws the first. */
export function strandedAuthorities({ ca, now }: Omit<TrustOptions, "crl">): readonly StrandedAuthority[] {
  return strandedAmong(readAnchors(ca, now), now);
}

interface NamedAnchor {
  readonly anchor: Anchor;
  /** Of the text in `ca`. */
  readonly index: number;
}

/** One that is named twice counts once. */
function readAnchors(ca: readonly string[], now: number): readonly NamedAnchor[] {
  const anchors = new Map<string, NamedAnchor>();
  for (const [index, text] of ca.entries()) {
    for (const certificate of readAuthorities(text, { label: `trust.ca[${index}]`, now })) {
      const fingerprint = fingerprintOf(certificate.der);
      if (!anchors.has(fingerprint)) anchors.set(fingerprint, { anchor: { certificate, fingerprint, root: isRoot(certificate) }, index });
    }
  }
  return [...anchors.values()];
}

function strandedAmong(named: readonly NamedAnchor[], now: number): StrandedAuthority[] {
  const anchors = named.map(({ anchor }) => anchor);
  const faultOf = (anchor: Anchor): Refusal | undefined => {
    const fault = strandedFault(anchor, { anchors, now });
    return fault?.reason === "not_yet_valid" ? undefined : fault; // it is there to be ready on the day
  };
  return named.flatMap(({ anchor, index }) => {
    const fault = faultOf(anchor);
    // A CA may have more than one certificate, under several roots: one that leads up is enough.
    if (fault === undefined || anchors.some((other) => isSameCa(other, anchor) && faultOf(other) === undefined)) return [];
    const next =
      fault.reason === "unknown_issuer"
        ? "add the certificates above it, up to the root, which is its own issuer"
        : "leave it out, or name one that may issue clients' certificates";
    const whose = `trust.ca[${index}] holds a CA of which no client would be believed, ${printable(nameText(anchor.certificate.subject), 200)}`;
    return [{ index, error: refuse(`${whose}: ${fault.message}`, next) }];
  });
}

function isSameCa({ certificate: one }: Anchor, { certificate: other }: Anchor): boolean {
  return one.subject.equals(other.subject) && one.publicKey.der.equals(other.publicKey.der);
}

/** As OpenSSL tells one: it names itself as its issuer, and does not point to another key. */
function isRoot({ subject, issuer, subjectKeyId, authorityKeyId }: Certificate): boolean {
  return subject.equals(issuer) && (authorityKeyId === undefined || authorityKeyId === subjectKeyId);
}

/** The CAs of a PEM text, each judged by itself. Throws a PipegateError (config) that begins with `label`. */
export function readAuthorities(text: string, { label, now }: { readonly label: string; readonly now: number }): Certificate[] {
  const blocks = pemBlocks(text, "CERTIFICATE");
  if (blocks === undefined || blocks.length === 0) {
    throw refuse(`${label} holds no certificate in PEM`, "give the CA's certificate, which begins with -----BEGIN CERTIFICATE-----");
  }
  return blocks.map((der) => {
    const certificate = readAuthority(der, label);
    const { keyUsage, notAfter, publicKey, unknownCritical } = certificate;
    if (!certificate.ca || (keyUsage !== undefined && (keyUsage & KeyUsage.KEY_CERT_SIGN) === 0)) {
      throw refuse(`${label} holds a certificate that is not a CA's`, "give the certificate of the CA, not one that it issued");
    }
    if (now > notAfter) throw refuse(`${label}: the CA expired on ${day(notAfter)}`, "renew it: pipegate ca init --force makes a new one");
    const weak = weakness(publicKey);
    if (weak !== undefined) {
      throw refuse(`${label}: the CA's key is too weak: ${weak}`, "make a CA with P-256, Ed25519, or RSA of 2048 bits and more");
    }
    if (unknownCritical.length > 0) {
      throw refuse(
        `${label}: the CA is restricted by an extension that is not understood here, ${unknownCritical[0]}`,
        "use a CA without it",
      );
    }
    return certificate;
  });
}

function readAuthority(der: Buffer, label: string): Certificate {
  try {
    const certificate = parseCertificate(der);
    if (weakness(certificate.publicKey) === undefined) keyObject(certificate.publicKey);
    return certificate;
  } catch (error) {
    throw refuse(`${label} holds a certificate that cannot be read: ${(error as Error).message}`, "copy the CA's certificate again");
  }
}

interface CrlsOptions {
  readonly label: string;
  readonly now: number;
  readonly anchors: readonly Anchor[];
  readonly onExpired: OnExpired;
}

function readCrls(bytes: Buffer, { label, now, anchors, onExpired }: CrlsOptions): TrustedCrl[] {
  if (bytes.length > MAX_CRL * 2) throw refuse(`${label} is larger than ${MAX_CRL * 2} bytes`, "name a revocation list");
  // A SEQUENCE of that size begins with two bytes that no text has; before the first block of PEM there may be any text.
  const binary = (bytes[0] === 0x30 && (bytes[1] ?? 0) >= 0x80) || !bytes.includes("-----BEGIN");
  const blocks = binary ? [bytes] : pemBlocks(bytes.toString("latin1"), "X509 CRL");
  if (blocks === undefined || blocks.length === 0) throw refuse(`${label} holds no revocation list`, "make one: pipegate ca crl");
  return blocks.map((der) => {
    let list: Crl;
    try {
      list = parseCrl(der);
    } catch (error) {
      throw refuse(`${label} holds a revocation list that cannot be read: ${(error as Error).message}`, "make it again: pipegate ca crl");
    }
    const issuers = anchors.filter(({ certificate }) => certificate.subject.equals(list.issuer) && maySignCrls(certificate));
    if (issuers.length === 0) {
      throw refuse(`${label} holds a revocation list of a CA that trust.ca does not name`, "add that CA, or remove the list");
    }
    const issuer = issuers.find(({ certificate }) => isSignedBy(list.signed, certificate.publicKey));
    if (issuer === undefined) {
      throw refuse(`${label} holds a revocation list whose signature is not its CA's`, "make it again: pipegate ca crl");
    }
    if (now > list.nextUpdate && onExpired === "refuse") {
      throw refuse(`${label}: the revocation list went out of date on ${day(list.nextUpdate)}`, "make a new one: pipegate ca crl");
    }
    if (list.thisUpdate > now + SKEW_MS)
      throw refuse(`${label}: the revocation list is of the future, ${day(list.thisUpdate)}`, "check the clock");
    const { signed: _, ...facts } = list;
    return { ...facts, by: issuer.certificate.publicKey };
  });
}

function maySignCrls({ keyUsage }: Certificate): boolean {
  return keyUsage === undefined || (keyUsage & KeyUsage.CRL_SIGN) !== 0;
}

function day(at: number): string {
  return new Date(at).toISOString();
}
