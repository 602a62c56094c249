/**
 * Issues a certificate into files: NAME.pem, NAME-key.pem, for browsers NAME.p12. Promises: nothing is overwritten unbidden; the
 * ledger knows the certificate before anybody can have it, so that whatever was issued can be revoked.
 */
import { randomBytes } from "node:crypto";
import { basename, dirname, join, resolve, sep } from "node:path";
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";
import { openAuthority } from "./authority.ts";
import { exists, inTheWay, placeFile } from "./files.ts";
import type { KeyType } from "./keys.ts";
import { append } from "./ledger.ts";
import { type Names, nameTexts, type Role } from "./names.ts";

export interface IssueOptions {
  readonly names: Names;
  readonly role: Role;
  readonly keyType: KeyType;
  readonly lifeMs: number;
  /** Overwrites files of the same name. */
  readonly replace: boolean;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** A name in the CA's folder, or with a slash a path, without its ending. Default: after the first name. */
  readonly out?: string;
  /** Also writes a PKCS#12; the password is made when none is given. */
  readonly pkcs12?: { readonly password?: string };
}

export interface IssueResult {
  /** Paths. */
  readonly certificate: string;
  readonly key: string;
  readonly pkcs12: { readonly path: string; readonly password: string } | undefined;
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
  /** Whether the CA's own end cut the life short. */
  readonly cut: boolean;
}

/** Throws PipegateError `usage` or `config`. */
export async function issue(folder: string, options: IssueOptions): Promise<IssueResult> {
  const { names, role, keyType, lifeMs, replace, now } = options;
  const stem = stemOf(folder, options);
  const paths = { certificate: `${stem}.pem`, key: `${stem}-key.pem`, pkcs12: options.pkcs12 && `${stem}.p12` };
  const password = options.pkcs12 && checkPassword(options.pkcs12.password ?? randomBytes(15).toString("base64url"), keyType);
  for (const path of [paths.certificate, paths.key, paths.pkcs12]) {
    if (!replace && path !== undefined && (await exists(path))) throw inTheWay(path);
  }
  const authority = await openAuthority(folder, { now });
  const { mintLeaf } = await import("./mint.ts");
  const minted = await mintLeaf(authority, { names, role, keyType, lifeMs, now });
  const { certificate, key, serial, fingerprint, notBefore, notAfter } = minted;
  const file = resolve(dirname(stem)) === resolve(folder) ? basename(paths.certificate) : resolve(paths.certificate);
  const facts = { serial, role, names: nameTexts(names), key: keyType, notBefore, notAfter, fingerprint, file };
  await append(folder, { event: "issued", at: now, ca: authority.keyId, ...facts });
  await placeFile(paths.key, { content: key, secret: true, replace });
  await placeFile(paths.certificate, { content: certificate, secret: false, replace });
  if (paths.pkcs12 !== undefined && password !== undefined) {
    const { writePkcs12 } = await import("./pkcs12.ts");
    const content = writePkcs12({ certificate, key, password, label: nameTexts(names)[0]! });
    await placeFile(paths.pkcs12, { content, secret: true, replace });
  }
  return {
    certificate: paths.certificate,
    key: paths.key,
    pkcs12: paths.pkcs12 === undefined || password === undefined ? undefined : { path: paths.pkcs12, password },
    serial,
    notAfter,
    cut: notAfter < now + lifeMs - 1000,
  };
}

/** The path without its ending. */
function stemOf(folder: string, { out, names, role }: IssueOptions): string {
  const path = out?.replace(/\.(?:pem|crt|p12)$/u, "") ?? nameForFiles(names, role);
  const name = path.split(/[/\\]/u).at(-1)!;
  const reserved = /^(?:ca|crl)$/iu.test(name) || /-key$/iu.test(name);
  if (reserved || !/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/u.test(name) || path.includes("\0")) {
    const why = reserved ? "would stand where the CA keeps its own files, or look like a key" : "is no good name for files";
    throw new PipegateError("usage", `"${printable(name, 100)}" ${why}`, { next: "choose another with --out NAME" });
  }
  return path.includes("/") || path.includes(sep) ? path : join(folder, path);
}

function nameForFiles({ uri, dns, ip, cn }: Names, role: Role): string {
  const host = dns[0] ?? ip[0];
  const workload = uri?.split("/").at(-1);
  const name = (role === "gateway" ? host : undefined) ?? workload ?? host ?? cn ?? "";
  return name.replace(/[^A-Za-z0-9._-]+/gu, "-").replace(/^-+(?=.)/u, "");
}

function checkPassword(password: string, keyType: KeyType): string {
  if (keyType === "ed25519") {
    throw new PipegateError("usage", "browsers do not take Ed25519 keys", { next: "issue it with --key-type p256 or rsa2048" });
  }
  if (/^[\x20-\x7e]{8,128}$/u.test(password)) return password;
  throw new PipegateError("usage", "the PKCS#12 password is not 8 to 128 characters of printable ASCII", {
    next: "unset PIPEGATE_P12_PASSWORD to have one made",
  });
}
