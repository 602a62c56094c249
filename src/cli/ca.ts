/**
 * `pipegate ca init|issue|revoke|crl|list`: a small CA in a folder. Says on stderr what was made, where it lies and what to do next;
 * stdout has what was asked for: the list, and the password of a PKCS#12. Leaves to others: all of the work (src/ca).
 */
import { join } from "node:path";
import { Command, Option } from "commander";
import { printable } from "../base/text.ts";
import { authorityPaths, initAuthority, readAuthorityCertificate } from "../ca/authority.ts";
import { exists } from "../ca/files.ts";
import { issue, type IssueResult } from "../ca/issue.ts";
import { type KeyType, keyTypes, parseKeyType } from "../ca/keys.ts";
import { readLedger, type Standing, standings } from "../ca/ledger.ts";
import { life, parseLife } from "../ca/life.ts";
import { nameTexts, parseCommonName, parseNames, parseRole, type Role, roles } from "../ca/names.ts";
import { parseReason, type RevocationReason } from "../ca/reasons.ts";
import { type List, listName, revoke, writeList } from "../ca/revoke.ts";
import { answer, say, styled } from "./terminal.ts";
import { columns } from "./columns.ts";

const examples = `Examples:
  pipegate ca init                                           a CA in certs/
  pipegate ca issue --role gateway --out gateway gw.example 10.0.0.7   a gateway's, for 90 days
  pipegate ca issue spiffe://dev/agent/alice                 a client's certificate, for 24 hours
  pipegate ca issue --ttl 30d dns:build-7.ci.example         another kind of name, a longer life
  pipegate ca issue --p12 spiffe://dev/agent/alice           for a browser, too; prints the password
  pipegate ca list                                           what it has issued
  pipegate ca revoke spiffe://dev/agent/alice                takes it back and writes certs/${listName}
`;

const inFolder = ["--dir <folder>", "where the CA lies", "certs"] as const;

export function caCommand(): Command {
  const ca = new Command("ca").description("a small CA for development and small fleets").addHelpText("before", examples);
  ca.addCommand(initCommand());
  ca.addCommand(issueCommand());
  ca.addCommand(revokeCommand());
  ca.addCommand(listWriterCommand());
  ca.addCommand(listCommand());
  return ca;
}

function initCommand(): Command {
  return new Command("init")
    .description("makes the CA; one that is there already is kept")
    .addHelpText(
      "before",
      'Examples:\n  pipegate ca init\n  pipegate ca init --dir /etc/pipegate/ca --name "Example fleet CA" --ttl 1825d\n',
    )
    .option(...inFolder)
    .option("--name <text>", "its common name (default: pipegate CA and some digits)", parseCommonName)
    .option("--key-type <type>", `one of ${keyTypes.join(", ")}`, parseKeyType, "p256")
    .addOption(ttl("how long it lasts", { text: "3650d", longest: life.authority }))
    .option("--force", "replace the CA that is there; what it issued is trusted no more")
    .action(runInit);
}

interface InitFlags {
  readonly dir: string;
  readonly name?: string;
  readonly keyType: KeyType;
  readonly ttl: number;
  readonly force?: boolean;
}

async function runInit({ dir, name, keyType, ttl, force }: InitFlags): Promise<void> {
  const now = Date.now();
  const options = { keyType, lifeMs: ttl, replace: force === true, now };
  const made = await initAuthority(dir, name === undefined ? options : { ...options, name });
  if (made.outcome === "kept") {
    say(`The CA in ${dir} is kept as it is; it lasts until ${timeText(made.notAfter)}. (--force makes a new one.)`);
  } else {
    say(
      `${made.outcome === "completed" ? "The CA's key was there and now has its certificate" : styled("bold", "Made a CA")}, good until ${timeText(made.notAfter)}:`,
    );
    sayFiles([
      [made.certificate, "for everyone: trust.ca of gateways, --ca of clients"],
      [made.key, "for nobody else: whoever has it can pose as anyone"],
    ]);
    if (made.outcome === "replaced") say("Whatever the CA before it issued is trusted no more: issue it again.");
    // A list of the old CA would keep gateways from starting.
    if (made.outcome === "replaced" && (await exists(join(dir, listName)))) sayList(await writeList(dir, { now, lifeMs: life.list }));
  }
  const at = dir === "certs" ? "" : ` --dir ${dir}`;
  say(`Next: pipegate ca issue${at} --role gateway --out gateway HOST, and for each client pipegate ca issue${at} spiffe://dev/agent/NAME`);
}

function issueCommand(): Command {
  return new Command("issue")
    .description("issues a certificate with a new key")
    .addHelpText("before", examples)
    .addHelpText(
      "after",
      "\nNames are spelt as in rules: spiffe://domain/path, dns:NAME, cn:NAME; gateways also take ip:ADDRESS, bare hosts and addresses.",
    )
    .argument("<names...>", "who it is for; the first one names the files")
    .option(...inFolder)
    .option("--role <role>", `one of ${roles.join(", ")}`, parseRole, "client")
    .addOption(ttl("how long it lasts, such as 24h or 30d (default: 24h, for a gateway 90d)"))
    .option("--key-type <type>", `one of ${keyTypes.join(", ")}`, parseKeyType, "p256")
    .option("--out <name>", "another name for the files, or a path without its ending")
    .option("--p12", "also a PKCS#12 for browsers; its password (or PIPEGATE_P12_PASSWORD) goes to stdout")
    .option("--force", "replace files of the same name")
    .action(runIssue);
}

interface IssueFlags {
  readonly dir: string;
  readonly role: Role;
  readonly ttl?: number;
  readonly keyType: KeyType;
  readonly out?: string;
  readonly p12?: boolean;
  readonly force?: boolean;
}

async function runIssue(words: readonly string[], { dir, role, ttl, keyType, out, p12, force }: IssueFlags): Promise<void> {
  const names = parseNames(words, { role });
  const password = p12 ? p12Password() : undefined;
  const made = await issue(dir, {
    names,
    role,
    keyType,
    lifeMs: ttl ?? (role === "gateway" ? life.gatewayCertificate : life.certificate),
    replace: force === true,
    now: Date.now(),
    ...(out === undefined ? {} : { out }),
    ...(p12 ? { pkcs12: password === undefined ? {} : { password } } : {}),
  });
  const until = `${timeText(made.notAfter)}${made.cut ? ", when its CA ends" : ""}`;
  say(`${styled("bold", `Made a certificate for the ${role} ${nameTexts(names).join(", ")}`)}, good until ${until}:`);
  sayFiles([
    [made.certificate, `the certificate, serial ${made.serial}`],
    [made.key, "its key, which stays where it is used"],
    ...(made.pkcs12 ? [[made.pkcs12.path, "both for a browser; the password is on stdout"] as const] : []),
  ]);
  say(nextStep(made, { dir, role }));
  if (made.pkcs12) answer(made.pkcs12.password);
}

function nextStep({ certificate, key }: IssueResult, { dir, role }: { readonly dir: string; readonly role: Role }): string {
  if (role === "gateway") return `Next: in pipegate.yaml, identity: { certificate: ${certificate}, key: ${key} }`;
  const ca = authorityPaths(dir).certificate;
  return `Next: pipegate pipe --gateway HOST:PORT --cert ${certificate} --key ${key} --ca ${ca} TARGET`;
}

function p12Password(): string | undefined {
  try {
    return process.env["PIPEGATE_P12_PASSWORD"] || undefined;
  } catch {
    return undefined; // Deno without the permission to read it
  }
}

function listTtl(): Option {
  return ttl("gateways refuse the list when it is older: write a new one before", { text: "30d" });
}

/** `text`: the default; without it there is none. */
function ttl(
  description: string,
  { text, longest = life.longestCertificate }: { readonly text?: string; readonly longest?: number } = {},
): Option {
  const parse = (given: string): number => parseLife(given, { longest });
  const option = new Option("--ttl <time>", description).argParser(parse);
  return text === undefined ? option : option.default(parse(text), text);
}

function revokeCommand(): Command {
  return new Command("revoke")
    .description("takes certificates back and writes the revocation list")
    .addHelpText(
      "before",
      "Examples:\n  pipegate ca revoke spiffe://dev/agent/alice         all that stand for that name\n  pipegate ca revoke --reason key-compromise certs/alice.pem\n",
    )
    .argument("<what...>", "a name in the certificate, the name of its files, its serial, or its file")
    .option(...inFolder)
    .option(
      "--reason <reason>",
      "unspecified, key-compromise, affiliation-changed, superseded, cessation-of-operation",
      parseReason,
      "unspecified",
    )
    .addOption(listTtl())
    .action(runRevoke);
}

interface RevokeFlags {
  readonly dir: string;
  readonly reason: RevocationReason;
  readonly ttl: number;
}

async function runRevoke(what: readonly string[], { dir, reason, ttl }: RevokeFlags): Promise<void> {
  for (const { serial, names, earlier } of await revoke(dir, { what, reason, now: Date.now() })) {
    const name = `${names.join(", ") || "a certificate"}, serial ${serial}`;
    say(earlier ? `Revoked since ${timeText(earlier.at)}: ${name}` : styled("bold", `Revoked ${name}`));
  }
  sayList(await writeList(dir, { now: Date.now(), lifeMs: ttl }));
}

function listWriterCommand(): Command {
  return new Command("crl")
    .description("writes the revocation list anew")
    .addHelpText("before", "Examples:\n  pipegate ca crl              certs/crl.pem, good for 30 days\n  pipegate ca crl --ttl 7d\n")
    .option(...inFolder)
    .addOption(listTtl())
    .action(async ({ dir, ttl }: { readonly dir: string; readonly ttl: number }) => {
      sayList(await writeList(dir, { now: Date.now(), lifeMs: ttl }));
    });
}

function sayList({ path, number, revoked, nextUpdate }: List): void {
  say(`Wrote revocation list ${number} with ${revoked} ${revoked === 1 ? "entry" : "entries"}:`);
  sayFiles([[path, `good until ${timeText(nextUpdate)}; pipegate ca crl renews it`]]);
  say(`Next: put it where trust.crl of each gateway points: it is in force within seconds. Not there yet? trust: { crl: [${path}] }`);
}

function listCommand(): Command {
  return new Command("list")
    .description("what the CA has issued, and what became of it")
    .addHelpText("before", "Examples:\n  pipegate ca list\n  pipegate ca list --json | jq '.[] | select(.state == \"good\") | .names[0]'\n")
    .option(...inFolder)
    .option("--json", "as JSON")
    .action(runList);
}

async function runList({ dir, json }: { readonly dir: string; readonly json?: boolean }): Promise<void> {
  const { parsed } = await readAuthorityCertificate(dir);
  const now = Date.now();
  const rows = standings(await readLedger(dir, { ca: parsed.subjectKeyId! })).map((one) => ({ one, state: stateOf(one, now) }));
  if (json)
    return answer(
      JSON.stringify(
        rows.map(({ one, state }) => jsonOf(one, state)),
        undefined,
        2,
      ),
    );
  if (rows.length === 0) return say(`The CA in ${dir} has issued nothing yet. Next: pipegate ca issue spiffe://dev/agent/NAME`);
  const cells = rows.map(({ one, state }) => [
    printable(one.names.join(", "), 80),
    one.role,
    state,
    timeText(one.notAfter),
    one.serial,
    one.file,
  ]);
  for (const line of columns([["NAMES", "ROLE", "STATE", "UNTIL", "SERIAL", "FILE"], ...cells])) answer(line);
}

type State = "good" | "expired" | "revoked";

function stateOf({ revoked, notAfter }: Standing, now: number): State {
  return revoked ? "revoked" : notAfter <= now ? "expired" : "good";
}

function jsonOf({ serial, names, role, key, notBefore, notAfter, fingerprint, file, revoked }: Standing, state: State): object {
  const iso = (at: number): string => new Date(at).toISOString();
  const end = revoked ? { revokedAt: iso(revoked.at), reason: revoked.reason } : {};
  return { serial, names, role, state, key, notBefore: iso(notBefore), notAfter: iso(notAfter), fingerprint, file, ...end };
}

/** `2026-11-22 06:07 UTC` */
function timeText(at: number): string {
  return `${new Date(at).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function sayFiles(files: readonly (readonly [path: string, what: string])[]): void {
  for (const line of columns(files.map(([path, what]) => [printable(path, 4096), what]))) say(`  ${line}`);
}
