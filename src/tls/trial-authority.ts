/**
 * A CA for the self-test: lives in memory for as long as that, and issues what a door must let in or refuse. Writes its few structures of
 * DER by itself, because what `pipegate ca` signs with costs more to load than the whole test. Promises: X.509 v3, P-256, SHA-256; keys
 * never leave the process. Leaves to others: what each certificate should meet with.
 */
import { Buffer } from "node:buffer";
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { Eku, KeyUsage } from "../identity/certificate.ts";
import { element, Tag } from "../identity/der.ts";
import type { Credentials } from "./listener-options.ts";

/** Milliseconds since the epoch. */
export interface Validity {
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface TrialLeafOptions extends Validity {
  /** Default: a client's. */
  readonly role?: "client" | "gateway";
}

export interface TrialLeaf extends Credentials {
  /** Hex. */
  readonly serial: string;
}

export interface TrialAuthority {
  /** PEM. */
  readonly certificate: string;
  /** Its own certificate follows in the leaf's chain. */
  issue(options: TrialLeafOptions): TrialLeaf;
  /** A revocation list, as DER. */
  list(serial: string, validity: Validity): Buffer;
}

export interface TrialAuthorityOptions extends Validity {
  /** DER of a Name: another CA's, to pose as it. Default: one of its own. */
  readonly name?: Buffer;
  /** The key of all leaves: making one costs more than signing with it. */
  readonly leafKey: KeyObject;
}

export function trialKey(): KeyObject {
  return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
}

export function createTrialAuthority({ name, leafKey, ...validity }: TrialAuthorityOptions): TrialAuthority {
  const key = trialKey();
  const subject = name ?? nameDer("pipegate self-test");
  const authorityKeyId = extension("2.5.29.35", sequence(element(0x80, keyId(key))));
  const certify = (of: { readonly key: KeyObject; readonly subject: Buffer; readonly extensions: readonly Buffer[] } & Validity) => {
    const serial = randomSerial();
    const body = sequence(
      element(0xa0, integer(2)),
      element(Tag.INTEGER, serial),
      ecdsaWithSha256(),
      subject,
      sequence(time(of.notBefore), time(of.notAfter)),
      of.subject,
      createPublicKey(of.key).export({ type: "spki", format: "der" }),
      element(0xa3, sequence(...of.extensions, extension("2.5.29.14", element(Tag.OCTET_STRING, keyId(of.key))), authorityKeyId)),
    );
    return { serial: serial.toString("hex"), certificate: pem("CERTIFICATE", signed(body, key)) };
  };
  const own = certify({
    ...validity,
    key,
    subject,
    extensions: [basicConstraints(true), keyUsage(KeyUsage.KEY_CERT_SIGN | KeyUsage.CRL_SIGN)],
  });
  return {
    certificate: own.certificate,
    issue: ({ role = "client", ...times }) => {
      const usage = role === "client" ? Eku.CLIENT_AUTH : Eku.SERVER_AUTH;
      const leaf = certify({
        ...times,
        key: leafKey,
        subject: nameDer("self-test"),
        extensions: [basicConstraints(false), keyUsage(KeyUsage.DIGITAL_SIGNATURE), extension("2.5.29.37", sequence(oid(usage)))],
      });
      const keyText = pem("PRIVATE KEY", leafKey.export({ type: "pkcs8", format: "der" }));
      return { serial: leaf.serial, certificate: leaf.certificate + own.certificate, key: keyText };
    },
    list: (serial, { notBefore, notAfter }) => {
      const entry = sequence(element(Tag.INTEGER, Buffer.from(serial, "hex")), time(notBefore));
      const extensions = sequence(authorityKeyId, extension("2.5.29.20", integer(1)));
      const body = [integer(1), ecdsaWithSha256(), subject, time(notBefore), time(notAfter), sequence(entry), element(0xa0, extensions)];
      return signed(sequence(...body), key);
    },
  };
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => element(Tag.SEQUENCE, ...parts);
const integer = (small: number): Buffer => element(Tag.INTEGER, Uint8Array.of(small));

function extension(id: string, value: Buffer, { critical = false }: { readonly critical?: boolean } = {}): Buffer {
  return sequence(oid(id), ...(critical ? [element(Tag.BOOLEAN, Uint8Array.of(0xff))] : []), element(Tag.OCTET_STRING, value));
}

function basicConstraints(ca: boolean): Buffer {
  return extension("2.5.29.19", sequence(...(ca ? [element(Tag.BOOLEAN, Uint8Array.of(0xff))] : [])), { critical: true });
}

/** `flags`: of KeyUsage, all in the first byte. */
function keyUsage(flags: number): Buffer {
  const byte = flags >> 8;
  const unused = 31 - Math.clz32(byte & -byte);
  return extension("2.5.29.15", element(Tag.BIT_STRING, Uint8Array.of(unused, byte)), { critical: true });
}

/** Of one common name. */
function nameDer(text: string): Buffer {
  return sequence(element(Tag.SET, sequence(oid("2.5.4.3"), element(Tag.UTF8, Buffer.from(text)))));
}

function time(at: number): Buffer {
  return element(Tag.GENERALIZED_TIME, Buffer.from(new Date(at).toISOString().replace(/[-:T]|\.\d+/gu, "")));
}

function oid(text: string): Buffer {
  const [first, second, ...rest] = text.split(".").map(Number) as [number, number, ...number[]];
  const bytes = [first * 40 + second, ...rest].flatMap((arc) => {
    const digits = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) digits.unshift(0x80 | (left % 128));
    return digits;
  });
  return element(Tag.OID, Uint8Array.from(bytes));
}

function signed(body: Buffer, key: KeyObject): Buffer {
  return sequence(body, ecdsaWithSha256(), element(Tag.BIT_STRING, Uint8Array.of(0), sign("sha256", body, key)));
}

function ecdsaWithSha256(): Buffer {
  return sequence(oid("1.2.840.10045.4.3.2"));
}

function keyId(key: KeyObject): Buffer {
  return createHash("sha256")
    .update(createPublicKey(key).export({ type: "spki", format: "der" }))
    .digest()
    .subarray(0, 20);
}

/** Positive, without a leading zero byte. */
function randomSerial(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes;
}

function pem(label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString("base64").replace(/.{64}(?=.)/gu, "$&\n")}\n-----END ${label}-----\n`;
}
