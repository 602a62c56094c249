/** Which keys are strong enough, on both runtimes alike: RSA of 2048 bits and more (not RSA-PSS), P-256, P-384, P-521, Ed25519, Ed448. */
import type { KeyObject } from "node:crypto";

const curves = new Set(["prime256v1", "secp384r1", "secp521r1", "P-256", "P-384", "P-521"]);

/** What is wrong with the key; undefined when nothing is. */
export function weakness(key: KeyObject): string | undefined {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  switch (type) {
    case "rsa":
      return (details?.modulusLength ?? 0) >= 2048 ? undefined : `RSA of ${details?.modulusLength} bits`;
    case "ec":
      return curves.has(details?.namedCurve ?? "") ? undefined : `the curve ${details?.namedCurve}`;
    case "ed25519":
    case "ed448":
      return undefined;
    default:
      return `a key of type ${type}`;
  }
}
