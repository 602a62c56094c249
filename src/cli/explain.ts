/**
 * `pipegate explain`: what the gateway would say to a certificate that asks for a target, which rule says it, on which line, and why.
 * Promises: the same guard and the same policy as the gateway's, read-only, without our key. Says what a certificate that OpenSSL
 * alone could complete with an intermediate from elsewhere would not get: the chain is the one in the file.
 */
import type { Buffer } from "node:buffer";
import { Command } from "commander";
import { PipegateError } from "../base/error.ts";
import { explanations, type Reason } from "../base/reason.ts";
import { printable } from "../base/text.ts";
import { readBounded } from "../base/files.ts";
import { loadPolicy, type LoadedPolicy } from "../config/load.ts";
import { nearest } from "../config/problem.ts";
import { formatRate, formatSize } from "../config/units.ts";
import type { Identity } from "../identity/identity.ts";
import { createTrust, judge, type Verdict } from "../identity/judge.ts";
import { pemBlocks } from "../identity/trust.ts";
import { connectionLimits, createPolicy, explain, type Explanation } from "../policy/policy.ts";
import type { Limits, Rule } from "../policy/rule.ts";
import { Status } from "./exit.ts";
import { answer } from "./terminal.ts";

interface ExplainFlags {
  readonly cert: string;
  readonly target: string;
  readonly config: string;
  readonly json?: boolean;
}

const examples = `Examples:
  pipegate explain --cert alice.pem --target db
  pipegate explain --cert alice.pem --target db -c /etc/pipegate.yaml --json

Exit status: 0 the pipe would open, 4 it would be refused.
`;

export function explainCommand(): Command {
  return new Command("explain")
    .description("which rule answers, on which line, and why")
    .addHelpText("before", examples)
    .requiredOption("--cert <file>", "the client's certificate with its chain, PEM or DER")
    .requiredOption("--target <name>", "the target that it would ask for")
    .option("-c, --config <file>", "the gateway's config", "pipegate.yaml")
    .option("--json", "the answer as JSON")
    .action(runExplain);
}

async function runExplain(flags: ExplainFlags): Promise<void> {
  const now = Date.now();
  const loaded = await loadPolicy(flags.config, { now });
  const chain = await readChain(flags.cert);
  const verdict = judge(chain, createTrust({ ...loaded.trust, now }), { now, verifiedByRuntime: false });
  const told = tell(verdict, { loaded, target: flags.target });
  if (!told.allowed) process.exitCode = Status.refused;
  if (flags.json)
    return answer(
      JSON.stringify(
        { certificate: { file: flags.cert, ...verdict, proof: undefined }, target: flags.target, config: flags.config, ...told },
        undefined,
        2,
      ),
    );
  for (const line of [certificateLine(flags.cert, verdict), ...told.rules.map(({ says }) => says), ...told.answer])
    answer(printable(line, 4096));
}

async function readChain(file: string): Promise<readonly Uint8Array[]> {
  const read = await readBounded(file, { largest: 1 << 20 });
  if (!read.ok) throw new PipegateError("usage", `${file} (--cert) ${read.says}`, { next: "name the client's certificate" });
  if (!read.bytes.includes("-----BEGIN") && read.bytes[0] === 0x30) return [read.bytes];
  const blocks: Buffer[] | undefined = pemBlocks(read.bytes.toString("latin1"), "CERTIFICATE");
  if (blocks !== undefined && blocks.length > 0) return blocks;
  throw new PipegateError("usage", `${file} (--cert) holds no certificate`, { next: "name a file with -----BEGIN CERTIFICATE-----" });
}

interface RuleTold {
  readonly rule: number;
  readonly line: number;
  readonly verdict: "decides" | "lacks";
  readonly lacks: readonly ("client" | "target")[];
  readonly client: string | undefined;
  readonly target: string | undefined;
  readonly says: string;
}

interface Told {
  readonly allowed: boolean;
  readonly reason: Reason | undefined;
  /** Those before the one that answers, and that one; without one, all. */
  readonly rules: readonly RuleTold[];
  /** Of the rule that answers, for pipes; of the first that knows the client, for connections. */
  readonly limits: Limits | undefined;
  readonly answer: readonly string[];
}

interface Question {
  readonly loaded: LoadedPolicy;
  readonly target: string;
}

function tell(verdict: Verdict, question: Question): Told {
  const refused = (reason: Reason, rules: readonly RuleTold[], why: readonly string[]): Told => ({
    allowed: false,
    reason,
    rules,
    limits: undefined,
    // What a client is told of a missing rule sends its reader here: no use to whoever asks here.
    answer: [...why, `refused: ${reason}; ${reason === "forbidden" ? "to let it, add a rule that names both" : explanations[reason].next}`],
  });
  if (!verdict.ok) return refused(verdict.reason, [], []);
  const { loaded, target } = question;
  const { identity } = verdict;
  const policy = createPolicy(loaded.rules);
  const explanation = explain(policy, identity, target);
  const rules = tellRules(explanation, { ...question, identity });
  const first = connectionLimits(policy, identity);
  if (first === undefined)
    return refused("forbidden", rules, [`no rule knows ${identity.principal}: it is turned away at the door, whatever it asks for`]);
  if (!loaded.targets.includes(target)) {
    const near = nearest(target, loaded.targets);
    return refused("unknown_target", rules, [`there is no target ${target}${near === undefined ? "" : `; did you mean ${near}`}`]);
  }
  const { decision } = explanation;
  if (!decision.allowed) return refused("forbidden", rules, [`no rule lets ${identity.principal} reach ${target}`]);
  const { rule } = decision;
  const limits = { ...rule.limits };
  for (const name of ["connects", "connections"] as const) delete limits[name];
  const { connects, connections } = first.limits;
  const ofConnections = { ...(connects === undefined ? {} : { connects }), ...(connections === undefined ? {} : { connections }) };
  const lines = [
    `allowed by ${place(loaded, rule)}`,
    `  its pipes: ${limitsText(limits)}`,
    `  its connections: ${limitsText(ofConnections)}${first === rule ? "" : `, by ${place(loaded, first)}, the first that knows the client`}`,
  ];
  return { allowed: true, reason: undefined, rules, limits: { ...limits, ...ofConnections }, answer: lines };
}

function place({ file, rules }: LoadedPolicy, rule: Rule): string {
  return `rule ${rules.indexOf(rule) + 1} (${file}:${rule.line})`;
}

function tellRules({ decision, rules }: Explanation, { loaded, identity, target }: Question & { readonly identity: Identity }): RuleTold[] {
  const upTo = decision.allowed ? decision.index + 1 : rules.length;
  return rules.slice(0, upTo).map(({ rule, index, lacks, client, target: fits }) => {
    const where = place(loaded, rule);
    const without = [
      ...(lacks.includes("client") ? [`not this client: ${some(rule.clients)}`] : []),
      ...(lacks.includes("target") ? [`not ${target}: ${some(rule.targets)}`] : []),
    ];
    const says =
      lacks.length === 0
        ? `${where}: answers; ${client} is ${identity.principal}, ${fits} is ${target}`
        : `${where}: passed over; ${without.join("; ")}`;
    return { rule: index + 1, line: rule.line, verdict: lacks.length === 0 ? "decides" : "lacks", lacks, client, target: fits, says };
  });
}

function some(patterns: readonly string[]): string {
  return patterns.length > 6 ? `${patterns.slice(0, 6).join(", ")} and ${patterns.length - 6} more` : patterns.join(", ");
}

function certificateLine(file: string, verdict: Verdict): string {
  if (!verdict.ok) return `${file}: not believed: ${verdict.detail}${verdict.fingerprint === undefined ? "" : ` (${verdict.fingerprint})`}`;
  const { principal, fingerprint, issuer, notAfter } = verdict.identity;
  return `${file}: ${principal}${principal === fingerprint ? "" : ` (${fingerprint})`}, issued by ${issuer}, until ${new Date(notAfter).toISOString()}`;
}

function limitsText(limits: Limits): string {
  const parts: string[] = [];
  for (const name of ["connects", "opens", "messages"] as const) {
    const rate = limits[name];
    if (rate !== undefined) parts.push(`${name} ${formatRate(rate)}`);
  }
  if (limits.bytes !== undefined) parts.push(`bytes ${formatRate(limits.bytes, formatSize)} each way`);
  for (const name of ["pipes", "connections"] as const) {
    const cap = limits[name];
    if (cap !== undefined) parts.push(`at most ${cap} ${name}`);
  }
  return parts.length === 0 ? "no limits" : parts.join(", ");
}
