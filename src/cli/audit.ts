/**
 * `pipegate audit verify`: whether an audit log is whole. Promises: reads only; says each fault with file and line; needs no gateway.
 * Leaves to others: the check itself (audit/verify.ts).
 */
import { resolve } from "node:path";
import { Command } from "commander";
import { verifyAudit, type Verified } from "../audit/verify.ts";
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";
import { Status } from "./exit.ts";
import { answer } from "./terminal.ts";

interface VerifyFlags {
  readonly config?: string;
  readonly head?: string;
  readonly json?: boolean;
}

const examples = `Examples:
  pipegate audit verify /var/log/pipegate/audit.jsonl      it and the full files beside it
  pipegate audit verify -c /etc/pipegate.yaml --json       the log that this config names
  pipegate audit verify audit.jsonl --head HASH            and that it still holds the line that was noted elsewhere

Lines cut off at the end, or a log made anew as a whole, show only by a head (its hash) that was noted on another host.
Exit status: 0 whole, 5 broken, 2 wrong usage or no such file.
`;

export function auditCommand(): Command {
  const verify = new Command("verify")
    .description("whether the audit log is whole, and its head")
    .addHelpText("before", examples)
    .argument("[file]", "the log, or one of its full files")
    .option("-c, --config <file>", "take the file from this config (default without FILE: pipegate.yaml)")
    .option("--head <hash>", "a head that was noted elsewhere: the log must hold it")
    .option("--json", "the answer as JSON")
    .action(runVerify);
  return new Command("audit").description("whether an audit log is whole").addHelpText("before", examples).addCommand(verify);
}

async function runVerify(named: string | undefined, flags: VerifyFlags): Promise<void> {
  const head = flags.head?.toLowerCase();
  if (head !== undefined && !/^[0-9a-f]{64}$/.test(head))
    throw new PipegateError("usage", "--head is no SHA-256", { next: "pass the 64 hex digits that an earlier verify printed" });
  if (named !== undefined && flags.config !== undefined)
    throw new PipegateError("usage", "both a file and a config are named", { next: "name one of them" });
  const file = named ?? (await configFile(flags.config ?? "pipegate.yaml"));
  const verified = await verify(resolve(file), head);
  if (verified.faults.length > 0 || verified.headFound === false) process.exitCode = Status.broke;
  if (flags.json) return answer(JSON.stringify(verified, undefined, 2));
  for (const line of verifiedLines(verified, head)) answer(printable(line, 4096));
}

async function verify(file: string, head: string | undefined): Promise<Verified> {
  try {
    return await verifyAudit(file, head === undefined ? {} : { head });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    throw new PipegateError("usage", `${file} cannot be read (${code})`, { next: "name the audit log, as a user who may read it" });
  }
}

async function configFile(config: string): Promise<string> {
  const { readAuditFile } = await import("../config/load.ts");
  const file = await readAuditFile(config);
  if (file !== undefined) return file;
  throw new PipegateError("usage", `${config} has no audit.file`, { next: "name the log: pipegate audit verify FILE" });
}

function verifiedLines({ files, lines, cut, firstSeq, firstTime, lastTime, head, faults, headFound }: Verified, wanted?: string): string[] {
  return [
    ...faults.map(({ file, line, says }) => `${file}:${line}: ${says}`),
    ...(headFound === false ? [`no line has the hash ${wanted}: it was cut off or changed, or its file is no longer kept`] : []),
    faults.length > 0 || headFound === false ? "BROKEN" : "whole",
    `lines: ${lines} in ${files.length} ${files.length === 1 ? "file" : "files"}${cut === 0 ? "" : `; ${cut} cut by a crash`}`,
    ...(firstTime === undefined ? [] : [`from ${firstTime} (number ${firstSeq}) to ${lastTime}`]),
    `head: ${head.seq} ${head.hash}`,
  ];
}
