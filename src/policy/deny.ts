/**
 * The deny-list of the config: clients, fingerprints and serials that are turned away as `revoked`, whatever rules and lists say.
 * Promises: pure. Leaves to others: when it is asked (the door, and the sweep over live connections).
 */
import type { Identity } from "../identity/identity.ts";
import { matchesClient, parseClientPattern, type ClientPattern } from "./pattern.ts";

export interface DenyList {
  readonly patterns: readonly ClientPattern[];
  /** Serials as certificate.ts writes them, to what was written. */
  readonly serials: ReadonlyMap<string, string>;
}

const serialText = /^serial:(?:[0-9A-Fa-f]{1,80}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){0,39})$/;

export function isSerial(text: string): boolean {
  return serialText.test(text);
}

/** Entries as written in `trust.deny`. Throws PipegateError `config` for what is no pattern. */
export function createDenyList(entries: readonly string[]): DenyList {
  const patterns: ClientPattern[] = [];
  const serials = new Map<string, string>();
  for (const entry of entries) {
    if (isSerial(entry)) serials.set(bareSerial(entry.slice("serial:".length)), entry);
    else patterns.push(parseClientPattern(entry));
  }
  return { patterns, serials };
}

/** Without colons and leading zeros, in whole bytes: openssl writes `0A:1B`, people leave zeros out. */
function bareSerial(hex: string): string {
  const digits = hex
    .replaceAll(":", "")
    .toLowerCase()
    .replace(/^0+(?=.)/, "");
  return digits.length % 2 === 0 ? digits : `0${digits}`;
}

/** The entry that turns this identity away, as it was written. */
export function denial({ patterns, serials }: DenyList, identity: Identity): string | undefined {
  return (
    serials.get(bareSerial(identity.serial)) ??
    patterns.find((pattern) => matchesClient(pattern, identity) || isTwin(pattern, identity))?.text
  );
}

/** Whoever is denied by a fingerprint could else come again under the other one of the same certificate. */
function isTwin(pattern: ClientPattern, { twin }: Identity): boolean {
  return pattern.kind === "sha256" && pattern.fingerprint === twin;
}
