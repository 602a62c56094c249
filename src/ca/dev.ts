/**
 * What `pipegate demo` and `scripts/mint.ts` need in a folder: a CA, a gateway on this machine, a client that the rules know and one that
 * none knows. Promises: only what is missing, expired, or of an earlier CA is made; what somebody put there otherwise is kept, or
 * refused when it will not do. A second at the most; 10 ms when everything is there.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { join } from "node:path";
import { PipegateError } from "../base/error.ts";
import { type Certificate, fingerprintOf, parseCertificate } from "../identity/certificate.ts";
import { authorityPaths, initAuthority, readAuthorityCertificate } from "./authority.ts";
import { exists, readIfThere } from "./files.ts";
import { issue } from "./issue.ts";
import { readLedger, standings } from "./ledger.ts";
import { life } from "./life.ts";
import { parseNames, type Role } from "./names.ts";
import { listName, writeList } from "./revoke.ts";

/** Paths of PEM files. */
export interface CertificatePaths {
  readonly certificate: string;
  readonly key: string;
}

export interface DevCertificates {
  readonly ca: CertificatePaths;
  /** For localhost, 127.0.0.1 and ::1. */
  readonly gateway: CertificatePaths;
  /** `spiffe://dev/agent/alice` */
  readonly client: CertificatePaths;
  /** `spiffe://dev/stranger`, whom no rule of the demo knows. */
  readonly stranger: CertificatePaths;
  /** Files of certificates that were made now, in that order. */
  readonly made: readonly string[];
}

interface Wanted {
  readonly file: string;
  readonly role: Role;
  readonly names: readonly string[];
}

const wanted = {
  gateway: { file: "gateway", role: "gateway", names: ["localhost", "127.0.0.1", "::1"] },
  client: { file: "client", role: "client", names: ["spiffe://dev/agent/alice"] },
  stranger: { file: "stranger", role: "client", names: ["spiffe://dev/stranger"] },
} as const satisfies Record<string, Wanted>;

const lifeMs = 30 * life.certificate;
/** What ends so soon is made anew. */
const marginMs = 3_600_000;

/** Throws PipegateError `config`. `now`: milliseconds since the epoch. */
export async function devCertificates(folder: string, { now = Date.now() }: { readonly now?: number } = {}): Promise<DevCertificates> {
  const made: string[] = [];
  const ca = authorityPaths(folder);
  await ensureAuthority(folder, { now, made });
  const authority = (await readAuthorityCertificate(folder)).x509;
  const each = async (one: Wanted): Promise<CertificatePaths> => {
    const paths = { certificate: join(folder, `${one.file}.pem`), key: join(folder, `${one.file}-key.pem`) };
    const state = await judge(folder, paths, { one, authority, now });
    if (state !== "good") {
      const names = parseNames(one.names, { role: one.role });
      await issue(folder, { names, role: one.role, keyType: "p256", lifeMs, replace: state === "stale", now, out: one.file });
      made.push(paths.certificate);
    }
    return paths;
  };
  const [gateway, client, stranger] = [await each(wanted.gateway), await each(wanted.client), await each(wanted.stranger)];
  return { ca, gateway, client, stranger, made };
}

async function ensureAuthority(folder: string, { now, made }: { readonly now: number; readonly made: string[] }): Promise<void> {
  const paths = authorityPaths(folder);
  if ((await exists(paths.certificate)) && (await exists(paths.key))) {
    const { notAfter } = (await readAuthorityCertificate(folder)).parsed;
    if (notAfter > now + marginMs) return;
    await initAuthority(folder, { keyType: "p256", lifeMs: life.authority, replace: true, now });
    if (await exists(join(folder, listName))) await writeList(folder, { now, lifeMs: life.list }); // the old CA's is no use any more
  } else await initAuthority(folder, { keyType: "p256", lifeMs: life.authority, replace: false, now });
  made.push(paths.certificate);
}

interface Case {
  readonly one: Wanted;
  readonly authority: X509Certificate;
  readonly now: number;
}

/** `stale`: made here and no good any more. What was not made here is not ours to replace. */
async function judge(folder: string, paths: CertificatePaths, { one, authority, now }: Case): Promise<"good" | "missing" | "stale"> {
  const [text, key] = [await readIfThere(paths.certificate), await readIfThere(paths.key)];
  if (text === undefined && key === undefined) return "missing";
  const ours = standings(await readLedger(folder)).filter(
    ({ file, names }) => file === `${one.file}.pem` && names.some(isName(one.names[0]!)),
  );
  // A maker that was killed leaves a key alone.
  if (text === undefined || key === undefined) return ours.length > 0 ? "stale" : strange(paths, "or its key is missing");
  const { x509, parsed, fits } = readPair(paths, { text, key });
  if (!parsed.names.some(({ bytes }) => bytes.toString("latin1") === one.names[0])) strange(paths, `does not name ${one.names[0]}`);
  if (fits && parsed.notAfter > now + marginMs && x509.verify(authority.publicKey)) return "good";
  return ours.some(({ fingerprint }) => fingerprint === fingerprintOf(x509.raw))
    ? "stale"
    : strange(paths, "is not from this CA, or expired");
}

/** Matches a name as the ledger spells it. */
function isName(name: string): (text: string) => boolean {
  return (text) => text === name || text === `dns:${name}`;
}

interface Pair {
  readonly x509: X509Certificate;
  readonly parsed: Certificate;
  /** Whether the key is the certificate's. */
  readonly fits: boolean;
}

function readPair(paths: CertificatePaths, { text, key }: { readonly text: string; readonly key: string }): Pair {
  try {
    const x509 = new X509Certificate(text);
    return { x509, parsed: parseCertificate(Buffer.from(x509.raw)), fits: x509.checkPrivateKey(createPrivateKey(key)) };
  } catch (cause) {
    return strange(paths, "or its key cannot be read", cause);
  }
}

function strange({ certificate }: CertificatePaths, what: string, cause?: unknown): never {
  throw new PipegateError("config", `${certificate} ${what}`, {
    next: "it was not made for this: move it and its key away, or use another folder",
    cause,
  });
}
