/**
 * `pipegate explain`: what the gateway would say to a certificate that asks for a target, which rule says it, on which line, and why.
 * Promises: the same guard and the same policy as the gateway's, read-only, without our key; from the config, or from a running gateway by
 * what it has in force. Both answers come out of explain.ts and are printed here in one way.
 */
import type { Buffer } from "node:buffer";
import { Command } from "commander";
import { PipegateError } from "../base/error.ts";
import { readBounded } from "../base/files.ts";
import { printable } from "../base/text.ts";
import { loadPolicy } from "../config/load.ts";
import { explainBody, explainTo, type ExplainAnswer, type ExplainRequest } from "../explain.ts";
import { pemBlocks } from "../identity/pem.ts";
import { createDenyList } from "../policy/deny.ts";
import { createPolicy } from "../policy/policy.ts";
import { askOverUnix } from "../runtime/unix-http.ts";
import { errorOf, findAdminSocket } from "./admin-socket.ts";
import { Status } from "./exit.ts";
import { answer, mention } from "./terminal.ts";

interface ExplainFlags {
  readonly cert: string;
  readonly target: string;
  readonly config?: string;
  readonly live?: boolean;
  readonly admin?: string;
  readonly profile?: string;
  readonly json?: boolean;
}

const examples = `Examples:
  pipegate explain --cert alice.pem --target db
  pipegate explain --cert alice.pem --target db -c /etc/pipegate.yaml --json
  pipegate explain --cert alice.pem --target db --live    by what the running gateway has in force

Exit status: 0 the pipe would open, 4 it would be refused.
`;

export function explainCommand(): Command {
  return new Command("explain")
    .description("which rule answers, on which line, and why")
    .addHelpText("before", examples)
    .requiredOption("--cert <file>", "the client's certificate with its chain, PEM or DER")
    .requiredOption("--target <name>", "the target that it would ask for")
    .option("-c, --config <file>", "the gateway's config (default: pipegate.yaml)")
    .option("--live", "ask the running gateway; its admin socket is found as status finds it")
    .option("--admin <unix:path>", "ask the gateway behind this admin socket")
    .option("--profile <name>", "with --live: take the admin socket from this profile")
    .option("--json", "the answer as JSON")
    .action(runExplain);
}

async function runExplain(flags: ExplainFlags): Promise<void> {
  const request = { certificates: await readChain(flags.cert), target: flags.target };
  const live = flags.live === true || flags.admin !== undefined || flags.profile !== undefined;
  const told = live ? await askGateway(request, flags) : await askConfig(request, flags.config ?? "pipegate.yaml");
  if (!told.allowed) process.exitCode = Status.refused;
  if (flags.json) return answer(JSON.stringify({ ...told, certificate: { file: flags.cert, ...told.certificate } }, undefined, 2));
  for (const line of explainLines(told, flags.cert)) answer(line);
}

async function askConfig(request: ExplainRequest, file: string): Promise<ExplainAnswer> {
  const now = Date.now();
  const { trust, rules, targets } = await loadPolicy(file, { now });
  return explainTo(request, {
    trust: trust.built,
    deny: createDenyList(trust.deny),
    policy: createPolicy(rules),
    targets,
    file,
    now,
  });
}

const timeoutMs = 10_000;
const maxBytes = 64 << 20;

async function askGateway(request: ExplainRequest, flags: ExplainFlags): Promise<ExplainAnswer> {
  const socket = await findAdminSocket(flags);
  mention(`asking ${socket}`);
  const { status, body } = await askOverUnix({ socket, path: "/explain", post: explainBody(request), timeoutMs, maxBytes });
  if (status === 200) return JSON.parse(body) as ExplainAnswer;
  throw new PipegateError("protocol_error", errorOf(body) ?? `${socket} answered /explain with status ${status}`, {
    next: "check that the gateway is of this version, or leave --live out",
  });
}

/** The answer for a person. */
export function explainLines({ certificate, steps, rules, answer: end }: ExplainAnswer, file: string): string[] {
  const marks = { holds: "ok", fails: "NO", open: "-" } as const;
  const lines = [
    certificateLine(file, certificate),
    ...steps.map(({ step, result, says }) => `  ${marks[result].padEnd(2)} ${step}: ${says}`),
    ...rules.map(({ says }) => says),
    ...end,
  ];
  return lines.map((line) => printable(line, 4096));
}

async function readChain(file: string): Promise<readonly Uint8Array[]> {
  const read = await readBounded(file, { largest: 1 << 20 });
  if (!read.ok) throw new PipegateError("usage", `${file} (--cert) ${read.says}`, { next: "name the client's certificate" });
  if (!read.bytes.includes("-----BEGIN") && read.bytes[0] === 0x30) return [read.bytes];
  const blocks: Buffer[] | undefined = pemBlocks(read.bytes.toString("latin1"), "CERTIFICATE");
  if (blocks !== undefined && blocks.length > 0) return blocks;
  throw new PipegateError("usage", `${file} (--cert) holds no certificate`, { next: "name a file with -----BEGIN CERTIFICATE-----" });
}

function certificateLine(file: string, verdict: ExplainAnswer["certificate"]): string {
  if (!verdict.ok) return `${file}: not believed: ${verdict.detail}${verdict.fingerprint === undefined ? "" : ` (${verdict.fingerprint})`}`;
  const { principal, fingerprint, issuer, notAfter } = verdict.identity;
  return `${file}: ${principal}${principal === fingerprint ? "" : ` (${fingerprint})`}, issued by ${issuer}, until ${new Date(notAfter).toISOString()}`;
}
