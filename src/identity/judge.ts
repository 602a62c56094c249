/**
 * From the DER of a presented chain to an identity or a reason: the one place where a certificate is believed. Every door uses it.
 * Promises: pure; the same verdict on both runtimes; a bounded number of parses and signature checks, whatever is presented.
 * Leaves to others: the TLS handshake, whether the session was resumed, what the identity may do.
 *
 * A certificate without extended key usage is taken (RFC 5280: unrestricted), as OpenSSL and rustls do; one that names usages must name
 * clientAuth. A revocation list that went out of date refuses everyone of its CA (`revoked`, the detail says why): closed, not open.
 */
import type { Reason } from "../base/reason.ts";
import { printable } from "../base/text.ts";
import { CertificateKey, Eku, fingerprintOf, KeyUsage, MAX_CERTIFICATE, parseCertificate, type Certificate } from "./certificate.ts";
import { signatureHash } from "./crl.ts";
import { DerFault } from "./der.ts";
import type { Identity } from "./identity.ts";
import { identityOf } from "./names.ts";
import { weakness } from "./strength.ts";
import type { Trust } from "./trust.ts";

export { createTrust, type Trust, type TrustOptions } from "./trust.ts";

export type Verdict =
  | { readonly ok: true; readonly identity: Identity }
  | { readonly ok: false; readonly reason: Reason; readonly detail: string; readonly fingerprint?: string };

export interface JudgeOptions {
  /** Milliseconds since the epoch. */
  readonly now: number;
  /**
   * OpenSSL has verified this chain against the same CAs, in a full handshake: then a chain whose intermediates the runtime does not show
   * is taken. False (Deno, a resumed session): the chain must be proven here, up to a CA.
   */
  readonly verifiedByRuntime: boolean;
}

/** Leaves that were proven under a trust are remembered by their bytes: what they say and who issued them does not change. */
const MAX_PROVEN = 10_000;
const MAX_CHAIN = 10;
const MAX_PATH = 6;
const MAX_SIGNATURE_CHECKS = 16;
/** Clocks may differ by so much before a certificate is "not yet valid", ms. */
const SKEW_MS = 60_000;

interface Link {
  readonly certificate: Certificate;
  readonly key: CertificateKey;
}

class Refusal extends Error {
  readonly reason: Reason;
  constructor(reason: Reason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

/** `chain`: DER as presented, leaf first. Never throws. */
export function judge(chain: readonly Uint8Array[], trust: Trust, options: JudgeOptions): Verdict {
  const [first] = chain;
  if (first === undefined || first.length === 0) return { ok: false, reason: "no_certificate", detail: "no certificate was presented" };
  const fingerprint = fingerprintOf(first);
  return judgeAgain(fingerprint, trust, options.now) ?? verdictOf(fingerprint, () => judgeFirst(chain, trust, options));
}

/**
 * The verdict on a leaf that was proven under this trust before: only times and revocation are left to judge. Undefined: it was not.
 * `fingerprint`: `sha256:HEX` of the leaf that the peer presented and has shown to hold the key of, as the TLS stack computed it.
 */
export function judgeAgain(fingerprint: string, trust: Trust, now: number): Verdict | undefined {
  const proven = memory.get(trust)?.get(fingerprint);
  if (proven === undefined) return undefined;
  return verdictOf(fingerprint, () => {
    judgeNow(proven.path, trust, now);
    return proven.identity;
  });
}

function judgeFirst(chain: readonly Uint8Array[], trust: Trust, options: JudgeOptions): Identity {
  const proven = prove(chain, trust, options);
  remember(trust, proven);
  judgeNow(proven.path, trust, options.now);
  return proven.identity;
}

function verdictOf(fingerprint: string, act: () => Identity): Verdict {
  try {
    return { ok: true, identity: act() };
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, reason: error.reason, detail: printable(error.message), fingerprint };
    const detail = error instanceof DerFault ? `a certificate that cannot be read: ${error.message}` : `a certificate that cannot be judged: ${String(error)}`;
    // Too many names is a fault of the names; everything else that does not parse could have been issued by nobody we trust.
    const reason = detail.includes("names") ? "bad_san" : "unknown_issuer";
    return { ok: false, reason, detail: printable(detail), fingerprint };
  }
}

/** What holds of a leaf for as long as the trust does; times and revocation are judged each time. */
interface Proven {
  readonly identity: Identity;
  /** From the leaf to the CA. */
  readonly path: readonly Certificate[];
}

const memory = new WeakMap<Trust, Map<string, Proven>>();

function remember(trust: Trust, proven: Proven): void {
  let map = memory.get(trust);
  if (map === undefined) memory.set(trust, (map = new Map()));
  if (map.size >= MAX_PROVEN) map.delete(map.keys().next().value as string); // the oldest
  // A path that ends without a CA was proven by OpenSSL in that one handshake: it is not ours to keep.
  if (proven.path.length > 1) map.set(proven.identity.fingerprint, proven);
}

function prove(chain: readonly Uint8Array[], trust: Trust, options: JudgeOptions): Proven {
  if (chain.length > MAX_CHAIN) throw new Refusal("unknown_issuer", `a chain of ${chain.length} certificates`);
  for (const der of chain) if (der.length > MAX_CERTIFICATE) throw new Refusal("unknown_issuer", `a certificate of ${der.length} bytes`);
  const [leaf, ...others] = chain.map(link) as [Link, ...Link[]];
  judgeLeaf(leaf);
  const named = identityOf(leaf.certificate, leaf.certificate.notAfter);
  if (typeof named === "string") throw new Refusal("bad_san", named);
  judgeValidity(leaf.certificate, { now: options.now, whose: "the certificate" });
  const path = findPath(leaf, { others, trust, options }).map(({ certificate }) => certificate);
  return { identity: { ...named, notAfter: Math.min(...path.map(({ notAfter }) => notAfter)) }, path };
}

function judgeNow(path: readonly Certificate[], trust: Trust, now: number): void {
  for (const [index, certificate] of path.entries()) judgeValidity(certificate, { now, whose: index === 0 ? "the certificate" : "a CA of its chain" });
  for (const certificate of path) judgeRevocation(certificate, trust, now);
}

function link(der: Uint8Array): Link {
  const certificate = parseCertificate(Buffer.from(der.buffer, der.byteOffset, der.byteLength));
  return { certificate, key: new CertificateKey(certificate.der) };
}

function judgeLeaf({ certificate, key }: Link): void {
  if (certificate.version !== 3) throw new Refusal("wrong_usage", `an X.509 v${certificate.version} certificate`);
  judgeStrength({ certificate, key });
  if (certificate.ca) throw new Refusal("wrong_usage", "a CA's certificate instead of one that it issued");
  const { keyUsage, extendedKeyUsage, unknownCritical } = certificate;
  if (keyUsage !== undefined && (keyUsage & KeyUsage.DIGITAL_SIGNATURE) === 0) throw new Refusal("wrong_usage", "key usage without digitalSignature");
  if (extendedKeyUsage !== undefined && !extendedKeyUsage.includes(Eku.CLIENT_AUTH)) throw new Refusal("wrong_usage", "extended key usage without clientAuth");
  if (unknownCritical.length > 0) throw new Refusal("wrong_usage", `an unknown critical extension, ${unknownCritical[0]}`);
}

function judgeStrength({ certificate, key }: Link): void {
  const weak = weakness(key.publicKey);
  if (weak !== undefined) throw new Refusal("weak_key", weak);
  if (!signatureHash.has(certificate.signature)) throw new Refusal("weak_key", `signed with ${certificate.signature}`);
}

function judgeValidity(certificate: Certificate, { now, whose }: { readonly now: number; readonly whose: string }): void {
  if (now + SKEW_MS < certificate.notBefore) throw new Refusal("not_yet_valid", `${whose} is valid from ${new Date(certificate.notBefore).toISOString()}`);
  if (now > certificate.notAfter) throw new Refusal("cert_expired", `${whose} expired on ${new Date(certificate.notAfter).toISOString()}`);
}

interface Search {
  readonly others: readonly Link[];
  readonly trust: Trust;
  readonly options: JudgeOptions;
}

/** The certificates from the leaf to a CA that is trusted, both included. Names only propose; signatures decide. */
function findPath(leaf: Link, { others, trust, options }: Search): Link[] {
  const path = [leaf];
  let checks = 0;
  const issued = (child: Link, issuer: Link): boolean => {
    if (!issuer.certificate.subject.equals(child.certificate.issuer) || ++checks > MAX_SIGNATURE_CHECKS) return false;
    return mayIssue(issuer.certificate, path.length - 1) && child.key.x509.verify(issuer.key.publicKey);
  };
  while (path.length <= MAX_PATH) {
    const child = path[path.length - 1] as Link;
    const anchor = trust.anchors.find((candidate) => issued(child, candidate));
    if (anchor !== undefined) return [...path, anchor];
    const next = others.find((candidate) => !path.includes(candidate) && issued(child, candidate));
    if (next === undefined) break;
    judgeStrength(next);
    path.push(next);
  }
  // OpenSSL proved a path through certificates that the runtime does not show. With revocation lists that is not enough: they may be revoked.
  if (options.verifiedByRuntime && others.length === 0 && trust.crls.size === 0) return path;
  throw new Refusal("unknown_issuer", `issued by ${leaf.certificate.issuerText}, which is not trusted here`);
}

/** Whether a CA may issue what stands `below` CAs under it. */
function mayIssue({ version, ca, keyUsage, pathLength, unknownCritical }: Certificate, below: number): boolean {
  if (version !== 3 || !ca || unknownCritical.length > 0) return false;
  if (keyUsage !== undefined && (keyUsage & KeyUsage.KEY_CERT_SIGN) === 0) return false;
  return pathLength === undefined || below <= pathLength;
}

function judgeRevocation(certificate: Certificate, { crls }: Trust, now: number): void {
  if (crls.size === 0) return;
  for (const list of crls.get(certificate.issuer.toString("hex")) ?? []) {
    if (list.revoked.has(certificate.serial)) throw new Refusal("revoked", `serial ${certificate.serial}`);
    if (now > list.nextUpdate) throw new Refusal("revoked", "the revocation list of its CA is out of date");
  }
}
