/**
 * What a listener trusts: its CAs and their revocation lists, parsed, checked and counted before anything is served.
 * Promises: what cannot be trusted (authorities.ts, lists.ts say what), and an empty list of CAs: a PipegateError (config) that says which;
 * what is known already is not read again, and all the same is the same object. Leaves to others: reading files, judging peers.
 */
import { PipegateError } from "../base/error.ts";
import { atOnce, paced, type Steps } from "../base/steps.ts";
import { readAnchors, strandedAmong } from "./authorities.ts";
import { listSteps, type ListFile } from "./lists.ts";
import type { Anchor } from "./path.ts";
import { nameKey, type Lists, type OnExpired, type TrustedCrl } from "./revocation.ts";

export { listsLost, nextChange, staleLists } from "./revocation.ts";

export interface Trust extends Lists {
  readonly anchors: readonly Anchor[];
  /** The same by their fingerprints. */
  readonly byFingerprint: ReadonlyMap<string, Anchor>;
  /** What `crls` is made of, in the order of the config. */
  readonly files: readonly ListFile[];
}

export interface TrustOptions {
  /** PEM texts, each with at least one CA certificate. */
  readonly ca: readonly string[];
  /** PEM (several lists allowed) or DER. */
  readonly crl: readonly Uint8Array[];
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Clients of a CA whose list is out of date. With `warn` such a list is taken, too. Default: refuse. */
  readonly onExpired?: OnExpired | undefined;
  /** A trust of before: of what has not changed nothing is read again, and when nothing has changed it comes back itself. */
  readonly known?: Trust | undefined;
}

/** What is wrong with what one entry names. */
export interface TrustFault {
  readonly entry: "ca" | "crl";
  /** In `ca` or in `crl`. */
  readonly index: number;
  readonly error: PipegateError;
}

export type Examined = { readonly trust: Trust } | { readonly trust: undefined; readonly faults: readonly TrustFault[] };

/** All at once: 100,000 revoked serials keep the event loop for some 100 ms. Throws a PipegateError (config). */
export function createTrust(options: TrustOptions): Trust {
  return trustOf(atOnce(examining(options)));
}

/** The same between other events. Rejects with a PipegateError (config). */
export async function loadTrust(options: TrustOptions): Promise<Trust> {
  return trustOf(await examineTrust(options));
}

/** The same with all that is wrong, when the texts of `ca` are good by themselves; else it rejects. */
export function examineTrust(options: TrustOptions): Promise<Examined> {
  return paced(examining(options));
}

function trustOf(examined: Examined): Trust {
  if (examined.trust === undefined) throw examined.faults[0]!.error;
  return examined.trust;
}

function* examining({ ca, crl, now, onExpired = "refuse", known }: TrustOptions): Steps<Examined> {
  const before = { now, known: known?.byFingerprint };
  const named = readAnchors(ca, before);
  if (named.length === 0) {
    const next = "name the file of your CA: trust: { ca: [certs/ca.pem] }";
    throw new PipegateError("config", "trust.ca has no CA, so nobody could connect", { next });
  }
  const stranded = strandedAmong(named, before);
  // A CA that is refused would only make its list look foreign.
  if (stranded.length > 0) return { trust: undefined, faults: stranded.map((fault) => ({ entry: "ca", ...fault })) };
  const anchors = named.map(({ anchor }) => anchor);
  const files: ListFile[] = [];
  const faults: TrustFault[] = [];
  for (const [index, bytes] of crl.entries()) {
    try {
      const label = `trust.crl[${index}]`;
      files.push(yield* listSteps(bytes, { label, now, anchors, onExpired, known: [...(known?.files ?? []), ...files] }));
    } catch (error) {
      if (!(error instanceof PipegateError)) throw error;
      faults.push({ entry: "crl", index, error });
    }
  }
  if (faults.length > 0) return { trust: undefined, faults };
  if (known !== undefined && onExpired === known.onExpired && same(anchors, known.anchors) && same(files, known.files))
    return { trust: known };
  const byFingerprint = new Map(anchors.map((anchor) => [anchor.fingerprint, anchor]));
  return { trust: { anchors, byFingerprint, files, crls: indexed(files), onExpired } };
}

function same<Value>(some: readonly Value[], others: readonly Value[]): boolean {
  return some.length === others.length && some.every((value, index) => value === others[index]);
}

function indexed(files: readonly ListFile[]): ReadonlyMap<string, readonly TrustedCrl[]> {
  const crls = new Map<string, TrustedCrl[]>();
  for (const list of files.flatMap(({ lists }) => lists)) {
    const key = nameKey(list.issuer);
    crls.set(key, [...(crls.get(key) ?? []), list]);
  }
  return crls;
}

/** The CAs in PEM, for the handshake: those that are judged by, and no others. */
export function authorityTexts({ anchors }: Trust): readonly string[] {
  return anchors.map(({ certificate: { der } }) => {
    const lines = der.toString("base64").replace(/.{64}(?=.)/g, "$&\n");
    return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
  });
}

/** Whether two say the same, by the bytes that they were made of. */
export function isSameTrust(one: Trust, other: Trust): boolean {
  const text = ({ anchors, files, onExpired }: Trust): string =>
    [onExpired, ...anchors.map(({ fingerprint }) => fingerprint), ...files.map(({ digest }) => digest)].join(" ");
  return text(one) === text(other);
}
