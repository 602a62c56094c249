/**
 * The CAs that a config names, out of PEM, each judged by itself and whether it leads to a root.
 * Promises: junk, a certificate that is no CA, a CA that has expired before it was known, one that leads to no root: a PipegateError
 * (config) that says which.
 * Leaves to others: reading files, judging peers.
 */
import type { Buffer } from "node:buffer";
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";
import { fingerprintOf, KeyUsage, nameText, parseCertificate, type Certificate } from "./certificate.ts";
import { strandedFault, type Anchor } from "./path.ts";
import { pemBlocks } from "./pem.ts";
import { keyObject } from "./public-key.ts";
import type { Refusal } from "./refusal.ts";
import { weakness } from "./strength.ts";

/** A CA of which nobody would be believed. */
export interface StrandedAuthority {
  /** Of the text in `ca`. */
  readonly index: number;
  readonly error: PipegateError;
}

export interface NamedAnchor {
  readonly anchor: Anchor;
  /** Of the text in `ca`. */
  readonly index: number;
}

export interface AnchorsOptions {
  /** Milliseconds since the epoch. */
  readonly now: number;
  /**
   * Those of before by their fingerprints: the same CA is the same value, with what was proven of it. One that has expired since is taken:
   * nobody is believed by it any more, and it must not keep other trust out.
   */
  readonly known?: ReadonlyMap<string, Anchor> | undefined;
}

/** The CAs of PEM texts; one that is named twice counts once. Throws a PipegateError (config). */
export function readAnchors(ca: readonly string[], { now, known }: AnchorsOptions): readonly NamedAnchor[] {
  const anchors = new Map<string, NamedAnchor>();
  for (const [index, text] of ca.entries()) {
    for (const certificate of readAuthorities(text, { label: `trust.ca[${index}]`, now, known })) {
      const fingerprint = fingerprintOf(certificate.der);
      const anchor = known?.get(fingerprint) ?? { certificate, fingerprint, root: isRoot(certificate) };
      if (!anchors.has(fingerprint)) anchors.set(fingerprint, { anchor, index });
    }
  }
  return [...anchors.values()];
}

/** All of them, when the texts are good by themselves. */
export function strandedAmong(named: readonly NamedAnchor[], { now, known }: AnchorsOptions): StrandedAuthority[] {
  const anchors = named.map(({ anchor }) => anchor);
  const faultOf = (anchor: Anchor): Refusal | undefined => {
    const fault = strandedFault(anchor, { anchors, now });
    if (fault?.reason === "not_yet_valid") return undefined; // it is there to be ready on the day
    return fault?.reason === "cert_expired" && known?.has(anchor.fingerprint) === true ? undefined : fault;
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

/** Which of the texts holds it; less than 0: none. */
export function textOfAuthority(ca: readonly string[], fingerprint: string): number {
  return ca.findIndex((text) => pemBlocks(text, "CERTIFICATE")?.some((der) => fingerprintOf(der) === fingerprint) === true);
}

function isSameCa({ certificate: one }: Anchor, { certificate: other }: Anchor): boolean {
  return one.subject.equals(other.subject) && one.publicKey.der.equals(other.publicKey.der);
}

/** As OpenSSL tells one: it names itself as its issuer, and does not point to another key. */
function isRoot({ subject, issuer, subjectKeyId, authorityKeyId }: Certificate): boolean {
  return subject.equals(issuer) && (authorityKeyId === undefined || authorityKeyId === subjectKeyId);
}

interface AuthoritiesOptions extends AnchorsOptions {
  readonly label: string;
}

/** The CAs of a PEM text, each judged by itself. Throws a PipegateError (config) that begins with `label`. */
export function readAuthorities(text: string, { label, now, known }: AuthoritiesOptions): Certificate[] {
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
    if (now > notAfter && known?.has(fingerprintOf(der)) !== true)
      throw refuse(`${label}: the CA expired on ${day(notAfter)}`, "renew it: pipegate ca init --force makes a new one");
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

function refuse(what: string, next: string): PipegateError {
  return new PipegateError("config", what, { next });
}

function day(at: number): string {
  return new Date(at).toISOString();
}
