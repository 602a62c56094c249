/**
 * Signs: a CA's own certificate, the certificates that it issues, its revocation lists. Values in, PEM out; no files, no clock.
 * Promises: X.509 v3 as RFC 5280 wants it; a leaf is never a CA, is for one purpose only (a gateway's key cannot pose as a client),
 * and never outlives its CA. Leaves to others: whether the names are good (names.ts), where it is kept (authority.ts).
 */
import { createHash, randomBytes } from "node:crypto";
import { PipegateError } from "../base/error.ts";
import { fingerprintOf } from "../identity/certificate.ts";
import { generateKeyPair, type KeyPair, keyPem, type KeyType, readKeyPair } from "./keys.ts";
import { backdated } from "./life.ts";
import type { Names, Role } from "./names.ts";
import { revocationReasons, type RevocationReason } from "./reasons.ts";
import { x509 } from "./x509.ts";

/** A CA that can sign. */
export interface Authority {
  /** PEM. */
  readonly certificate: string;
  readonly keys: KeyPair;
  /** Lower-case hex of its subject key identifier: tells one CA from another of the same name. */
  readonly keyId: string;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

export interface Minted {
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly serial: string;
  /** `sha256:` and 64 lower-case hex digits. */
  readonly fingerprint: string;
  /** Milliseconds since the epoch, whole seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface AuthorityOptions {
  readonly keys: KeyPair;
  /** The common name. Default: `pipegate CA` and the first digits of the key's identifier. */
  readonly name?: string;
  readonly lifeMs: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** A self-signed root: path length 0, signs certificates and lists and nothing else. */
export async function mintAuthority({ keys, name, lifeMs, now }: AuthorityOptions): Promise<string> {
  const publicKey = keys.publicKey as CryptoKey;
  const keyId = await keyIdOf(publicKey);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: commonName(name ?? `pipegate CA ${keyId.slice(0, 8)}`),
    keys: keys as unknown as CryptoKeyPair,
    signingAlgorithm: keys.algorithm,
    serialNumber: randomSerial(),
    notBefore: new Date(seconds(now - backdated)),
    notAfter: new Date(seconds(now + lifeMs)),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      new x509.SubjectKeyIdentifierExtension(keyId),
      new x509.AuthorityKeyIdentifierExtension(keyId),
    ],
  });
  return `${certificate.toString("pem")}\n`;
}

export interface LeafOptions {
  readonly names: Names;
  readonly role: Role;
  readonly keyType: KeyType;
  /** Cut to what the CA has left. */
  readonly lifeMs: number;
  readonly now: number;
}

export async function mintLeaf(authority: Authority, { names, role, keyType, lifeMs, now }: LeafOptions): Promise<Minted> {
  const issuer = new x509.X509Certificate(authority.certificate);
  const keys = await generateKeyPair(keyType);
  const notBefore = Math.max(seconds(now - backdated), issuer.notBefore.getTime());
  const notAfter = Math.min(seconds(now + lifeMs), authority.notAfter);
  const serial = randomSerial();
  const usage = role === "gateway" ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth;
  const certificate = await x509.X509CertificateGenerator.create({
    ...(names.cn === undefined ? {} : { subject: commonName(names.cn) }),
    issuer: issuer.subjectName,
    publicKey: keys.publicKey as CryptoKey,
    signingKey: authority.keys.privateKey as CryptoKey,
    signingAlgorithm: authority.keys.algorithm,
    serialNumber: serial,
    notBefore: new Date(notBefore),
    notAfter: new Date(notAfter),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([usage]),
      new x509.SubjectKeyIdentifierExtension(await keyIdOf(keys.publicKey as CryptoKey)),
      new x509.AuthorityKeyIdentifierExtension(authority.keyId),
      ...alternativeNames(names),
    ],
  });
  return {
    certificate: `${certificate.toString("pem")}\n`,
    key: await keyPem(keys),
    serial,
    fingerprint: fingerprintOf(new Uint8Array(certificate.rawData)),
    notBefore,
    notAfter,
  };
}

/** RFC 5280: critical when there is no subject to go by. */
function alternativeNames({ uri, dns, ip, cn }: Names): x509.Extension[] {
  const names: x509.JsonGeneralName[] = [
    ...(uri === undefined ? [] : [{ type: "url" as const, value: uri }]),
    ...dns.map((value) => ({ type: "dns" as const, value })),
    ...ip.map((value) => ({ type: "ip" as const, value })),
  ];
  return names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names, cn === undefined)];
}

export interface Revocation {
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly reason: RevocationReason;
}

export interface ListOptions {
  /** Each serial once. */
  readonly revoked: readonly Revocation[];
  /** Greater than that of every earlier list. */
  readonly number: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
}

/** A revocation list as PEM, `X509 CRL`. */
export async function mintList(authority: Authority, { revoked, number, thisUpdate, nextUpdate }: ListOptions): Promise<string> {
  const list = await x509.X509CrlGenerator.create({
    issuer: new x509.X509Certificate(authority.certificate).subjectName,
    thisUpdate: new Date(seconds(thisUpdate)),
    nextUpdate: new Date(seconds(nextUpdate)),
    signingAlgorithm: authority.keys.algorithm,
    signingKey: authority.keys.privateKey as CryptoKey,
    entries: revoked.map(({ serial, at, reason }) => ({
      serialNumber: serial,
      revocationDate: new Date(seconds(at)),
      reason: revocationReasons[reason],
    })),
    extensions: [new x509.AuthorityKeyIdentifierExtension(authority.keyId), new x509.Extension("2.5.29.20", false, integerDer(number))],
  });
  return `${x509.PemConverter.encode(list.rawData, "X509 CRL")}\n`;
}

/** What can sign from the two PEM texts of a CA; `path` names the key's file. Throws PipegateError `config`. */
export async function readAuthority(certificate: string, key: string, { path }: { readonly path: string }): Promise<Authority> {
  const parsed = new x509.X509Certificate(certificate);
  const keys = await readKeyPair(key, { path });
  const keyId = await keyIdOf(keys.publicKey as CryptoKey);
  if (keyId !== (await keyIdOf(parsed.publicKey))) {
    throw new PipegateError("config", `${path} is not the key of the CA's certificate`, { next: "restore the pair that belongs together" });
  }
  const written = parsed.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId.toLowerCase();
  return { certificate, keys, keyId: written ?? keyId, notAfter: parsed.notAfter.getTime() };
}

/** The first 20 bytes of SHA-256 over the public key. */
async function keyIdOf(key: CryptoKey | x509.PublicKey): Promise<string> {
  const { rawData } = await x509.PublicKey.create(key);
  return createHash("sha256").update(new Uint8Array(rawData)).digest("hex").slice(0, 40);
}

/** As an object: as text, the library would read `#` and `,` in it. */
function commonName(text: string): x509.Name {
  return new x509.Name([{ CN: [{ utf8String: text }] }]);
}

/** 128 bits in hex, positive, without a leading zero byte, which some drop when they show it. */
function randomSerial(): string {
  for (;;) {
    const bytes = randomBytes(16);
    if (bytes[0]! > 0 && bytes[0]! < 0x80) return bytes.toString("hex");
  }
}

function integerDer(value: number): Uint8Array<ArrayBuffer> {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, "hex");
  return Uint8Array.from(bytes[0]! < 0x80 ? [2, bytes.length, ...bytes] : [2, bytes.length + 1, 0, ...bytes]);
}

/** Certificates know whole seconds only. */
function seconds(at: number): number {
  return Math.floor(at / 1000) * 1000;
}
