/**
 * The way from a leaf to a root that is trusted. Names and key identifiers only propose an issuer; its signature decides.
 * Promises: a bounded number of signature checks, whatever is presented; the same way on both runtimes; every CA of it may issue client
 * certificates, is strong enough, valid now and not revoked. Leaves to others: the leaf itself, what revocation lists say.
 */
import { Eku, KeyUsage, type Certificate } from "./certificate.ts";
import { Refusal, validityFault } from "./refusal.ts";
import { isSignedBy, signatureWeakness } from "./signature.ts";
import { weakness } from "./strength.ts";

/** Certificates of a path, leaf and root included. */
const MAX_PATH = 7;
const MAX_SIGNATURE_CHECKS = 16;

/** A CA that is trusted. */
export interface Anchor {
  readonly certificate: Certificate;
  /** Of the certificate. */
  readonly fingerprint: string;
  /**
   * It ends a path. Otherwise it is an intermediate: known, but believed only below its own root, as OpenSSL has it.
   */
  readonly root: boolean;
}

export interface PathOptions {
  /** What was presented beside the leaf, in any order; may hold CAs that are trusted. */
  readonly others: readonly Certificate[];
  readonly anchors: readonly Anchor[];
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** What revocation has against a CA, under the certificate of its issuer; a root is its own. */
  readonly revocation?: (ca: Certificate, issuer: Certificate) => Refusal | undefined;
}

/** From the leaf to the root, both included, or why there is no path. `issuers`: how many could have issued the leaf, by their names. */
export type PathResult =
  | { readonly path: readonly Certificate[] }
  | { readonly path: undefined; readonly refusal: Refusal; readonly issuers: number };

export function findPath(leaf: Certificate, { others, anchors, now, revocation = () => undefined }: PathOptions): PathResult {
  const candidates = [...anchors, ...others.map((certificate) => ({ certificate, root: false }))];
  const { path, nearest } = climb([leaf], { candidates, now, revocation });
  if (path !== undefined) return { path };
  const issuers = candidates.filter(({ certificate }) => couldIssue(certificate, leaf)).length;
  return { path: undefined, refusal: nearest ?? notTrusted(leaf), issuers };
}

/** What the best of clients would hear that comes from this CA and presents no other: nothing it says may ever be believed. */
export function strandedFault({ certificate, root }: Anchor, { anchors, now }: Pick<PathOptions, "anchors" | "now">): Refusal | undefined {
  const fault = issuerFault(certificate, 0);
  if (fault !== undefined || root) return fault;
  // The CA stands for the leaf, too: what matters of that here is that there is one.
  const { path, nearest } = climb([certificate, certificate], { candidates: anchors, now, revocation: () => undefined });
  return path === undefined ? (nearest ?? notTrusted(certificate)) : undefined;
}

interface Climb extends Required<Pick<PathOptions, "now" | "revocation">> {
  readonly candidates: readonly Omit<Anchor, "fingerprint">[];
}

interface Climbed {
  readonly path: readonly Certificate[] | undefined;
  /** What kept it from the root, if an issuer was found at all. */
  readonly nearest: Refusal | undefined;
}

/** From `start`, whose first is the leaf, upwards. */
function climb(start: readonly Certificate[], { candidates, now, revocation }: Climb): Climbed {
  let checks = 0;
  let nearest: Refusal | undefined;

  // Depth first, so that a CA with two certificates (renewed, or under two roots) is found by either. Never deeper than MAX_PATH.
  const extend = (path: readonly Certificate[]): readonly Certificate[] | undefined => {
    const child = path[path.length - 1] as Certificate;
    for (const { certificate: issuer, root } of candidates) {
      if (path.length === MAX_PATH || path.includes(issuer) || !couldIssue(issuer, child)) continue;
      const fault = issuerFault(issuer, path.length - 1) ?? strengthFault(issuer, child);
      if (fault !== undefined || checks === MAX_SIGNATURE_CHECKS) {
        nearest ??= fault;
        continue;
      }
      checks++;
      if (!isSignedBy(child.signed, issuer.publicKey)) continue;
      const over =
        validityFault(issuer, { now, whose: "a CA of its chain" }) ??
        (path.length > 1 ? revocation(child, issuer) : undefined) ??
        (root ? revocation(issuer, issuer) : undefined);
      if (over === undefined) {
        const whole = root ? [...path, issuer] : extend([...path, issuer]);
        if (whole !== undefined) return whole;
      } else nearest ??= over;
    }
    return undefined;
  };

  const path = extend(start);
  return { path, nearest };
}

function notTrusted({ issuerText }: Certificate): Refusal {
  return new Refusal("unknown_issuer", `issued by ${issuerText}, which is not trusted here`);
}

/** What names say: OpenSSL goes by the same. */
function couldIssue(issuer: Certificate, child: Certificate): boolean {
  if (!issuer.subject.equals(child.issuer)) return false;
  const { authorityKeyId, authoritySerial } = child;
  if (authorityKeyId !== undefined && issuer.subjectKeyId !== undefined && authorityKeyId !== issuer.subjectKeyId) return false;
  return authoritySerial === undefined || authoritySerial === issuer.serial;
}

/** Whether a certificate may issue what stands `below` CAs under it. */
function issuerFault(
  { version, ca, keyUsage, extendedKeyUsage, pathLength, unknownCritical }: Certificate,
  below: number,
): Refusal | undefined {
  const no = (why: string): Refusal => new Refusal("unknown_issuer", `issued by ${why}`);
  if (version !== 3 || !ca) return no("a certificate that is not a CA's");
  if (unknownCritical.length > 0) return no(`a CA that is restricted by an extension that is not understood here, ${unknownCritical[0]}`);
  if (keyUsage !== undefined && (keyUsage & KeyUsage.KEY_CERT_SIGN) === 0) return no("a CA that may not sign certificates");
  if (extendedKeyUsage !== undefined && !extendedKeyUsage.includes(Eku.CLIENT_AUTH)) {
    return new Refusal("wrong_usage", "issued by a CA that may not issue client certificates");
  }
  if (pathLength !== undefined && below > pathLength) return no("a CA too far below one that limits the length of its path");
  return undefined;
}

function strengthFault(issuer: Certificate, child: Certificate): Refusal | undefined {
  const weak = weakness(issuer.publicKey);
  if (weak !== undefined) return new Refusal("weak_key", `a CA of its chain has ${weak}`);
  const hash = signatureWeakness(child.signed, issuer.publicKey);
  return hash === undefined ? undefined : new Refusal("weak_key", hash);
}
