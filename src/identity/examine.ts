/**
 * What the guard thinks of a chain, step by step, for a person who asks why. Promises: the same checks as judge.ts, by the same functions;
 * goes on behind the first fault as far as there is something to look at; a bounded number of parses and signature checks; never throws.
 * Decides nothing: whether a certificate is believed says `judge` alone.
 */
import { Buffer } from "node:buffer";
import { printable } from "../base/text.ts";
import { nameText, parseCertificate, type Certificate } from "./certificate.ts";
import { keyFault, usageFault, versionFault } from "./leaf.ts";
import { boundsFault, pathOf } from "./judge.ts";
import { identityOf } from "./names.ts";
import { findPath } from "./path.ts";
import { KeyAlgorithm } from "./public-key.ts";
import { validityFault } from "./refusal.ts";
import { nameKey, revocationFault } from "./revocation.ts";
import type { Trust } from "./trust.ts";

export interface Step {
  readonly step: "readable" | "version" | "key" | "usage" | "names" | "validity" | "issuer" | "revocation" | "deny-list";
  /** `open`: it could not be looked at, because of a step before. */
  readonly result: "holds" | "fails" | "open";
  /** Plain printable text. */
  readonly says: string;
}

export interface ExamineOptions {
  readonly trust: Trust;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** `chain`: DER as presented, leaf first. */
export function examine(chain: readonly Uint8Array[], options: ExamineOptions): readonly Step[] {
  const bounds = chain.length === 0 ? "no certificate was presented" : boundsFault(chain);
  if (bounds !== undefined) return [fails("readable", bounds)];
  let certificates: readonly Certificate[];
  try {
    certificates = chain.map((der) => parseCertificate(Buffer.from(der)));
  } catch (error) {
    return [fails("readable", `no: ${error instanceof Error ? error.message : String(error)}`)];
  }
  const [leaf, ...others] = certificates as [Certificate, ...Certificate[]];
  const { path, step } = issuerStep(leaf, { ...options, others });
  return [
    holds("readable", `${leaf.der.length} bytes${others.length === 0 ? "" : `, and ${others.length} more of its chain`}`),
    judged("version", versionFault(leaf)?.message, `X.509 v${leaf.version}`),
    judged("key", keyFault(leaf)?.message, keyText(leaf)),
    judged("usage", usageFault(leaf)?.message, usageText(leaf)),
    namesStep(leaf),
    judged("validity", validityFault(leaf, { now: options.now, whose: "the certificate" })?.message, spanText(leaf)),
    step,
    path === undefined ? open("revocation", "not looked at: nobody knows whose list it would be on") : revocationStep(path, options),
  ];
}

function judged(step: Step["step"], fault: string | undefined, fine: string): Step {
  return fault === undefined ? holds(step, fine) : fails(step, fault);
}

function holds(step: Step["step"], says: string): Step {
  return { step, result: "holds", says: printable(says, 1024) };
}

function fails(step: Step["step"], says: string): Step {
  return { step, result: "fails", says: printable(says, 1024) };
}

function open(step: Step["step"], says: string): Step {
  return { step, result: "open", says };
}

const curves: Readonly<Record<string, string>> = { "1.2.840.10045.3.1.7": "P-256", "1.3.132.0.34": "P-384", "1.3.132.0.35": "P-521" };

function keyText({ publicKey: { algorithm, bits, curve } }: Certificate): string {
  if (algorithm === KeyAlgorithm.RSA) return `RSA of ${bits} bits`;
  if (algorithm === KeyAlgorithm.EC) return curves[curve ?? ""] ?? "EC";
  return algorithm === KeyAlgorithm.ED25519 ? "Ed25519" : "Ed448";
}

function usageText({ extendedKeyUsage }: Certificate): string {
  return extendedKeyUsage === undefined ? "unrestricted: it names no extended key usage" : "clientAuth";
}

function namesStep(leaf: Certificate): Step {
  const named = identityOf(leaf, leaf.notAfter);
  if (typeof named === "string") return fails("names", named);
  const { principal, uri, dns, cn } = named;
  const more = [...(uri === undefined ? [] : [uri]), ...dns.map((name) => `dns:${name}`), ...(cn === undefined ? [] : [`cn:${cn}`])];
  const others = more.filter((name) => name !== principal);
  return holds("names", others.length === 0 ? principal : `${principal}, also ${others.join(", ")}`);
}

function spanText({ notBefore, notAfter }: Certificate): string {
  return `from ${date(notBefore)} until ${date(notAfter)}`;
}

function date(at: number): string {
  return new Date(at).toISOString();
}

interface IssuerOptions extends ExamineOptions {
  readonly others: readonly Certificate[];
}

function issuerStep(
  leaf: Certificate,
  { others, trust, now }: IssuerOptions,
): { readonly path: readonly Certificate[] | undefined; readonly step: Step } {
  const clean = pathOf(leaf, others, { trust, now });
  // Where revocation is all that stands in the way, the way is shown, and revocation told in its own step.
  const found = clean.path === undefined ? findPath(leaf, { others, anchors: trust.anchors, now }) : clean;
  if (found.path === undefined) return { path: undefined, step: fails("issuer", found.refusal.message) };
  const above = found.path.slice(1).map(({ subject, notAfter }) => `${nameText(subject)} (until ${date(notAfter)})`);
  return { path: found.path, step: holds("issuer", above.join(", under ")) };
}

/** From the leaf to the root; the first fault is told alone. */
function revocationStep(path: readonly Certificate[], options: ExamineOptions): Step {
  const lines: string[] = [];
  for (const [index, certificate] of path.entries()) {
    // A root is its own issuer: a list of its own can end it.
    const { fault, says } = listed(certificate, { ...options, issuer: path[index + 1] ?? certificate });
    const whose = index === 0 ? "" : `${nameText(certificate.subject)}: `;
    if (fault) return fails("revocation", `${whose}${says}`);
    if (says !== undefined) lines.push(`${whose}${says}`);
  }
  return holds("revocation", lines.length === 0 ? "there is no list of its CAs" : lines.join("; "));
}

interface ListedOptions extends ExamineOptions {
  readonly issuer: Certificate;
}

type Listed = { readonly fault: true; readonly says: string } | { readonly fault: false; readonly says: string | undefined };

function listed(certificate: Certificate, { trust, now, issuer }: ListedOptions): Listed {
  const { issuer: name, issuerText, serial } = certificate;
  const lists = trust.crls.get(nameKey(name)) ?? [];
  const own = lists.filter(({ by }) => by.der.equals(issuer.publicKey.der));
  const whose = `the list of ${issuerText}`;
  const until = Math.max(...own.map(({ nextUpdate }) => nextUpdate));
  if (revocationFault(certificate, { issuer, lists: trust, now }) !== undefined) {
    const naming = lists.find(({ revoked }) => revoked.has(serial));
    if (naming === undefined) return { fault: true, says: `${whose} went out of date on ${date(until)}` };
    return { fault: true, says: `serial ${serial} is on ${whose} of ${date(naming.thisUpdate)}` };
  }
  if (own.length === 0) return { fault: false, says: undefined };
  if (now <= until) return { fault: false, says: `not on ${whose}, valid until ${date(until)}` };
  return { fault: false, says: `not on ${whose}, which went out of date on ${date(until)} and is taken (trust.onExpired: warn)` };
}
