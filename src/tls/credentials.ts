/**
 * Whether a certificate and its key can be shown to others: whole, ours, of the right use, valid now, leaf first. The one judge of them:
 * what a listener refuses is what `pipegate check` refuses. A runtime that takes junk (Deno) would only fail every handshake later.
 * Promises: each fault says which of the two is wrong and how to mend it. Values in, values out.
 * Leaves to others: reading the files and who may read them, where in the config they stand (config/), what peers think of it.
 */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { PipegateError } from "../base/error.ts";
import { CertificateKey, Eku, KeyUsage, parseCertificate, type Certificate } from "../identity/certificate.ts";
import { SKEW_MS } from "../identity/refusal.ts";
import { weakness } from "../identity/strength.ts";
import { pemBlocks } from "../identity/pem.ts";
import type { Credentials } from "./listener-options.ts";

export interface CheckOptions {
  /** Whether we are the server or, to a back end, the client. */
  readonly role: "gateway" | "client";
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** Both in a few words, without a full stop. */
export interface CredentialFault {
  /** What follows the name of what is wrong: `expired on ...`. */
  readonly says: string;
  /** The mend. */
  readonly next: string;
}

export interface Checked {
  /** What is wrong with the certificate. */
  readonly certificate?: CredentialFault;
  readonly key?: CredentialFault;
  /** What is odd about the certificate, as what follows its name. */
  readonly warnings: readonly string[];
  /** The leaf's end, when it could be read. Milliseconds since the epoch. */
  readonly notAfter?: number;
}

const MAX_CHAIN = 10;
const GeneralNameKind = { DNS: 2, IP: 7 } as const;

interface Link {
  readonly certificate: Certificate;
  readonly key: CertificateKey;
}

/** The chain that was read last, by its text: config, snapshot and each listener ask about the same one. */
let last: { readonly text: string; readonly chain: readonly Link[] } | undefined;

/** Throws a PipegateError (config) when these cannot be served. `now`: milliseconds since the epoch. */
export function requireUsableCredentials(credentials: Credentials, now: number): void {
  const checked = checkCredentials(credentials, { role: "gateway", now });
  for (const what of ["certificate", "key"] as const) {
    const fault = checked[what];
    if (fault !== undefined) throw new PipegateError("config", `the gateway's ${what} ${fault.says}`, { next: fault.next });
  }
}

/** PEM texts; undefined: that one cannot be had, and the other is judged alone. */
export function checkCredentials(pem: { readonly [K in keyof Credentials]: string | undefined }, options: CheckOptions): Checked {
  const chain = pem.certificate === undefined ? undefined : readChain(pem.certificate);
  const key = pem.key === undefined ? undefined : readKey(pem.key);
  const keyFault = key !== undefined && "says" in key ? { key } : {};
  if (chain !== undefined && "says" in chain) return { certificate: chain, ...keyFault, warnings: [] };
  const leaf = chain?.[0];
  if (chain === undefined || leaf === undefined) return { ...keyFault, warnings: [] };
  const { notAfter } = leaf.certificate;
  const fault = chainFault(chain, options);
  if (fault !== undefined) return { certificate: fault, ...keyFault, warnings: [], notAfter };
  const warnings = oddities(leaf.certificate, options);
  if (key !== undefined && !("says" in key) && !fits(leaf, key)) {
    return { key: { says: "is not the key of the certificate", next: "name the one that it was made for" }, warnings, notAfter };
  }
  return { ...keyFault, warnings, notAfter };
}

function readChain(text: string): readonly Link[] | CredentialFault {
  if (last?.text === text) return last.chain;
  const blocks = pemBlocks(text, "CERTIFICATE");
  if (blocks === undefined) return { says: "is cut off or damaged", next: "copy it again" };
  if (blocks.length === 0) {
    return text.includes("PRIVATE KEY-----")
      ? { says: "holds a key and no certificate", next: "see whether the two are exchanged" }
      : { says: "holds no certificate in PEM", next: "name one that begins with -----BEGIN CERTIFICATE-----" };
  }
  if (blocks.length > MAX_CHAIN)
    return { says: `holds ${blocks.length} certificates`, next: `leave only its chain there, ${MAX_CHAIN} at most` };
  try {
    const chain = blocks.map((der) => {
      const key = new CertificateKey(der);
      void key.publicKey; // throws when the runtime cannot read it
      return { certificate: parseCertificate(der), key };
    });
    last = { text, chain };
    return chain;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { says: `holds a certificate that cannot be read (${why})`, next: "copy it again" };
  }
}

function readKey(text: string): KeyObject | CredentialFault {
  if (/BEGIN ENCRYPTED|Proc-Type: 4,ENCRYPTED/u.test(text))
    return { says: "is encrypted", next: "decrypt it first: openssl pkey -in FILE -out FILE.pem" };
  if (!text.includes("PRIVATE KEY-----")) {
    return text.includes("BEGIN CERTIFICATE-----")
      ? { says: "holds a certificate and no key", next: "see whether the two are exchanged" }
      : { says: "holds no private key in PEM", next: "name one that begins with -----BEGIN PRIVATE KEY-----" };
  }
  try {
    return createPrivateKey(text);
  } catch {
    return { says: "holds a private key that cannot be read", next: "copy it again" };
  }
}

function fits({ key }: Link, own: KeyObject): boolean {
  try {
    return key.x509.checkPrivateKey(own);
  } catch {
    return false; // of another kind
  }
}

function chainFault(chain: readonly Link[], options: CheckOptions): CredentialFault | undefined {
  const fault = leafFault(chain, options);
  if (fault !== undefined) return fault;
  for (const [index, link] of chain.entries()) {
    const late = timeFault(link.certificate, { index, ...options });
    if (late !== undefined) return late;
    const issuer = chain[index + 1];
    if (issuer !== undefined && !issued(issuer, link)) {
      return {
        says: `is no chain: certificate ${index + 2} did not issue the one before it`,
        next: "put our own first, then each one's issuer",
      };
    }
  }
  return undefined;
}

function leafFault(chain: readonly Link[], { role }: CheckOptions): CredentialFault | undefined {
  const { certificate: leaf, key } = chain[0]!;
  const next = mend(role);
  if (leaf.ca) {
    return chain.length > 1
      ? { says: "begins with a CA's certificate", next: "put our own first, then each one's issuer" }
      : { says: "is a CA's instead of one that it issued for us", next };
  }
  const usage = role === "gateway" ? Eku.SERVER_AUTH : Eku.CLIENT_AUTH;
  if (leaf.extendedKeyUsage !== undefined && !leaf.extendedKeyUsage.includes(usage))
    return { says: `is not for a ${role === "gateway" ? "server (serverAuth)" : "client (clientAuth)"}`, next };
  if (leaf.keyUsage !== undefined && (leaf.keyUsage & KeyUsage.DIGITAL_SIGNATURE) === 0)
    return { says: "may not sign (key usage without digitalSignature)", next };
  const weak = weakness(key.publicKey);
  return weak === undefined
    ? undefined
    : { says: `has a key that is too weak, ${weak}`, next: "use P-256, Ed25519, or RSA of 2048 bits and more" };
}

function timeFault(
  { notBefore, notAfter }: Certificate,
  { index, role, now }: CheckOptions & { readonly index: number },
): CredentialFault | undefined {
  const which = index === 0 ? "" : `holds a chain whose certificate ${index + 1} `;
  if (now > notAfter) {
    return {
      says: `${which}expired on ${new Date(notAfter).toISOString()}`,
      next: index === 0 ? mend(role) : "put its CA's new one there",
    };
  }
  if (now + SKEW_MS < notBefore)
    return { says: `${which}is valid from ${new Date(notBefore).toISOString()} only`, next: "check the clock" };
  return undefined;
}

function mend(role: CheckOptions["role"]): string {
  return `issue one: pipegate ca issue --role ${role}`;
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
