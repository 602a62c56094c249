/**
 * The CA in a folder: `ca.pem` for everyone, `ca-key.pem` for its owner. Makes it, keeps what is there, opens it for signing.
 * Promises: a CA is never replaced unbidden; several that make one at once end with the same one; a maker killed halfway leaves
 * something that the next one completes.
 */
import { X509Certificate } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { PipegateError } from "../base/error.ts";
import { type Certificate, parseCertificate } from "../identity/certificate.ts";
import { exists, placeFile, readIfThere, refuseOpenKey } from "./files.ts";
import type { KeyType } from "./keys.ts";
import type { Authority } from "./mint.ts";

export interface AuthorityPaths {
  readonly certificate: string;
  readonly key: string;
}

export function authorityPaths(folder: string): AuthorityPaths {
  return { certificate: join(folder, "ca.pem"), key: join(folder, "ca-key.pem") };
}

export interface InitOptions {
  /** The common name. Default: `pipegate CA` and some digits of its key. */
  readonly name?: string;
  readonly keyType: KeyType;
  readonly lifeMs: number;
  /** Replaces the CA that is there: whatever that one issued is trusted no more. */
  readonly replace: boolean;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface Init extends AuthorityPaths {
  /** kept: there was one, untouched. completed: there was a key, which now has its certificate. */
  readonly outcome: "made" | "kept" | "completed" | "replaced";
  readonly notAfter: number;
}

/** Throws PipegateError `config`. */
export async function initAuthority(folder: string, options: InitOptions): Promise<Init> {
  const paths = authorityPaths(folder);
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new PipegateError("config", `the folder ${folder} cannot be made`, { next: "choose another with --dir", cause });
  }
  const has = { certificate: await exists(paths.certificate), key: await exists(paths.key) };
  const found = has.certificate || has.key;
  let outcome: Init["outcome"] = found ? "replaced" : "made";
  if (found && !options.replace) {
    if (has.certificate && !has.key) {
      throw new PipegateError("config", `${paths.key} is missing, so this CA can sign nothing`, {
        next: "restore it from a copy, or make a new CA with pipegate ca init --force",
      });
    }
    outcome = has.certificate ? "kept" : "completed";
  }
  if (outcome === "made" || outcome === "replaced") outcome = await makeKey(paths.key, { ...options, outcome });
  if (outcome !== "kept") await certify(paths, options);
  return { ...paths, outcome, notAfter: (await openAuthority(folder, { now: options.now })).notAfter };
}

/** Whoever puts the key first makes the CA; the others complete it. */
async function makeKey(
  path: string,
  { keyType, outcome }: InitOptions & { readonly outcome: "made" | "replaced" },
): Promise<Init["outcome"]> {
  const { generateKeyPair, keyPem } = await import("./keys.ts");
  try {
    await placeFile(path, { content: await keyPem(await generateKeyPair(keyType)), secret: true, replace: outcome === "replaced" });
    return outcome;
  } catch (error) {
    if (outcome === "made" && (await exists(path))) return "completed";
    throw error;
  }
}

async function certify(paths: AuthorityPaths, { name, lifeMs, replace, now }: InitOptions): Promise<void> {
  const [{ mintAuthority }, { readKeyPair }] = await Promise.all([import("./mint.ts"), import("./keys.ts")]);
  await refuseOpenKey(paths.key);
  const keys = await readKeyPair((await readIfThere(paths.key)) ?? "", { path: paths.key });
  const content = await mintAuthority({ keys, lifeMs, now, ...(name === undefined ? {} : { name }) });
  try {
    await placeFile(paths.certificate, { content, secret: false, replace });
  } catch (error) {
    if (replace || !(await exists(paths.certificate))) throw error; // another one was faster, with the same key
  }
}

/** Ready to sign. Throws PipegateError `config` when it is missing, incomplete, expired, or its key is open to others. */
export async function openAuthority(folder: string, { now }: { readonly now: number }): Promise<Authority> {
  const paths = authorityPaths(folder);
  const { text, parsed } = await readAuthorityCertificate(folder);
  if (parsed.notAfter <= now) {
    throw new PipegateError("config", `${paths.certificate}: the CA expired on ${new Date(parsed.notAfter).toISOString()}`, {
      next: "make a new one with pipegate ca init --force, and issue everything again",
    });
  }
  const key = await readIfThere(paths.key);
  if (key === undefined) {
    throw new PipegateError("config", `${paths.key} is missing, so this CA can sign nothing`, {
      next: "sign where its key lies, or restore it from a copy",
    });
  }
  await refuseOpenKey(paths.key);
  const { readAuthority } = await import("./mint.ts");
  return readAuthority(text, key, { path: paths.key });
}

/** The CA's own certificate, without its key. Throws PipegateError `config`. */
export async function readAuthorityCertificate(
  folder: string,
): Promise<{ readonly text: string; readonly parsed: Certificate; readonly x509: X509Certificate }> {
  const path = authorityPaths(folder).certificate;
  const text = await readIfThere(path);
  if (text === undefined) {
    throw new PipegateError("config", `there is no CA in ${folder}`, {
      next: "make one with pipegate ca init, or name its folder with --dir",
    });
  }
  try {
    const x509 = new X509Certificate(text);
    const parsed = parseCertificate(Buffer.from(x509.raw));
    if (parsed.ca && parsed.subjectKeyId !== undefined) return { text, parsed, x509 };
  } catch (cause) {
    throw new PipegateError("config", `${path} holds no certificate that can be read`, { next: "restore it from a copy", cause });
  }
  throw new PipegateError("config", `${path} is not the certificate of a CA with a key identifier`, {
    next: "put the CA's certificate there",
  });
}
