/**
 * From the DER of a presented chain to an identity or a reason: the one place where a certificate is believed. Every door uses it, and
 * whoever judges a peer that is connected already. Promises: pure; the same verdict on both runtimes; a bounded number of parses and
 * signature checks, whatever is presented. Leaves to others: the TLS handshake, whether the session was resumed, what the identity may do.
 *
 * A certificate without extended key usage is taken (RFC 5280: unrestricted), as OpenSSL and rustls do; one that names usages must name
 * clientAuth, "any" is not enough. A revocation list that went out of date refuses everyone of its CA (`revoked`, the detail says why):
 * closed, not open.
 */
import { Buffer } from "node:buffer";
import type { Reason } from "../base/reason.ts";
import { printable } from "../base/text.ts";
import { fingerprintOf, MAX_CERTIFICATE, parseCertificate, type Certificate } from "./certificate.ts";
import { DerFault } from "./der.ts";
import { NameFault } from "./extensions.ts";
import type { Identity } from "./identity.ts";
import { keyFault, usageFault, versionFault } from "./leaf.ts";
import { identityOf } from "./names.ts";
import { findPath, type Anchor, type PathResult } from "./path.ts";
import { type Proof, ProvenLeaves } from "./proven.ts";
import { Refusal, validityFault } from "./refusal.ts";
import { revocationFault } from "./revocation.ts";
import type { Trust } from "./trust.ts";

export { createTrust, loadTrust, type Trust, type TrustOptions } from "./trust.ts";

export type Verdict =
  | { readonly ok: true; readonly identity: Identity; readonly proof: Proof }
  | { readonly ok: false; readonly reason: Reason; readonly detail: string; readonly fingerprint?: string };

export interface JudgeOptions {
  /** Milliseconds since the epoch. */
  readonly now: number;
  /**
   * OpenSSL has verified this chain against the same CAs, in a full handshake: then a chain whose intermediates the runtime does not show
   * is taken. False (Deno, a resumed session): the chain must be proven here, up to a root.
   */
  readonly verifiedByRuntime: boolean;
  /** Whether a leaf that is proven now is known to those who ask later. False for who only wants to know. Default: true. */
  readonly remembers?: boolean;
}

const MAX_CHAIN = 10;
/** What is kept of the CAs that a peer presents, for as long as it is connected or remembered. */
const MAX_KEPT = 32 << 10;

/** `chain`: DER as presented, leaf first. Never throws. */
export function judge(chain: readonly Uint8Array[], trust: Trust, options: JudgeOptions): Verdict {
  const [first] = chain;
  if (first === undefined || first.length === 0) return { ok: false, reason: "no_certificate", detail: "no certificate was presented" };
  const unbound = boundsFault(chain); // before a hash is made of anything
  if (unbound !== undefined) return { ok: false, reason: "unknown_issuer", detail: unbound };
  const fingerprint = fingerprintOf(first);
  const known = judgeAgain(fingerprint, trust, options.now);
  if (known !== undefined) return known;
  const { remembers = true } = options;
  const find = (): Proof => (remembers ? remember(prove(chain, trust, options), trust) : prove(chain, trust, options));
  return verdictOn(fingerprint, find, { trust, now: options.now });
}

/**
 * The verdict on a leaf that was proven under this trust before: only times and revocation are left to judge. Undefined: it was not, or
 * a CA of its path is no longer good and there may be another path.
 * `fingerprint`: `sha256:HEX` of the leaf that the peer presented and has shown to hold the key of, as the TLS stack computed it.
 */
export function judgeAgain(fingerprint: string, trust: Trust, now: number): Verdict | undefined {
  const proof = memory.get(trust)?.find(fingerprint);
  if (proof === undefined || pathFault(proof.path, { trust, now }) !== undefined) return undefined;
  return verdictOn(fingerprint, () => proof, { trust, now });
}

/** The verdict on a peer that is connected, by the trust of today, which may be another than at its handshake. Never throws. */
export function judgeStanding(proof: Proof, trust: Trust, now: number): Verdict {
  const moment: Moment = { trust, now };
  return verdictOn(proof.identity.fingerprint, () => (stands(proof, moment) ? proof : proveAgain(proof, moment)), moment);
}

function verdictOn(fingerprint: string, find: () => Proof, moment: Moment): Verdict {
  try {
    const proof = find();
    const { identity, path } = proof;
    const fault = leafFault(path, moment);
    if (fault !== undefined) throw fault;
    return { ok: true, identity, proof };
  } catch (error) {
    return { ok: false, ...reasonOf(error), fingerprint };
  }
}

/** What does not parse could have been issued by nobody we trust, unless it is the names that are wrong. */
function reasonOf(error: unknown): { readonly reason: Reason; readonly detail: string } {
  if (error instanceof Refusal) return { reason: error.reason, detail: printable(error.message) };
  if (error instanceof NameFault) return { reason: "bad_san", detail: printable(error.message) };
  if (error instanceof DerFault)
    return { reason: "unknown_issuer", detail: printable(`a certificate that cannot be read: ${error.message}`) };
  return { reason: "internal", detail: printable(`a certificate that cannot be judged: ${String(error)}`) };
}

/** What is wrong with the size of a chain, before anything of it is read. */
export function boundsFault(chain: readonly Uint8Array[]): string | undefined {
  if (chain.length > MAX_CHAIN) return `a chain of ${chain.length} certificates`;
  const large = chain.find(({ length }) => length > MAX_CERTIFICATE);
  return large && `a certificate of ${large.length} bytes`;
}

const memory = new WeakMap<Trust, ProvenLeaves>();

function remember(proof: Proof, trust: Trust): Proof {
  // A path that ends without a root was proven by OpenSSL in that one handshake: it is not for others.
  if (proof.path.length === 1) return proof;
  let known = memory.get(trust);
  if (known === undefined) memory.set(trust, (known = new ProvenLeaves()));
  known.add(proof);
  return proof;
}

function prove(chain: readonly Uint8Array[], trust: Trust, { now, verifiedByRuntime }: JudgeOptions): Proof {
  const [leaf, ...others] = chain.map((der) => parseCertificate(Buffer.from(der))) as [Certificate, ...Certificate[]];
  const unfit = versionFault(leaf) ?? keyFault(leaf) ?? usageFault(leaf);
  if (unfit !== undefined) throw unfit;
  const identity = identityOf(leaf, leaf.notAfter);
  if (typeof identity === "string") throw new Refusal("bad_san", identity);
  const late = validityFault(leaf, { now, whose: "the certificate" });
  if (late !== undefined) throw late;
  const found = pathOf(leaf, others, { trust, now });
  if (found.path !== undefined) return proofOf({ identity, path: found.path, others: keptOf(leaf, others), trust });
  // OpenSSL proved a path through certificates that the runtime does not show.
  if (!verifiedByRuntime || others.length > 0 || found.issuers > 0) throw found.refusal;
  // Of the CAs that are not valid now it has used none.
  const needs = trust.anchors.filter(({ certificate }) => validityFault(certificate, { now, whose: "" }) === undefined);
  if (trust.crls.size === 0) return { identity, path: [leaf], others: [], needs, until: Math.min(identity.notAfter, endOf(needs)) };
  throw new Refusal(
    "unknown_issuer",
    `issued by ${leaf.issuerText}, which may be revoked and is not shown here: add it to trust.ca beside its root`,
  );
}

export function pathOf(leaf: Certificate, others: readonly Certificate[], { trust, now }: Moment): PathResult {
  const revocation = (ca: Certificate, issuer: Certificate): Refusal | undefined => revocationFault(ca, { issuer, lists: trust, now });
  return findPath(leaf, { others, anchors: trust.anchors, now, revocation });
}

function endOf(anchors: readonly Anchor[]): number {
  return anchors.reduce((end, { certificate }) => Math.min(end, certificate.notAfter), Infinity);
}

interface ProofParts extends Pick<Proof, "identity" | "others"> {
  readonly path: readonly Certificate[];
  readonly trust: Trust;
}

function proofOf({ identity, path, others, trust }: ProofParts): Proof {
  const until = Math.min(...path.map(({ notAfter }) => notAfter));
  return {
    identity: { ...identity, notAfter: until },
    path: path as Proof["path"],
    others,
    needs: trust.anchors.filter(({ certificate }) => path.includes(certificate)),
    until,
  };
}

/** Of what was presented, what could ever issue the leaf or a CA above it, by its name, up to a bound; in its order. */
function keptOf(leaf: Certificate, others: readonly Certificate[]): readonly Certificate[] {
  const kept = [leaf]; // grows while it is walked: from child to issuers
  let bytes = 0;
  for (const child of kept) {
    for (const issuer of others) {
      if (kept.includes(issuer) || !issuer.ca || !issuer.subject.equals(child.issuer)) continue;
      bytes += issuer.der.length;
      if (bytes <= MAX_KEPT) kept.push(issuer);
    }
  }
  return others.filter((other) => kept.includes(other));
}

/** Whether the path that was found once is a path today. */
function stands({ path, needs }: Proof, moment: Moment): boolean {
  const { trust, now } = moment;
  if (!needs.every(({ fingerprint }) => trust.byFingerprint.has(fingerprint))) return false;
  if (path.length > 1) return pathFault(path, moment) === undefined;
  // Of the CAs that are not shown nobody knows whether a list has them.
  return trust.crls.size === 0 && needs.every(({ certificate }) => validityFault(certificate, { now, whose: "" }) === undefined);
}

/** Another path for the same leaf, from what was presented with it. */
function proveAgain({ identity, path: [leaf, ...above], others }: Proof, moment: Moment): Proof {
  const late = validityFault(leaf, { now: moment.now, whose: "the certificate" });
  if (late !== undefined) throw late;
  const found = pathOf(leaf, others, moment);
  if (found.path !== undefined) return proofOf({ identity, path: found.path, others, trust: moment.trust });
  if (above.length > 0 || found.issuers > 0) throw found.refusal;
  throw new Refusal("unknown_issuer", `issued by ${leaf.issuerText}: its chain cannot be proven again, connect again`);
}

interface Moment {
  readonly trust: Trust;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

function leafFault([leaf, issuer]: Proof["path"], { trust, now }: Moment): Refusal | undefined {
  return validityFault(leaf, { now, whose: "the certificate" }) ?? revocationFault(leaf, { issuer: issuer ?? leaf, lists: trust, now });
}

/** What is wrong today with the CAs of a path. A root is its own issuer: a list of its own can end it. */
function pathFault(path: Proof["path"], { trust, now }: Moment): Refusal | undefined {
  for (let at = 1; at < path.length; at++) {
    const ca = path[at]!;
    const fault =
      validityFault(ca, { now, whose: "a CA of its chain" }) ?? revocationFault(ca, { issuer: path[at + 1] ?? ca, lists: trust, now });
    if (fault !== undefined) return fault;
  }
  return undefined;
}
