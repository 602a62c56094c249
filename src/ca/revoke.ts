/**
 * Takes certificates back, and writes the list that says so. The list is a function of the ledger: its number counts the `listed`
 * lines, its entries are the revocations above the last of them. So writers need no lock: whoever puts a list in its place looks again,
 * and writes the newer one if there is one by now. Promises: a list never lacks a revocation that its number covers.
 */
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";
import { parseCertificate } from "../identity/certificate.ts";
import { openAuthority, readAuthorityCertificate } from "./authority.ts";
import { placeFile, readIfThere } from "./files.ts";
import { append, type Entry, readLedger, revocations, type Revoked, type Standing, standings } from "./ledger.ts";
import type { RevocationReason } from "./reasons.ts";

export const listName = "crl.pem";

export interface RevokeOptions {
  /** Each a serial, a name in a certificate, the name of its files, or a certificate's file. */
  readonly what: readonly string[];
  readonly reason: RevocationReason;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface Found {
  readonly serial: string;
  /** Empty for a certificate that the ledger does not know. */
  readonly names: readonly string[];
  /** Undefined: not revoked before. */
  readonly earlier: Revoked | undefined;
}

/** Every certificate that was meant, newly revoked or before. Throws PipegateError, having revoked nothing, when one is not found. */
export async function revoke(folder: string, { what, reason, now }: RevokeOptions): Promise<Found[]> {
  const authority = await readAuthorityCertificate(folder);
  const ca = authority.parsed.subjectKeyId!;
  const entries = await readLedger(folder, { ca });
  const found = new Map<string, Found>();
  for (const word of what) {
    for (const one of await find(word, { folder, entries, authority: authority.x509, now })) found.set(one.serial, one);
  }
  for (const { serial, earlier } of found.values()) {
    if (earlier === undefined) await append(folder, { event: "revoked", at: now, ca, serial, reason });
  }
  return [...found.values()];
}

interface Place {
  readonly folder: string;
  readonly entries: readonly Entry[];
  readonly authority: X509Certificate;
  readonly now: number;
}

async function find(word: string, { folder, entries, authority, now }: Place): Promise<Found[]> {
  const known = standings(entries);
  const summary = ({ serial, names, revoked }: Standing): Found => ({ serial, names, earlier: revoked });
  const serial = word.replaceAll(":", "").toLowerCase();
  const bySerial = known.filter((one) => one.serial === serial);
  if (bySerial.length > 0) return bySerial.map(summary);
  // A name means what it stands for today: all of its certificates that are still good for something.
  const byName = known.filter((one) => one.names.includes(word) || one.file === `${word}.pem`);
  const live = byName.filter((one) => one.revoked === undefined && one.notAfter > now);
  if (live.length > 0) return live.map(summary);
  const text = (await readIfThere(word)) ?? (/[/\\]/u.test(word) ? undefined : await readIfThere(join(folder, word)));
  if (text !== undefined) return [byFile(word, text, { known, entries, authority })];
  if (byName.length > 0) return byName.slice(-1).map(summary);
  throw new PipegateError("usage", `nothing that this CA issued is called "${printable(word, 200)}"`, {
    next: "see pipegate ca list, or name the certificate's file",
  });
}

interface FilePlace extends Pick<Place, "entries" | "authority"> {
  readonly known: readonly Standing[];
}

/** Also one that the ledger has never seen, if the CA did sign it. */
function byFile(path: string, text: string, { known, entries, authority }: FilePlace): Found {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(text);
  } catch (cause) {
    throw new PipegateError("usage", `${path} holds no certificate that can be read`, {
      next: "name the certificate's file, not its key's",
      cause,
    });
  }
  if (certificate.fingerprint256 === authority.fingerprint256) {
    throw new PipegateError("usage", `${path} is the CA itself`, {
      next: "take it out of every trust.ca, and make a new one: pipegate ca init --force",
    });
  }
  if (!certificate.verify(authority.publicKey)) {
    throw new PipegateError("usage", `${path} was not issued by this CA`, { next: "name the folder of the CA that issued it with --dir" });
  }
  const { serial } = parseCertificate(Buffer.from(certificate.raw));
  return { serial, names: known.find((one) => one.serial === serial)?.names ?? [], earlier: revocations(entries).get(serial) };
}

export interface List {
  readonly path: string;
  readonly number: number;
  readonly revoked: number;
  /** Milliseconds since the epoch. */
  readonly nextUpdate: number;
}

/** Writes `crl.pem`. `lifeMs`: until the next one must be there; gateways refuse an older one. Throws PipegateError `config`. */
export async function writeList(folder: string, { now, lifeMs }: { readonly now: number; readonly lifeMs: number }): Promise<List> {
  const authority = await openAuthority(folder, { now });
  const { mintList } = await import("./mint.ts");
  const ca = authority.keyId;
  const path = join(folder, listName);
  await append(folder, { event: "listed", at: now, ca, nextUpdate: Math.min(now + lifeMs, authority.notAfter) });
  for (;;) {
    const { number, thisUpdate, nextUpdate, revoked } = latest(await readLedger(folder, { ca }));
    const entries = [...revoked.values()].map(({ serial, at, reason }) => ({ serial, at, reason }));
    const content = await mintList(authority, { revoked: entries, number, thisUpdate, nextUpdate });
    await placeFile(path, { content, secret: false, replace: true });
    if (latest(await readLedger(folder, { ca })).number === number) return { path, number, revoked: revoked.size, nextUpdate };
  }
}

function latest(entries: readonly Entry[]): { number: number; thisUpdate: number; nextUpdate: number; revoked: Map<string, Revoked> } {
  const last = entries.findLastIndex(({ event }) => event === "listed");
  const line = entries[last];
  if (line?.event !== "listed") throw new Error("the ledger lost a line that was just written");
  const number = entries.filter(({ event }) => event === "listed").length;
  return { number, thisUpdate: line.at, nextUpdate: line.nextUpdate, revoked: revocations(entries.slice(0, last)) };
}
