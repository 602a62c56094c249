/**
 * Whether a certificate and its key can be shown to others: whole, ours, of the right use, valid now, leaf first.
 * Promises: each fault says which of the two is wrong and how to mend it. Values in, values out.
 * Leaves to others: reading the files and who may read them (files.ts), what peers think of it.
 */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { CertificateKey, Eku, KeyUsage, parseCertificate, type Certificate } from "../identity/certificate.ts";
import { weakness } from "../identity/strength.ts";
import { pemBlocks } from "../identity/trust.ts";
import type { Credentials } from "../tls/listener-options.ts";

export interface CheckOptions {
  /** Whether we are the server or, to a back end, the client. */
  readonly role: "gateway" | "client";
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface Checked {
  /** What is wrong with the certificate, as what follows its file's name. */
  readonly certificate?: string;
  /** The same of the key. */
  readonly key?: string;
  /** What is odd about the certificate. */
  readonly warnings: readonly string[];
  /** The leaf's end, when it could be read. Milliseconds since the epoch. */
  readonly notAfter?: number;
}

const SKEW_MS = 60_000;
const MAX_CHAIN = 10;
const GeneralNameKind = { DNS: 2, IP: 7 } as const;

interface Link {
  readonly certificate: Certificate;
  readonly key: CertificateKey;
}

/** PEM texts; undefined: that file could not be read, and the other is judged alone. */
export function checkCredentials(pem: { readonly [K in keyof Credentials]: string | undefined }, options: CheckOptions): Checked {
  const chain = pem.certificate === undefined ? undefined : readChain(pem.certificate);
  const key = pem.key === undefined ? undefined : readKey(pem.key);
  const keyFault = typeof key === "string" ? { key } : {};
  if (typeof chain === "string") return { certificate: chain, ...keyFault, warnings: [] };
  const leaf = chain?.[0];
  if (chain === undefined || leaf === undefined) return { ...keyFault, warnings: [] };
  const { notAfter } = leaf.certificate;
  const fault = chainFault(chain, options);
  if (fault !== undefined) return { certificate: fault, ...keyFault, warnings: [], notAfter };
  const warnings = oddities(leaf.certificate, options);
  if (key !== undefined && typeof key !== "string" && !fits(leaf, key))
    return { key: "is not the key of the certificate; name the one that it was made for", warnings, notAfter };
  return { ...keyFault, warnings, notAfter };
}

function readChain(text: string): readonly Link[] | string {
  const blocks = pemBlocks(text, "CERTIFICATE");
  if (blocks === undefined) return "is cut off or damaged; copy it again";
  if (blocks.length === 0)
    return text.includes("PRIVATE KEY-----")
      ? "holds a key and no certificate; are the two exchanged?"
      : "holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----";
  if (blocks.length > MAX_CHAIN) return `holds ${blocks.length} certificates; at most ${MAX_CHAIN} make a chain`;
  try {
    return blocks.map((der) => {
      const key = new CertificateKey(der);
      void key.publicKey; // throws when the runtime cannot read it
      return { certificate: parseCertificate(der), key };
    });
  } catch (error) {
    return `holds a certificate that cannot be read (${error instanceof Error ? error.message : String(error)}); copy it again`;
  }
}

function readKey(text: string): KeyObject | string {
  if (/BEGIN ENCRYPTED|Proc-Type: 4,ENCRYPTED/u.test(text)) return "is encrypted; decrypt it first: openssl pkey -in FILE -out FILE.pem";
  if (!text.includes("PRIVATE KEY-----")) {
    return text.includes("BEGIN CERTIFICATE-----")
      ? "holds a certificate and no key; are the two exchanged?"
      : "holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY-----";
  }
  try {
    return createPrivateKey(text);
  } catch {
    return "holds a private key that cannot be read; copy it again";
  }
}

function fits({ key }: Link, own: KeyObject): boolean {
  try {
    return key.x509.checkPrivateKey(own);
  } catch {
    return false; // of another kind
  }
}

function chainFault(chain: readonly Link[], { role, now }: CheckOptions): string | undefined {
  const { certificate: leaf, key } = chain[0]!;
  if (leaf.ca)
    return chain.length > 1
      ? "begins with a CA's certificate; our own comes first"
      : "holds a CA's certificate instead of one that it issued for us";
  const usage = role === "gateway" ? Eku.SERVER_AUTH : Eku.CLIENT_AUTH;
  const issue = `issue one: pipegate ca issue --role ${role}`;
  if (leaf.extendedKeyUsage !== undefined && !leaf.extendedKeyUsage.includes(usage))
    return `is not for a ${role === "gateway" ? "server (serverAuth)" : "client (clientAuth)"}; ${issue}`;
  if (leaf.keyUsage !== undefined && (leaf.keyUsage & KeyUsage.DIGITAL_SIGNATURE) === 0)
    return `may not sign (key usage without digitalSignature); ${issue}`;
  const weak = weakness(key.publicKey);
  if (weak !== undefined) return `has a key that is too weak, ${weak}; use P-256, Ed25519, or RSA of 2048 bits and more`;
  for (const [index, { certificate }] of chain.entries()) {
    const whose = index === 0 ? "" : `, certificate ${index + 1},`;
    if (now > certificate.notAfter)
      return `${whose.slice(1)} expired on ${new Date(certificate.notAfter).toISOString()}; ${issue}`.trimStart();
    if (now + SKEW_MS < certificate.notBefore)
      return `${whose.slice(1)} is valid from ${new Date(certificate.notBefore).toISOString()} only; check the clock`.trimStart();
    const issuer = chain[index + 1];
    if (issuer !== undefined && !issued(issuer, chain[index]!))
      return `is no chain: certificate ${index + 2} did not issue the one before it; leaf first, then each one's issuer`;
  }
  return undefined;
}

function issued(issuer: Link, { certificate, key }: Link): boolean {
  try {
    return issuer.certificate.subject.equals(certificate.issuer) && key.x509.verify(issuer.key.publicKey);
  } catch {
    return false;
  }
}

function oddities({ names, notBefore, notAfter }: Certificate, { role, now }: CheckOptions): string[] {
  const warnings: string[] = [];
  if (notAfter - now < (notAfter - notBefore) / 5) warnings.push(`expires soon, on ${new Date(notAfter).toISOString()}`);
  if (role === "gateway" && !names.some(({ kind }) => kind === GeneralNameKind.DNS || kind === GeneralNameKind.IP)) {
    warnings.push("names no host and no address, so clients cannot tell that it is this gateway");
  }
  return warnings;
}
