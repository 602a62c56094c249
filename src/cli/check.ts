/** `pipegate check`: the whole config and every file that it names, judged as the gateway would, and what it says in a few lines. */
import { Command } from "commander";
import { addressText } from "../base/address.ts";
import { ConfigError, loadConfig, type LoadedConfig } from "../config/load.ts";
import { pathText } from "../config/problem.ts";
import { nameText } from "../identity/certificate.ts";
import type { TargetOptions } from "../target/target.ts";
import { checkCredentials } from "../tls/credentials.ts";
import { answer, complain, styled } from "./terminal.ts";
import { printable } from "../base/text.ts";

interface CheckFlags {
  readonly config: string;
  readonly json?: boolean;
}

const examples = `Examples:
  pipegate check                         pipegate.yaml of this folder
  pipegate check -c /etc/pipegate.yaml
  pipegate check --json                  for editors and pipelines

Exit status: 0 the gateway would take it (warnings included), 2 it would not.
`;

export function checkCommand(): Command {
  return new Command("check")
    .description("the whole config and every file it names, with line and column")
    .addHelpText("before", examples)
    .option("-c, --config <file>", "the config", "pipegate.yaml")
    .option("--json", "the answer as JSON")
    .action(runCheck);
}

async function runCheck({ config: file, json = false }: CheckFlags): Promise<void> {
  let config: LoadedConfig;
  try {
    config = await loadConfig(file);
  } catch (error) {
    if (json && error instanceof ConfigError) answer(JSON.stringify(refusalOf(file, error), undefined, 2));
    throw error;
  }
  const summary = summarize(config, Date.now());
  if (json) return answer(JSON.stringify(summary, undefined, 2));
  for (const warning of config.warnings) complain(`${styled("yellow", "warning:")} ${warning}`);
  for (const line of summaryLines(summary)) answer(printable(line, 4096));
}

function refusalOf(file: string, { problems }: ConfigError): unknown {
  const listed = problems.map(({ place, path, says }) => ({
    line: place?.line,
    column: place?.column,
    path: pathText(path),
    problem: says,
  }));
  return { file, ok: false, problems: listed };
}

interface Summary {
  readonly file: string;
  readonly ok: true;
  readonly files: readonly string[];
  readonly listeners: readonly {
    readonly listen: string;
    readonly target?: string;
    readonly serverNames: Readonly<Record<string, string>>;
    readonly alpn: readonly string[];
  }[];
  /** Until when our certificate holds, ISO. */
  readonly certificateExpires: string;
  readonly trust: { readonly authorities: readonly string[]; readonly revocationLists: number; readonly revoked: number };
  readonly targets: Readonly<Record<string, string>>;
  readonly rules: number;
  readonly admin: string | undefined;
  readonly workers: number;
  readonly warnings: readonly string[];
}

function summarize(config: LoadedConfig, now: number): Summary {
  const trust = config.trust.built;
  const lists = [...trust.crls.values()].flat();
  return {
    file: config.file,
    ok: true,
    files: config.files,
    listeners: config.listeners.map(({ listen, target, serverNames, alpn }) => ({
      listen: addressText(listen),
      ...(target === undefined ? {} : { target }),
      serverNames: Object.fromEntries(serverNames),
      alpn,
    })),
    certificateExpires: new Date(checkCredentials(config.credentials, { role: "gateway", now }).notAfter ?? 0).toISOString(),
    trust: {
      authorities: trust.anchors.map(({ certificate }) => printable(nameText(certificate.subject), 200)),
      revocationLists: lists.length,
      revoked: lists.reduce((sum, { revoked }) => sum + revoked.size, 0),
    },
    targets: Object.fromEntries([...config.targets].map(([name, target]) => [name, targetText(target)])),
    rules: config.rules.length,
    admin: config.admin?.listen,
    workers: config.workers,
    warnings: config.warnings,
  };
}

function targetText(target: TargetOptions): string {
  switch (target.kind) {
    case "builtin":
      return `builtin ${target.builtin}`;
    case "unix":
      return `unix ${target.path}`;
    default:
      return `${target.kind} ${target.addresses.map(addressText).join(", ")}`;
  }
}

function summaryLines(summary: Summary): string[] {
  const { trust } = summary;
  const lines: [string, string][] = [];
  const add = (what: string, texts: readonly string[]): void => {
    for (const [index, text] of texts.entries()) lines.push([index === 0 ? what : "", text]);
  };
  add(
    "listens on",
    summary.listeners.map(({ listen, target, serverNames }) => {
      const raw = [
        ...Object.entries(serverNames).map(([name, wanted]) => `${wanted} as ${name}`),
        ...(target === undefined ? [] : [target]),
      ];
      return `${listen} for pipegate/1${raw.length === 0 ? "" : `, and raw clients of ${raw.join(", ")}`}`;
    }),
  );
  add("shows", [`a certificate that holds until ${summary.certificateExpires}`]);
  add("trusts", trust.authorities);
  add(
    "refuses",
    trust.revocationLists === 0 ? [] : [`${count(trust.revoked, "revoked certificate")} of ${count(trust.revocationLists, "list")}`],
  );
  add(
    "targets",
    Object.entries(summary.targets).map(([name, text]) => `${name}: ${text}`),
  );
  add("rules", [String(summary.rules)]);
  if (summary.admin !== undefined) add("admin", [summary.admin]);
  if (summary.workers > 1) add("workers", [`${summary.workers} threads, all limits together`]);
  const head = `${summary.file} is good: ${count(summary.files.length, "file")} read, ${count(summary.warnings.length, "warning")}`;
  return [head, ...lines.map(([what, text]) => `  ${what.padEnd(11)}${text}`)];
}

function count(number: number, what: string): string {
  return `${number === 0 ? "no" : number} ${what}${number === 1 ? "" : "s"}`;
}
