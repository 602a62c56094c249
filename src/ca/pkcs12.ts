/**
 * PKCS#12 for browsers: one certificate and its key under a password, by node-forge, which only writes here and never judges.
 * Its own writer knows RSA alone, so the frame is put together from its ASN.1 and ciphers, the same for RSA and EC. Key: PBES2 with
 * AES-256-CBC and HMAC-SHA-256; integrity: HMAC-SHA-256. That is what OpenSSL 3, NSS, Windows 10 and macOS 15 write and read.
 */
import { createHash } from "node:crypto";
import forge from "node-forge";

export interface Pkcs12Options {
  /** PEM. */
  readonly certificate: string;
  /** PKCS#8 PEM, RSA or EC. */
  readonly key: string;
  /** Printable ASCII. */
  readonly password: string;
  /** What the browser calls it. */
  readonly label: string;
}

const { asn1, pki } = forge;
const { Class, Type } = asn1;
type Asn1 = forge.asn1.Asn1;

/** Slows guessing down; passwords are random by default, so this need not be slow for their owner. */
const rounds = 20_000;
const oids = {
  data: "1.2.840.113549.1.7.1",
  certBag: "1.2.840.113549.1.12.10.1.3",
  shroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  localKeyId: "1.2.840.113549.1.9.21",
  sha256: "2.16.840.1.101.3.4.2.1",
} as const;

/** DER. */
export function writePkcs12({ certificate, key, password, label }: Pkcs12Options): Uint8Array {
  const certificateDer = derOf(certificate);
  const attributes = set(
    sequence(oid(oids.localKeyId), set(octets(binary(createHash("sha1").update(certificateDer).digest())))),
    sequence(oid(oids.friendlyName), set(asn1.create(Class.UNIVERSAL, Type.BMPSTRING, false, label))),
  );
  const certBag = sequence(
    oid(oids.certBag),
    explicit(sequence(oid(oids.x509Certificate), explicit(octets(binary(certificateDer))))),
    attributes,
  );
  const encrypted = pki.encryptPrivateKeyInfo(asn1.fromDer(binary(derOf(key))), password, {
    algorithm: "aes256",
    count: rounds,
    saltSize: 16,
    prfAlgorithm: "sha256",
  });
  const keyBag = sequence(oid(oids.shroudedKeyBag), explicit(encrypted), attributes);
  const safe = bytes(sequence(content(sequence(certBag)), content(sequence(keyBag))));
  const whole = sequence(integer(3), sequence(oid(oids.data), explicit(octets(safe))), integrity(safe, password));
  return Buffer.from(bytes(whole), "latin1");
}

function integrity(safe: string, password: string): Asn1 {
  const salt = forge.random.getBytesSync(16);
  const digest = forge.md.sha256.create();
  const macKey = forge.pkcs12.generateKey(password, forge.util.createBuffer(salt), 3, rounds, 32, digest);
  const hmac = forge.hmac.create();
  hmac.start("sha256", macKey);
  hmac.update(safe);
  const algorithm = sequence(oid(oids.sha256), asn1.create(Class.UNIVERSAL, Type.NULL, false, ""));
  return sequence(sequence(algorithm, octets(hmac.digest().getBytes())), octets(salt), integer(rounds));
}

function derOf(pem: string): Buffer {
  return Buffer.from(pem.replace(/-----[^-]+-----|\s/gu, ""), "base64");
}

// forge holds bytes as characters of a string.
const binary = (buffer: Uint8Array): string => Buffer.from(buffer).toString("latin1");
const bytes = (value: Asn1): string => asn1.toDer(value).getBytes();
const sequence = (...parts: Asn1[]): Asn1 => asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, parts);
const set = (...parts: Asn1[]): Asn1 => asn1.create(Class.UNIVERSAL, Type.SET, true, parts);
const explicit = (part: Asn1): Asn1 => asn1.create(Class.CONTEXT_SPECIFIC, 0, true, [part]);
const octets = (value: string): Asn1 => asn1.create(Class.UNIVERSAL, Type.OCTETSTRING, false, value);
const oid = (text: string): Asn1 => asn1.create(Class.UNIVERSAL, Type.OID, false, asn1.oidToDer(text).getBytes());
const integer = (value: number): Asn1 => asn1.create(Class.UNIVERSAL, Type.INTEGER, false, asn1.integerToDer(value).getBytes());
const content = (part: Asn1): Asn1 => sequence(oid(oids.data), explicit(octets(bytes(part))));
