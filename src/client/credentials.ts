/**
 * What we show and what we trust, judged before the network is touched, so that a wrong file is named here and not as a failed
 * handshake. Promises: a certificate that parses, a key that belongs to it, at least one CA.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";

export interface ClientCredentials {
  /** PEM texts. */
  readonly certificate: string;
  readonly key: string;
  readonly ca: string;
}

/** How each is called in messages: an option's name, or a file's. */
export type CredentialNames = Readonly<Record<keyof ClientCredentials, string>>;

/** Facts about our own certificate, for messages only; nothing is decided by them. */
export interface OwnCertificate {
  readonly issuer: string;
  /** Milliseconds since the epoch; NaN when the runtime cannot say. */
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface CheckedCredentials {
  readonly own: OwnCertificate;
  /** The issuers that we trust, for people. */
  readonly ca: readonly string[];
}

const optionNames: CredentialNames = { certificate: "certificate", key: "key", ca: "ca" };

/** Throws a PipegateError `config` that says which of them is wrong and how. */
export function checkCredentials(credentials: ClientCredentials, names: CredentialNames = optionNames): CheckedCredentials {
  const [leaf] = pemBlocks(credentials.certificate, names.certificate).map((block) => parseCertificate(block, names.certificate)) as [
    X509Certificate,
    ...X509Certificate[],
  ];
  const authorities = pemBlocks(credentials.ca, names.ca).map((block) => parseCertificate(block, names.ca));
  if (!leaf.checkPrivateKey(parseKey(credentials.key, names.key))) {
    throw new PipegateError("config", `${names.key} does not belong to ${names.certificate}`, {
      next: "pass the key that the certificate was made for",
    });
  }
  return {
    own: { issuer: oneLine(leaf.issuer), notBefore: Date.parse(leaf.validFrom), notAfter: Date.parse(leaf.validTo) },
    ca: authorities.map((authority) => oneLine(authority.subject)),
  };
}

function pemBlocks(text: string, name: string): string[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/gu);
  if (blocks) return blocks;
  throw new PipegateError("config", `${name} holds no certificate`, {
    next: "pass PEM text with BEGIN CERTIFICATE, not a path and not DER",
  });
}

function parseCertificate(block: string, name: string): X509Certificate {
  try {
    return new X509Certificate(block);
  } catch (cause) {
    throw new PipegateError("config", `${name} holds a certificate that cannot be parsed`, { next: "check that the file is whole", cause });
  }
}

function parseKey(text: string, name: string): KeyObject {
  try {
    return createPrivateKey(text);
  } catch (cause) {
    if (/BEGIN ENCRYPTED|Proc-Type: 4,ENCRYPTED/u.test(text)) {
      throw new PipegateError("config", `${name} is encrypted`, { next: "decrypt it first: openssl pkey -in FILE -out FILE.pem", cause });
    }
    throw new PipegateError("config", `${name} holds no private key`, { next: "pass PEM text with BEGIN PRIVATE KEY", cause });
  }
}

function oneLine(name: string): string {
  return printable(name.trim().replaceAll("\n", ", "), 200);
}
