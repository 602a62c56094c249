/**
 * What the revocation lists of a trust say at a moment: about a certificate whose issuer is known, and about themselves.
 * Promises: whatever list of an issuer's name has the serial revokes it, out of date or not; whose own lists are all out of date, nobody
 * of that CA is taken for unrevoked, unless the config says `warn`. Leaves to others: reading lists and believing them (lists.ts).
 */
import type { Buffer } from "node:buffer";
import { printable } from "../base/text.ts";
import { nameText, type Certificate } from "./certificate.ts";
import type { Crl } from "./crl.ts";
import type { PublicKey } from "./public-key.ts";
import { Refusal } from "./refusal.ts";

export interface TrustedCrl extends Omit<Crl, "signed"> {
  /** The key that signed it. */
  readonly by: PublicKey;
}

/** What clients of a CA are met with whose list is out of date. */
export type OnExpired = "refuse" | "warn";

export interface Lists {
  /** By the issuer's name (`nameKey`); several lists of one CA count together. */
  readonly crls: ReadonlyMap<string, readonly TrustedCrl[]>;
  readonly onExpired: OnExpired;
}

/** A name whole, as DER, for maps. */
export function nameKey(name: Buffer): string {
  return name.toString("latin1");
}

export interface RevocationOptions {
  /** Its certificate in the path; a root is its own. */
  readonly issuer: Certificate;
  readonly lists: Lists;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export function revocationFault({ issuer: name, serial }: Certificate, { issuer, lists, now }: RevocationOptions): Refusal | undefined {
  if (lists.crls.size === 0) return undefined;
  const named = lists.crls.get(nameKey(name));
  if (named === undefined) return undefined;
  if (named.some(({ revoked }) => revoked.has(serial))) return new Refusal("revoked", `serial ${serial}`);
  if (lists.onExpired === "warn") return undefined;
  const own = named.filter(({ by }) => by.der.equals(issuer.publicKey.der));
  if (own.length === 0 || own.some(({ nextUpdate }) => now <= nextUpdate)) return undefined;
  return new Refusal("revoked", "the revocation list of its CA is out of date");
}

/** The lists that are out of date, one line each for the log: whose, since when, what follows. */
export function staleLists(lists: Lists, now: number): readonly string[] {
  const follows =
    lists.onExpired === "warn" ? "who was revoked since is let in (trust.onExpired: warn)" : "all clients of that CA are refused";
  return ends(lists)
    .filter(({ at }) => now > at)
    .map(({ issuer, at }) => {
      const whose = printable(nameText(issuer), 200);
      return `the revocation list of ${whose} went out of date on ${new Date(at).toISOString()}: ${follows}; make a new one: pipegate ca crl`;
    });
}

/** The next moment at which lists of a CA are over, milliseconds since the epoch; one later they are out of date. */
export function nextChange(lists: Lists, now: number): number | undefined {
  return ends(lists).reduce<number | undefined>((next, { at }) => (at >= now && (next === undefined || at < next) ? at : next), undefined);
}

/** The CAs of `issuers` whose list the first has and the second has not; of two CAs of one name each has its own. */
export function listsLost(
  before: Lists,
  { now, issuers }: { readonly now: Lists; readonly issuers: readonly Certificate[] },
): readonly string[] {
  const still = ends(now);
  return ends(before)
    .filter((one) => !still.some(({ issuer, by }) => issuer.equals(one.issuer) && by.der.equals(one.by.der)))
    .filter((one) => issuers.some(({ subject, publicKey }) => subject.equals(one.issuer) && publicKey.der.equals(one.by.der)))
    .map(({ issuer }) => `${printable(nameText(issuer), 200)}${now.crls.has(nameKey(issuer)) ? " (of one of its keys)" : ""}`);
}

interface End {
  /** The CA's name, as DER. */
  readonly issuer: Buffer;
  readonly by: PublicKey;
  /** The latest nextUpdate of what this key signed: one list that is up to date is enough. */
  readonly at: number;
}

function ends({ crls }: Lists): readonly End[] {
  return [...crls.values()].flatMap((named) => {
    const byKey = new Map<string, End>();
    for (const { issuer, by, nextUpdate } of named) {
      const key = by.der.toString("latin1");
      byKey.set(key, { issuer, by, at: Math.max(nextUpdate, byKey.get(key)?.at ?? nextUpdate) });
    }
    return [...byKey.values()];
  });
}
