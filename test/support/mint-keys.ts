/** Keys and signatures of the tests' mint: also weak ones, and hashes that nobody should use any more. */
import { constants, createHash, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import * as der from "./der.ts";
import type { Bytes } from "./der.ts";

export type KeyType = "p256" | "p384" | "p521" | "ed25519" | "rsa1024" | "rsa2048" | "rsa3072" | "rsa-pss";
export type Hash = "md5" | "sha1" | "sha256" | "sha384" | "sha512";

/** Keys that go by RSASSA-PSS: Deno cannot export such a key, so it is an RSA one and its algorithm is written by hand. */
const pssOnly = new WeakSet<KeyObject>();
const rsaEncryption = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.nothing);
const rsassaPss = der.sequence(der.oid("1.2.840.113549.1.1.10"));

/** SubjectPublicKeyInfo. */
export function exportPublic(key: KeyObject): Bytes {
  const spki = createPublicKey(key).export({ type: "spki", format: "der" });
  return pssOnly.has(key) ? der.sequence(rsassaPss, spki.subarray(spki.indexOf(rsaEncryption) + rsaEncryption.length)) : spki;
}

/** PKCS#8 PEM. */
export function exportPrivate(key: KeyObject): string {
  const pkcs8 = key.export({ type: "pkcs8", format: "der" });
  const rest = pkcs8.subarray(pkcs8.indexOf(rsaEncryption) + rsaEncryption.length);
  return der.pem("PRIVATE KEY", pssOnly.has(key) ? der.sequence(der.integer(0), rsassaPss, rest) : pkcs8);
}

export function newKey(type: KeyType = "p256"): KeyObject {
  switch (type) {
    case "p256":
      return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    case "p384":
      return generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey;
    case "p521":
      return generateKeyPairSync("ec", { namedCurve: "P-521" }).privateKey;
    case "ed25519":
      return generateKeyPairSync("ed25519").privateKey;
    case "rsa-pss": {
      const key = newKey("rsa2048");
      pssOnly.add(key);
      return key;
    }
    case "rsa1024":
    case "rsa2048":
    case "rsa3072":
      return generateKeyPairSync("rsa", { modulusLength: Number(type.slice(3)) }).privateKey;
  }
}

/** The whole of a signed thing: `tbs`, algorithm, signature. */
export function signed(tbs: Bytes, key: KeyObject, hash: Hash): Bytes {
  const pss = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
  const algorithm = key.asymmetricKeyType === "ed25519" ? null : hash;
  const signature = sign(algorithm, tbs, pssOnly.has(key) ? pss : key);
  return der.sequence(tbs, signatureAlgorithm(key, hash), der.bits(signature));
}

/** Deno signs with P-521 only what is long enough for it. */
export function defaultHash(key: KeyObject): Hash {
  return key.asymmetricKeyDetails?.namedCurve === "secp521r1" ? "sha512" : "sha256";
}

export function signatureAlgorithm(key: KeyObject, hash: Hash): Bytes {
  if (pssOnly.has(key)) {
    const sha256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), der.nothing);
    const mgf1 = der.sequence(der.oid("1.2.840.113549.1.1.8"), sha256);
    const parameters = der.sequence(der.context(0, sha256), der.context(1, mgf1), der.context(2, der.integer(32)));
    return der.sequence(der.oid("1.2.840.113549.1.1.10"), parameters);
  }
  switch (key.asymmetricKeyType) {
    case "ed25519":
      return der.sequence(der.oid("1.3.101.112"));
    case "ec":
      return der.sequence(
        der.oid(
          {
            md5: "1.2.840.10045.4.3",
            sha1: "1.2.840.10045.4.1",
            sha256: "1.2.840.10045.4.3.2",
            sha384: "1.2.840.10045.4.3.3",
            sha512: "1.2.840.10045.4.3.4",
          }[hash],
        ),
      );
    case "rsa":
      return der.sequence(der.oid(`1.2.840.113549.1.1.${{ md5: 4, sha1: 5, sha256: 11, sha384: 12, sha512: 13 }[hash]}`), der.nothing);
    default:
      throw new Error(`no signature with a key of type ${String(key.asymmetricKeyType)}`);
  }
}

/** What stands in key identifiers. */
export function keyId(key: KeyObject): Bytes {
  return createHash("sha256").update(exportPublic(key)).digest().subarray(0, 20);
}
