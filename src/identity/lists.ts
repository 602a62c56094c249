/**
 * Files of revocation lists, believed or refused: DER or PEM, several lists in one, each signed by a CA that is trusted.
 * Promises: all in steps of a millisecond or so, up to the bound of a file; the same bytes are never read twice as long as what came of them
 * is handed in again: that such a list has ended since refuses its CA's clients, and keeps no other trust out. Leaves to others: what the lists say of whom (revocation.ts).
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { PipegateError } from "../base/error.ts";
import type { Steps } from "../base/steps.ts";
import { KeyUsage, type Certificate } from "./certificate.ts";
import { crlSteps, MAX_CRL, type Crl } from "./crl.ts";
import type { Anchor } from "./path.ts";
import { findSteps, onlyPemSteps } from "./pem.ts";
import { SKEW_MS } from "./refusal.ts";
import type { OnExpired, TrustedCrl } from "./revocation.ts";
import { signatureSteps } from "./signature.ts";

/** What a file held. */
export interface ListFile {
  /** SHA-256 of its bytes in hex. */
  readonly digest: string;
  readonly lists: readonly TrustedCrl[];
}

export interface ListsOptions {
  /** What the file is called in messages. */
  readonly label: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly anchors: readonly Anchor[];
  readonly onExpired: OnExpired;
  /** Files that were believed before, under whatever CAs. */
  readonly known: readonly ListFile[];
}

/** Throws a PipegateError (config) that begins with `label`. */
export function* listSteps(bytes: Uint8Array, options: ListsOptions): Steps<ListFile> {
  const { label, known } = options;
  if (bytes.length > MAX_CRL * 2) throw refuse(`${label} is larger than ${MAX_CRL * 2} bytes`, "name a revocation list");
  const digest = yield* digestSteps(bytes);
  const found = known.find((file) => file.digest === digest);
  if (found !== undefined) {
    for (const list of found.lists)
      if (!issuersOf(list, options).some(({ publicKey }) => publicKey.der.equals(list.by.der))) throw notSigned(label);
    return found;
  }
  const lists: TrustedCrl[] = [];
  for (const der of yield* blockSteps(bytes, label)) {
    const list = yield* believe(der, options);
    requireCurrent(list, options);
    lists.push(list);
  }
  return { digest, lists };
}

const PIECE = 256 << 10;

function* digestSteps(bytes: Uint8Array): Steps<string> {
  const hash = createHash("sha256");
  for (let at = 0; at < bytes.length; at += PIECE) {
    hash.update(bytes.subarray(at, at + PIECE));
    yield;
  }
  return hash.digest("hex");
}

function* blockSteps(bytes: Uint8Array, label: string): Steps<readonly Buffer[]> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // A SEQUENCE of that size begins with two bytes that no text has; before the first block of PEM there may be any text.
  const binary = (buffer[0] === 0x30 && (buffer[1] ?? 0) >= 0x80) || (yield* findSteps(buffer, "-----BEGIN", 0)) < 0;
  const blocks = binary ? [buffer] : yield* onlyPemSteps(buffer, "X509 CRL");
  if (blocks === undefined)
    throw refuse(`${label} holds what is no whole revocation list`, "write it anew, with nothing but lists: pipegate ca crl makes one");
  if (blocks.length === 0) throw refuse(`${label} holds no revocation list`, "make one: pipegate ca crl");
  return blocks;
}

/** What a CA that is trusted has signed. Keeps none of the bytes. */
function* believe(der: Buffer, options: ListsOptions): Steps<TrustedCrl> {
  const { label } = options;
  let list: Crl;
  try {
    list = yield* crlSteps(der);
  } catch (error) {
    throw refuse(`${label} holds a revocation list that cannot be read: ${(error as Error).message}`, "make it again: pipegate ca crl");
  }
  const { signed, ...facts } = list;
  for (const { publicKey } of issuersOf(list, options)) {
    if (yield* signatureSteps(signed, publicKey)) return { ...facts, issuer: Buffer.from(list.issuer), by: publicKey };
  }
  throw notSigned(label);
}

function issuersOf({ issuer }: Pick<Crl, "issuer">, { label, anchors }: ListsOptions): readonly Certificate[] {
  const issuers = anchors
    .map(({ certificate }) => certificate)
    .filter((certificate) => certificate.subject.equals(issuer) && maySignCrls(certificate));
  if (issuers.length > 0) return issuers;
  throw refuse(`${label} holds a revocation list of a CA that trust.ca does not name`, "add that CA, or remove the list");
}

function maySignCrls({ keyUsage }: Certificate): boolean {
  return keyUsage === undefined || (keyUsage & KeyUsage.CRL_SIGN) !== 0;
}

function requireCurrent({ thisUpdate, nextUpdate }: TrustedCrl, { label, now, onExpired }: ListsOptions): void {
  if (now > nextUpdate && onExpired === "refuse")
    throw refuse(`${label}: the revocation list went out of date on ${day(nextUpdate)}`, "make a new one: pipegate ca crl");
  if (thisUpdate > now + SKEW_MS) throw refuse(`${label}: the revocation list is of the future, ${day(thisUpdate)}`, "check the clock");
}

function notSigned(label: string): PipegateError {
  return refuse(`${label} holds a revocation list whose signature is not its CA's`, "make it again: pipegate ca crl");
}

function refuse(what: string, next: string): PipegateError {
  return new PipegateError("config", what, { next });
}

function day(at: number): string {
  return new Date(at).toISOString();
}
