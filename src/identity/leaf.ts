/**
 * What a leaf certificate is judged by alone, before anybody asks who issued it: version, key and signature, usages. One list for the
 * guard (judge.ts) and for those who ask what it thinks (examine.ts). Promises: pure; a Refusal or nothing. Leaves to others: its names
 * (names.ts), its times (refusal.ts), its issuers (path.ts).
 */
import { Eku, KeyUsage, type Certificate } from "./certificate.ts";
import { Refusal } from "./refusal.ts";
import { signatureWeakness } from "./signature.ts";
import { weakness } from "./strength.ts";

export function versionFault({ version }: Certificate): Refusal | undefined {
  return version === 3 ? undefined : new Refusal("wrong_usage", `an X.509 v${version} certificate`);
}

export function keyFault({ publicKey, signed }: Certificate): Refusal | undefined {
  const weak = weakness(publicKey) ?? signatureWeakness(signed);
  return weak === undefined ? undefined : new Refusal("weak_key", weak);
}

export function usageFault({ ca, keyUsage, extendedKeyUsage, unknownCritical }: Certificate): Refusal | undefined {
  const no = (why: string): Refusal => new Refusal("wrong_usage", why);
  if (ca) return no("a CA's certificate instead of one that it issued");
  if (keyUsage !== undefined && (keyUsage & KeyUsage.DIGITAL_SIGNATURE) === 0) return no("key usage without digitalSignature");
  if (extendedKeyUsage !== undefined && !extendedKeyUsage.includes(Eku.CLIENT_AUTH)) return no("extended key usage without clientAuth");
  return unknownCritical.length > 0 ? no(`an extension that is not understood here, ${unknownCritical[0]}`) : undefined;
}
