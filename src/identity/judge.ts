/**
 * From the DER of a presented chain to an identity or a reason: the one place where a certificate is believed. Every door uses it.
 * Promises: pure; the same verdict on both runtimes; a bounded number of parses and signature checks, whatever is presented.
 * Leaves to others: the TLS handshake, whether the session was resumed, what the identity may do.
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
import { findPath } from "./path.ts";
import { Refusal, validityFault } from "./refusal.ts";
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
   * is taken. False (Deno, a resumed session): the chain must be proven here, up to a root.
   */
  readonly verifiedByRuntime: boolean;
}

/** Leaves that were proven under a trust are remembered by their bytes: what they say and who issued them does not change. */
const MAX_PROVEN = 10_000;
const MAX_CHAIN = 10;

/** `chain`: DER as presented, leaf first. Never throws. */
export function judge(chain: readonly Uint8Array[], trust: Trust, options: JudgeOptions): Verdict {
  const [first] = chain;
  if (first === undefined || first.length === 0) return { ok: false, reason: "no_certificate", detail: "no certificate was presented" };
  const unbound = boundsFault(chain); // before a hash is made of anything
  if (unbound !== undefined) return { ok: false, reason: "unknown_issuer", detail: unbound };
  const fingerprint = fingerprintOf(first);
  return (
    judgeAgain(fingerprint, trust, options.now) ??
    verdictOn(fingerprint, () => remember(prove(chain, trust, options), trust), { trust, ...options })
  );
}

/**
 * The verdict on a leaf that was proven under this trust before: only times and revocation are left to judge. Undefined: it was not, or
 * a CA of its path is no longer valid and there may be another path.
 * `fingerprint`: `sha256:HEX` of the leaf that the peer presented and has shown to hold the key of, as the TLS stack computed it.
 */
export function judgeAgain(fingerprint: string, trust: Trust, now: number): Verdict | undefined {
  const proven = memory.get(trust)?.get(fingerprint);
  const holds = proven?.path.slice(1).every((ca) => validityFault(ca, { now, whose: "a CA" }) === undefined);
  return proven === undefined || holds === false ? undefined : verdictOn(fingerprint, () => proven, { trust, now });
}

function verdictOn(fingerprint: string, proof: () => Proven, moment: Moment): Verdict {
  try {
    const { path, identity } = proof();
    judgeNow(path, moment);
    return { ok: true, identity };
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

/** What holds of a leaf for as long as the trust does; times and revocation are judged each time. */
interface Proven {
  readonly identity: Identity;
  /** From the leaf to the root; the leaf alone when OpenSSL proved it. */
  readonly path: readonly Certificate[];
}

const memory = new WeakMap<Trust, Map<string, Proven>>();

function remember(proven: Proven, trust: Trust): Proven {
  // A path that ends without a root was proven by OpenSSL in that one handshake: it is not ours to keep.
  if (proven.path.length === 1) return proven;
  let known = memory.get(trust);
  if (known === undefined) memory.set(trust, (known = new Map<string, Proven>()));
  if (known.size >= MAX_PROVEN) known.delete(known.keys().next().value as string); // the oldest
  known.set(proven.identity.fingerprint, proven);
  return proven;
}

function prove(chain: readonly Uint8Array[], trust: Trust, { now, verifiedByRuntime }: JudgeOptions): Proven {
  const [leaf, ...others] = chain.map((der) => parseCertificate(Buffer.from(der))) as [Certificate, ...Certificate[]];
  const unfit = versionFault(leaf) ?? keyFault(leaf) ?? usageFault(leaf);
  if (unfit !== undefined) throw unfit;
  const named = identityOf(leaf, leaf.notAfter);
  if (typeof named === "string") throw new Refusal("bad_san", named);
  const late = validityFault(leaf, { now, whose: "the certificate" });
  if (late !== undefined) throw late;
  const found = findPath(leaf, { others, anchors: trust.anchors, now });
  if (found.path !== undefined)
    return { identity: { ...named, notAfter: Math.min(...found.path.map(({ notAfter }) => notAfter)) }, path: found.path };
  // OpenSSL proved a path through certificates that the runtime does not show.
  if (!verifiedByRuntime || others.length > 0 || found.issuers > 0) throw found.refusal;
  if (trust.crls.size === 0) return { identity: named, path: [leaf] };
  throw new Refusal(
    "unknown_issuer",
    `issued by ${leaf.issuerText}, which may be revoked and is not shown here: add it to trust.ca beside its root`,
  );
}

interface Moment {
  readonly trust: Trust;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

function judgeNow(path: readonly Certificate[], moment: Moment): void {
  const { trust, now } = moment;
  for (const [index, certificate] of path.entries()) {
    const late = validityFault(certificate, { now, whose: index === 0 ? "the certificate" : "a CA of its chain" });
    if (late !== undefined) throw late;
  }
  if (trust.crls.size === 0) return;
  // A root is its own issuer: a list of its own can end it.
  for (const [index, certificate] of path.entries()) judgeRevocation(certificate, path[index + 1] ?? certificate, moment);
}

/** Whatever list of that name has the serial revokes it; lists of the very key are what must be up to date. */
function judgeRevocation({ issuer: name, serial }: Certificate, issuer: Certificate, { trust, now }: Moment): void {
  const lists = trust.crls.get(name.toString("hex")) ?? [];
  if (lists.some(({ revoked }) => revoked.has(serial))) throw new Refusal("revoked", `serial ${serial}`);
  const own = lists.filter(({ by }) => by.der.equals(issuer.publicKey.der));
  if (own.length > 0 && own.every(({ nextUpdate }) => now > nextUpdate)) {
    throw new Refusal("revoked", "the revocation list of its CA is out of date");
  }
}
