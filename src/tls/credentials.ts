/**
 * Whether a listener's own certificate and key can be served: a runtime that takes junk (Deno) would only fail every handshake later.
 * Promises: throws a PipegateError (config) that says which of the two is wrong and how to mend it. Leaves to others: reading files,
 * where in the config they stand, warnings (config/).
 */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { PipegateError } from "../base/error.ts";
import { CertificateKey, Eku, parseCertificate, type Certificate } from "../identity/certificate.ts";
import { pemBlocks } from "../identity/trust.ts";
import type { Credentials } from "./listener-options.ts";

interface Link {
  readonly certificate: Certificate;
  readonly key: CertificateKey;
}

const MAX_CHAIN = 10;
const issueOne = "issue one: pipegate ca issue --role gateway";

/** `now`: milliseconds since the epoch. */
export function requireUsableCredentials({ certificate, key }: Credentials, now: number): void {
  const chain = readChain(certificate);
  const [leaf] = chain;
  if (leaf === undefined)
    throw refuse("the gateway's certificate is no certificate in PEM", "give it leaf first, beginning with -----BEGIN CERTIFICATE-----");
  if (leaf.certificate.ca)
    throw refuse("the gateway's certificate is a CA's", chain.length > 1 ? "put our own certificate first, then the chain" : issueOne);
  const usages = leaf.certificate.extendedKeyUsage;
  if (usages !== undefined && !usages.includes(Eku.SERVER_AUTH))
    throw refuse("the gateway's certificate is not for servers (serverAuth)", issueOne);
  for (const [index, { certificate: one }] of chain.entries()) {
    const which = index === 0 ? "the gateway's certificate" : `certificate ${index + 1} of the gateway's chain`;
    if (now > one.notAfter) throw refuse(`${which} expired on ${new Date(one.notAfter).toISOString()}`, issueOne);
    const issuer = chain[index + 1];
    if (issuer !== undefined && !hasIssued(issuer, chain[index] as Link)) {
      throw refuse(
        `certificate ${index + 2} of the gateway's chain did not issue the one before it`,
        "give the leaf first, then each one's issuer",
      );
    }
  }
  if (!fits(leaf, readKey(key)))
    throw refuse("the gateway's key does not belong to its certificate", "give the key that the certificate was made for");
}

function readChain(text: string): Link[] {
  const blocks = pemBlocks(text, "CERTIFICATE");
  if (blocks === undefined) throw refuse("the gateway's certificate is cut off or damaged", "copy it again");
  if (blocks.length > MAX_CHAIN) throw refuse(`the gateway's chain has ${blocks.length} certificates`, `at most ${MAX_CHAIN} make a chain`);
  try {
    return blocks.map((der) => {
      const key = new CertificateKey(der);
      void key.publicKey; // throws when the runtime cannot read it
      return { certificate: parseCertificate(der), key };
    });
  } catch (error) {
    throw refuse("the gateway's certificate cannot be read", "copy it again", error);
  }
}

function readKey(text: string): KeyObject {
  if (/BEGIN ENCRYPTED|Proc-Type: 4,ENCRYPTED/u.test(text))
    throw refuse("the gateway's key is encrypted", "decrypt it first: openssl pkey -in FILE -out FILE.pem");
  try {
    return createPrivateKey(text);
  } catch (error) {
    throw refuse("the gateway's key is no private key in PEM", "give the one that begins with -----BEGIN PRIVATE KEY-----", error);
  }
}

function fits({ key }: Link, own: KeyObject): boolean {
  try {
    return key.x509.checkPrivateKey(own);
  } catch {
    return false; // of another kind
  }
}

function hasIssued(issuer: Link, { certificate, key }: Link): boolean {
  try {
    return issuer.certificate.subject.equals(certificate.issuer) && key.x509.verify(issuer.key.publicKey);
  } catch {
    return false;
  }
}

function refuse(what: string, next: string, cause?: unknown): PipegateError {
  return new PipegateError("config", what, { next, ...(cause === undefined ? {} : { cause }) });
}
