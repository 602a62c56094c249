/**
 * Private keys of the CA and of what it issues: made, written as PKCS#8 PEM, read back for signing.
 * Promises: only kinds that the gateway accepts. Leaves to others: the files.
 */
import { createPrivateKey, createPublicKey, type KeyObject, webcrypto } from "node:crypto";
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";

export type KeyType = "p256" | "ed25519" | "rsa2048" | "rsa3072" | "rsa4096";
export const keyTypes: readonly KeyType[] = ["p256", "ed25519", "rsa2048", "rsa3072", "rsa4096"];

/** What WebCrypto wants to know to make, read and sign. */
export type SigningAlgorithm = webcrypto.EcKeyAlgorithm & webcrypto.EcdsaParams & webcrypto.RsaHashedKeyGenParams;

export interface KeyPair {
  readonly publicKey: webcrypto.CryptoKey;
  readonly privateKey: webcrypto.CryptoKey;
  readonly algorithm: SigningAlgorithm;
}

/** Throws PipegateError `usage`. */
export function parseKeyType(text: string): KeyType {
  const known = keyTypes.find((type) => type === text.toLowerCase());
  if (known !== undefined) return known;
  const next = /^rsa/iu.test(text) ? "write rsa2048, rsa3072 or rsa4096" : `write one of ${keyTypes.join(", ")}`;
  throw new PipegateError("usage", `"${printable(text, 40)}" is no kind of key that pipegate makes`, { next });
}

function algorithmOf(type: KeyType | "p384"): SigningAlgorithm {
  const some = (algorithm: Partial<SigningAlgorithm>): SigningAlgorithm => algorithm as SigningAlgorithm;
  switch (type) {
    case "p256":
      return some({ name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" });
    case "p384":
      return some({ name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" });
    case "ed25519":
      return some({ name: "Ed25519" });
    default:
      return some({
        name: "RSASSA-PKCS1-v1_5",
        hash: "SHA-256",
        modulusLength: Number(type.slice(3)),
        publicExponent: Uint8Array.of(1, 0, 1),
      });
  }
}

export async function generateKeyPair(type: KeyType): Promise<KeyPair> {
  const algorithm = algorithmOf(type);
  const pair = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  return { publicKey: pair.publicKey, privateKey: pair.privateKey, algorithm };
}

/** PKCS#8 PEM. */
export async function keyPem({ privateKey }: KeyPair): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", privateKey));
  return `-----BEGIN PRIVATE KEY-----\n${der.toString("base64").replace(/.{64}(?=.)/gu, "$&\n")}\n-----END PRIVATE KEY-----\n`;
}

/** Throws PipegateError `config`; `path` is for the message. */
export async function readKeyPair(text: string, { path }: { readonly path: string }): Promise<KeyPair> {
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch (cause) {
    throw new PipegateError("config", `${path} holds no private key that can be read`, { next: "restore it from a copy", cause });
  }
  const algorithm = algorithmOf(typeOf(key, path));
  const spki = createPublicKey(key).export({ type: "spki", format: "der" });
  const { subtle } = webcrypto;
  const privateKey = await subtle.importKey("pkcs8", key.export({ type: "pkcs8", format: "der" }), algorithm, false, ["sign"]);
  return { privateKey, publicKey: await subtle.importKey("spki", spki, algorithm, true, ["verify"]), algorithm };
}

function typeOf(key: KeyObject, path: string): KeyType | "p384" {
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "ed25519") return "ed25519";
  if (key.asymmetricKeyType === "ec" && namedCurve === "prime256v1") return "p256";
  if (key.asymmetricKeyType === "ec" && namedCurve === "secp384r1") return "p384";
  if (key.asymmetricKeyType === "rsa" && modulusLength >= 2048) return modulusLength >= 4096 ? "rsa4096" : "rsa2048";
  throw new PipegateError("config", `${path} holds a key of a kind that pipegate does not sign with`, {
    next: "use P-256, P-384, Ed25519, or RSA of 2048 bits and more",
  });
}
