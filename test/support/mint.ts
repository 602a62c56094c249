/**
 * Certificates for tests, made in-process in a millisecond: `createTestCa()`, then `ca.issue({ role, uri, ... })` and `ca.crl({ ... })`.
 * Everything has a sound default and everything can be made wrong: times, usages, versions, serials, signatures, raw names, raw
 * extensions. Writes DER itself and uses nothing of src/, so that what is tested is never its own yardstick.
 */
import { createHash, type KeyObject, randomBytes } from "node:crypto";
import * as der from "./der.ts";
import type { Bytes } from "./der.ts";
import {
  defaultHash,
  exportPrivate,
  exportPublic,
  type Hash,
  keyId,
  type KeyType,
  newKey,
  signatureAlgorithm,
  signed,
} from "./mint-keys.ts";

export { type Hash, type KeyType, newKey };

/** Names of bits, or raw bits in the order of RFC 5280: 0x80 is digitalSignature. */
const usageBits = {
  digitalSignature: 0x80,
  nonRepudiation: 0x40,
  keyEncipherment: 0x20,
  keyAgreement: 0x08,
  keyCertSign: 0x04,
  cRLSign: 0x02,
};
export type KeyUsage = keyof typeof usageBits;

export const ekuOids = {
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
  codeSigning: "1.3.6.1.5.5.7.3.3",
  any: "2.5.29.37.0",
} as const;

export const extensionOids = {
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  crlNumber: "2.5.29.20",
  nameConstraints: "2.5.29.30",
  authorityKeyIdentifier: "2.5.29.35",
  extKeyUsage: "2.5.29.37",
} as const;

/** By OID: the extension's DER value (what stands in the OCTET STRING), or null to leave the extension out. Replaces or adds. */
export type ExtensionOverrides = Readonly<Record<string, { readonly value: Bytes; readonly critical?: boolean } | null>>;

interface Common {
  /** The common name, or several in RDNs of their own; `subject` wins. */
  readonly cn?: string | readonly string[];
  /** The subject as raw DER of a Name. */
  readonly subject?: Bytes;
  /** Milliseconds since the epoch. Default: a minute ago and a day from now. */
  readonly notBefore?: number;
  readonly notAfter?: number;
  /** Hex. Default: 16 random bytes, positive. */
  readonly serial?: string;
  /** Default: p256. */
  readonly keyType?: KeyType;
  /** A key to certify instead of a new one. */
  readonly privateKey?: KeyObject;
  /** Of the signature. Default: sha256; sha512 under P-521. */
  readonly hash?: Hash;
  readonly keyUsage?: readonly KeyUsage[];
  readonly extensions?: ExtensionOverrides;
  /** Default: 3. Version 1 has no extensions. */
  readonly version?: 1 | 2 | 3;
}

export interface TestCaOptions extends Common {
  /** Default: 0 for a root, none for the CA above an intermediate; null leaves it out. */
  readonly pathLength?: number | null;
}

export interface LeafOptions extends Common {
  /** Sets the extended key usage: gateway serverAuth, client and agent clientAuth. Default: client. */
  readonly role?: "gateway" | "client" | "agent";
  /** Names, in this order: URIs, DNS, IP addresses. Bytes stand as they are, text as UTF-8, unjudged. */
  readonly uri?: Name | readonly Name[];
  readonly dns?: Name | readonly Name[];
  readonly ip?: string | readonly string[];
  /** More general names, each a raw DER element such as `contextBytes(6, ...)`. */
  readonly names?: readonly Bytes[];
  /** Extended key usages as names or OIDs; an empty list leaves the extension out. Wins over `role`. */
  readonly eku?: readonly (keyof typeof ekuOids | (string & {}))[];
  /** basicConstraints CA:TRUE. Default: false. */
  readonly ca?: boolean;
  /** Signs instead of the CA's own key: a forgery. */
  readonly signer?: KeyObject;
}

type Name = string | Bytes;

export interface Issued {
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly der: Bytes;
  readonly privateKey: KeyObject;
  /** Lower-case hex of the serial's bytes without DER's sign byte. */
  readonly serial: string;
  /** `sha256:` and 64 lower-case hex digits. */
  readonly fingerprint: string;
}

export interface CrlOptions {
  /** Serials in hex (what `issue` returns), or with a date and a reason code. */
  readonly revoked?: readonly (string | { readonly serial: string; readonly at?: number; readonly reason?: number })[];
  /** Milliseconds since the epoch. Default: a minute ago and a day from now; null leaves nextUpdate out. */
  readonly thisUpdate?: number;
  readonly nextUpdate?: number | null;
  /** Default: 1; null leaves it out. */
  readonly number?: number | null;
  readonly hash?: Hash;
  readonly signer?: KeyObject;
  /** Raw DER of a Name instead of the CA's. */
  readonly issuer?: Bytes;
  readonly extensions?: ExtensionOverrides;
}

export interface TestCa extends Issued {
  issue(options?: LeafOptions): Issued;
  /** A CA below this one; a presented chain is `leaf.certificate + intermediate.certificate`. */
  intermediate(options?: TestCaOptions): TestCa;
  crl(options?: CrlOptions): { readonly pem: string; readonly der: Bytes };
  /** For localhost, 127.0.0.1 and ::1. */
  gateway(): Issued;
  /** `spiffe://dev/agent/NAME`. */
  client(name: string): Issued;
}

const minute = 60_000;
const day = 24 * 60 * minute;

export function createTestCa(options: TestCaOptions = {}): TestCa {
  return makeCa(options, undefined);
}

/** A Name with one RDN for each common name. */
export function nameOf(cn: string | readonly string[]): Bytes {
  const each = [cn].flat().map((text) => der.setOf(der.sequence(der.oid("2.5.4.3"), der.utf8(text))));
  return der.sequence(...each);
}

interface Issuer {
  readonly name: Bytes;
  readonly key: KeyObject;
}

function makeCa(options: TestCaOptions, parent: Issuer | undefined): TestCa {
  const key = options.privateKey ?? newKey(options.keyType);
  const name = options.subject ?? nameOf(options.cn ?? (parent ? "test intermediate" : "test CA"));
  const pathLength = options.pathLength === undefined ? (parent ? 0 : undefined) : (options.pathLength ?? undefined);
  const self = certify({ ...options, subject: name, privateKey: key }, parent ?? { name, key }, {
    [extensionOids.basicConstraints]: {
      value: der.sequence(der.boolean(true), ...(pathLength === undefined ? [] : [der.integer(pathLength)])),
      critical: true,
    },
    [extensionOids.keyUsage]: { value: usage(options.keyUsage ?? ["keyCertSign", "cRLSign"]), critical: true },
    [extensionOids.authorityKeyIdentifier]: { value: der.sequence(der.contextBytes(0, keyId(parent?.key ?? key))) },
  });
  const issuer = { name, key };
  const issue = (leaf: LeafOptions = {}): Issued => certify(leaf, { name, key: leaf.signer ?? key }, leafExtensions(leaf, key));
  return {
    ...self,
    issue,
    intermediate: (below = {}) => makeCa(below, issuer),
    crl: (list = {}) => makeCrl(list, issuer),
    gateway: () => issue({ role: "gateway", cn: "gateway", dns: "localhost", ip: ["127.0.0.1", "::1"] }),
    client: (agent) => issue({ uri: `spiffe://dev/agent/${agent}` }),
  };
}

function leafExtensions(leaf: LeafOptions, issuerKey: KeyObject): ExtensionOverrides {
  const names = [
    ...[leaf.uri ?? []].flat().map((text) => der.contextBytes(6, raw(text))),
    ...[leaf.dns ?? []].flat().map((text) => der.contextBytes(2, raw(text))),
    ...[leaf.ip ?? []].flat().map((text) => der.contextBytes(7, addressBytes(text))),
    ...(leaf.names ?? []),
  ];
  const eku = leaf.eku ?? [leaf.role === "gateway" ? "serverAuth" : "clientAuth"];
  const ekuOid = (text: string): string => (Object.hasOwn(ekuOids, text) ? ekuOids[text as keyof typeof ekuOids] : text);
  return {
    [extensionOids.basicConstraints]: { value: der.sequence(...(leaf.ca ? [der.boolean(true)] : [])), critical: true },
    [extensionOids.keyUsage]: { value: usage(leaf.keyUsage ?? ["digitalSignature"]), critical: true },
    [extensionOids.extKeyUsage]: eku.length > 0 ? { value: der.sequence(...eku.map((text) => der.oid(ekuOid(text)))) } : null,
    [extensionOids.authorityKeyIdentifier]: { value: der.sequence(der.contextBytes(0, keyId(issuerKey))) },
    [extensionOids.subjectAltName]:
      names.length > 0 ? { value: der.sequence(...names), critical: leaf.cn === undefined && leaf.subject === undefined } : null,
  };
}

function certify(options: Common, issuer: Issuer, defaults: ExtensionOverrides): Issued {
  const privateKey = options.privateKey ?? newKey(options.keyType);
  const hash = options.hash ?? defaultHash(issuer.key);
  const version = options.version ?? 3;
  const serial = options.serial === undefined ? randomSerial() : Buffer.from(options.serial, "hex");
  const extensions = { ...defaults, [extensionOids.subjectKeyIdentifier]: { value: der.octets(keyId(privateKey)) }, ...options.extensions };
  const tbs = der.sequence(
    ...(version === 1 ? [] : [der.context(0, der.integer(version - 1))]),
    der.integer(serial),
    signatureAlgorithm(issuer.key, hash),
    issuer.name,
    der.sequence(der.time(options.notBefore ?? Date.now() - minute), der.time(options.notAfter ?? Date.now() + day)),
    options.subject ?? nameOf(options.cn ?? []),
    exportPublic(privateKey),
    ...(version === 3 ? extensionBlock(3, extensions) : []),
  );
  const whole = signed(tbs, issuer.key, hash);
  return {
    certificate: der.pem("CERTIFICATE", whole),
    key: exportPrivate(privateKey),
    der: whole,
    privateKey,
    serial: Buffer.from(serial).toString("hex"),
    fingerprint: `sha256:${createHash("sha256").update(whole).digest("hex")}`,
  };
}

function makeCrl(options: CrlOptions, issuer: Issuer): { readonly pem: string; readonly der: Bytes } {
  const key = options.signer ?? issuer.key;
  const hash = options.hash ?? defaultHash(key);
  const thisUpdate = options.thisUpdate ?? Date.now() - minute;
  const entries = (options.revoked ?? []).map((entry) => {
    const { serial, at, reason } = typeof entry === "string" ? { serial: entry } : { at: undefined, reason: undefined, ...entry };
    const reasons = reason === undefined ? [] : [der.sequence(extension("2.5.29.21", { value: der.element(0x0a, Uint8Array.of(reason)) }))];
    return der.sequence(der.integer(Buffer.from(serial, "hex")), der.time(at ?? thisUpdate), ...reasons);
  });
  const number = options.number === undefined ? 1 : options.number;
  const tbs = der.sequence(
    der.integer(1),
    signatureAlgorithm(key, hash),
    options.issuer ?? issuer.name,
    der.time(thisUpdate),
    ...(options.nextUpdate === null ? [] : [der.time(options.nextUpdate ?? Date.now() + day)]),
    ...(entries.length > 0 ? [der.sequence(Buffer.concat(entries))] : []),
    ...extensionBlock(0, {
      [extensionOids.authorityKeyIdentifier]: { value: der.sequence(der.contextBytes(0, keyId(issuer.key))) },
      [extensionOids.crlNumber]: number === null ? null : { value: der.integer(number) },
      ...options.extensions,
    }),
  );
  const whole = signed(tbs, key, hash);
  return { pem: der.pem("X509 CRL", whole), der: whole };
}

function extensionBlock(tag: number, extensions: ExtensionOverrides): Bytes[] {
  const present = Object.entries(extensions).flatMap(([id, one]) => (one === null ? [] : [extension(id, one)]));
  return present.length > 0 ? [der.context(tag, der.sequence(...present))] : [];
}

function extension(id: string, { value, critical }: { readonly value: Bytes; readonly critical?: boolean }): Bytes {
  return der.sequence(der.oid(id), ...(critical ? [der.boolean(true)] : []), der.octets(value));
}

function usage(names: readonly KeyUsage[]): Bytes {
  const value = names.reduce((sum, name) => sum | usageBits[name], 0);
  const unused = value === 0 ? 0 : 31 - Math.clz32(value & -value);
  return value === 0 ? der.bits(new Uint8Array()) : der.bits(Uint8Array.of(value), unused);
}

function randomSerial(): Bytes {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes;
}

function raw(name: Name): Bytes {
  return typeof name === "string" ? Buffer.from(name, "utf8") : name;
}

function addressBytes(text: string): Bytes {
  if (!text.includes(":")) return Uint8Array.from(text.split(".").map(Number));
  const [head = "", tail] = text.split("::");
  const words = (part: string): number[] => (part === "" ? [] : part.split(":").map((word) => Number.parseInt(word, 16)));
  const [left, right] = [words(head), words(tail ?? "")];
  const all = tail === undefined ? left : [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
  return Uint8Array.from(all.flatMap((word) => [word >> 8, word & 0xff]));
}
