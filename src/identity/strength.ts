/**
 * Which keys are strong enough, on both runtimes alike: RSA of 2048 to 8192 bits (not RSA-PSS, which Deno refuses; larger ones only cost
 * time), P-256, P-384, P-521 by name, Ed25519, Ed448. Which signatures are: signature.ts.
 */
import type { KeyObject } from "node:crypto";
import { DerReader } from "./der.ts";
import { KeyAlgorithm, readPublicKey, type PublicKey } from "./public-key.ts";

export const P521 = "1.3.132.0.35";
const curves: ReadonlySet<string | undefined> = new Set(["1.2.840.10045.3.1.7", "1.3.132.0.34", P521]);
const MIN_RSA = 2048;
const MAX_RSA = 8192;

/** What is wrong with the key, a few words; undefined when nothing is. */
export function weakness(key: KeyObject | PublicKey): string | undefined {
  const { algorithm, curve, bits, soundExponent } = "der" in key ? key : publicKeyOf(key);
  switch (algorithm) {
    case KeyAlgorithm.RSA:
      if (bits < MIN_RSA || bits > MAX_RSA) return `RSA of ${bits} bits`;
      return soundExponent ? undefined : "RSA with an unsound exponent";
    case KeyAlgorithm.EC:
      return curves.has(curve) ? undefined : `the curve ${curve ?? "spelt out instead of named"}`;
    case KeyAlgorithm.ED25519:
    case KeyAlgorithm.ED448:
      return undefined;
    default:
      return `a key of the kind ${algorithm}`;
  }
}

function publicKeyOf(key: KeyObject): PublicKey {
  return readPublicKey(new DerReader(key.export({ type: "spki", format: "der" })));
}
