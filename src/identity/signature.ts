/**
 * Signatures of certificates and revocation lists: which algorithms are strong enough, and whether a key made one.
 * Promises: a bad signature is false, never a throw; the same answer on Node and Deno. SHA-1, MD5 and RSA-PSS are not known here.
 */
import type { Buffer } from "node:buffer";
import { createVerify, verify, type KeyObject } from "node:crypto";
import { atOnce, type Steps } from "../base/steps.ts";
import { DerFault, DerReader, oidText, Tag, wholeBits } from "./der.ts";
import { keyObject, KeyAlgorithm, type PublicKey } from "./public-key.ts";
import { P521 } from "./strength.ts";

export interface Signed {
  /** What the signature is over, whole. */
  readonly body: Buffer;
  /** OID. */
  readonly algorithm: string;
  /** The AlgorithmIdentifier whole, to be compared with the one inside the body. */
  readonly identifier: Buffer;
  readonly signature: Buffer;
}

interface Algorithm {
  /** For node:crypto; null: the key knows. */
  readonly hash: string | null;
  /** OID of the keys that make it. */
  readonly key: string;
}

const algorithms: ReadonlyMap<string, Algorithm> = new Map([
  ["1.2.840.113549.1.1.11", { hash: "sha256", key: KeyAlgorithm.RSA }],
  ["1.2.840.113549.1.1.12", { hash: "sha384", key: KeyAlgorithm.RSA }],
  ["1.2.840.113549.1.1.13", { hash: "sha512", key: KeyAlgorithm.RSA }],
  ["1.2.840.10045.4.3.2", { hash: "sha256", key: KeyAlgorithm.EC }],
  ["1.2.840.10045.4.3.3", { hash: "sha384", key: KeyAlgorithm.EC }],
  ["1.2.840.10045.4.3.4", { hash: "sha512", key: KeyAlgorithm.EC }],
  [KeyAlgorithm.ED25519, { hash: null, key: KeyAlgorithm.ED25519 }],
  [KeyAlgorithm.ED448, { hash: null, key: KeyAlgorithm.ED448 }],
]);

/** The parts of a SEQUENCE of body, AlgorithmIdentifier and signature, which is all of `der`; a reader of the body's content. */
export function readSigned(der: Buffer): { readonly signed: Signed; readonly body: DerReader } {
  const outer = new DerReader(der);
  const parts = outer.into(Tag.SEQUENCE);
  outer.end();
  const { whole, content } = parts.next(Tag.SEQUENCE);
  const identifier = parts.next(Tag.SEQUENCE);
  const algorithm = oidText(new DerReader(identifier.content).next(Tag.OID).content);
  const signature = wholeBits(parts.next(Tag.BIT_STRING).content);
  parts.end();
  return { signed: { body: whole, algorithm, identifier: identifier.whole, signature }, body: new DerReader(content) };
}

/** The body names its algorithm again, and nothing but the same will do: else whoever cannot sign could choose what is believed. */
export function requireSameAlgorithm(body: DerReader, { identifier }: Signed): void {
  if (!body.next(Tag.SEQUENCE).whole.equals(identifier)) throw new DerFault("two different signature algorithms");
}

/** What is wrong with the signature's algorithm, a few words; undefined when nothing is. Without `key`: as far as can be told. */
export function signatureWeakness({ algorithm }: Signed, key?: PublicKey): string | undefined {
  const known = algorithms.get(algorithm);
  if (known === undefined) return `signed with ${algorithm}`;
  // Deno does not verify a hash of less than half of the key, so nobody does.
  return key?.curve === P521 && known.hash === "sha256" ? "signed with SHA-256 by a P-521 key" : undefined;
}

/** Who made a signature that was proven: a fact for as long as the value lives, whatever is trusted meanwhile. */
const makers = new WeakMap<Signed, PublicKey>();

/** Whether `key` made the signature, with an algorithm that is strong enough and its own. */
export function isSignedBy(signed: Signed, key: PublicKey): boolean {
  return atOnce(signatureSteps(signed, key));
}

const PIECE = 256 << 10;

/** The same in steps, for what is large. */
export function* signatureSteps(signed: Signed, key: PublicKey): Steps<boolean> {
  const algorithm = algorithms.get(signed.algorithm);
  if (algorithm === undefined || algorithm.key !== key.algorithm || signatureWeakness(signed, key) !== undefined) return false;
  if (makers.get(signed)?.der.equals(key.der) === true) return true;
  try {
    const proven = yield* verifySteps(signed, { hash: algorithm.hash, key: keyObject(key) });
    if (proven) makers.set(signed, key);
    return proven;
  } catch {
    return false; // not a key or a signature that the runtime can read
  }
}

interface VerifyOptions extends Pick<Algorithm, "hash"> {
  readonly key: KeyObject;
}

function* verifySteps({ body, signature }: Signed, { hash, key }: VerifyOptions): Steps<boolean> {
  // What the Edwards curves sign can only be given whole: 16 MiB take them some 50 ms.
  if (hash === null || body.length <= PIECE) return verify(hash, body, key, signature);
  const check = createVerify(hash);
  for (let at = 0; at < body.length; at += PIECE) {
    check.update(body.subarray(at, at + PIECE));
    yield;
  }
  return check.verify(key, signature);
}
