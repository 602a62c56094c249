/** `pipegate pipe <target>`: stdin and stdout become the pipe. Ends with 0 only after both directions ended cleanly. */
import { fstatSync, type Stats } from "node:fs";
import { Command } from "commander";
import type { Break } from "../base/channel.ts";
import { systemClock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { StreamClient } from "../client.ts";
import { errorOf } from "../client/held-end.ts";
import { openDefaults } from "../client/types.ts";
import { joinPipe } from "../pipe/pipe.ts";
import { type ClientFlags, dial, prepare, withConnection } from "./connection.ts";
import { PipeBroke } from "./exit.ts";
import { bytesText, type Moved, showProgress } from "./progress.ts";
import { StdioChannel } from "./stdio.ts";
import { mention } from "./terminal.ts";

interface PipeFlags extends ClientFlags {
  readonly lines?: boolean;
  readonly progress?: boolean;
}

const examples = `Examples:
  echo hi | pipegate pipe echo
  pipegate pipe backup < dump.sql                 shows bytes, rate and time left on a terminal
  pipegate pipe jobs --lines < jobs.jsonl         each line is one message, each answer one line
`;

export function pipeCommand(): Command {
  const command = new Command("pipe")
    .description("stdin and stdout become the pipe to a target")
    .addHelpText("before", examples)
    .argument("<target>", "the target's name at the gateway");
  return withConnection(command)
    .option("--lines", "send each line of stdin as a message, print each message as a line")
    .option("--progress", "show bytes, rate and time left (default: when stdin is a file or a pipe and stderr a terminal)")
    .option("--no-progress", "do not show them")
    .action(runPipe);
}

async function runPipe(target: string, flags: PipeFlags): Promise<void> {
  if (statInput()?.isDirectory() === true) {
    // Both runtimes would show it as an end.
    throw new PipegateError("usage", "stdin is a folder, of which nothing can be read", { next: "name a file in it" });
  }
  const settings = await prepare(flags);
  // Answers are printed as they come: their length is no matter of memory here.
  const client = await dial(settings, { ...flags, maxMessageBytes: 0xffffffff });
  try {
    await carry(client, target, flags);
  } finally {
    await client.close();
  }
}

async function carry(client: StreamClient, target: string, flags: PipeFlags): Promise<void> {
  const lines = flags.lines === true;
  const stdio = new StdioChannel({ input: process.stdin, output: process.stdout, lines });
  const timeoutMs = flags.timeout ?? openDefaults.timeoutMs;
  const stream = client.openStream(target, { messages: lines });
  const late = systemClock.after(timeoutMs, () => {
    if (!stream.accepted) stream.reset({ reason: "target_timeout", detail: `no answer within ${timeoutMs / 1000} s` });
  });
  let settle!: (broken: Break | undefined) => void;
  const outcome = new Promise<Break | undefined>((resolve) => (settle = resolve));
  const pipe = joinPipe(
    { client: stdio, target: stream },
    { clock: systemClock, halfClosedTimeoutMs: Number.MAX_SAFE_INTEGER, events: { closed: settle } },
  );
  const moved = (): Moved => ({ up: pipe.inbound.bytes, down: pipe.outbound.bytes });
  const stop = wantsProgress(flags) ? showProgress({ moved, total: inputSize(), terminal: process.stderr.isTTY === true }) : () => {};
  const broken = await outcome;
  late.cancel();
  stop();
  mention(`sent ${bytesText(pipe.inbound.bytes)}, received ${bytesText(pipe.outbound.bytes)}`);
  if (!broken) return;
  const error =
    stdio.fault === undefined
      ? errorOf(broken)
      : new PipegateError("cancelled", stdio.fault, { next: "check where it leads, then try again" });
  throw stream.accepted || stdio.readerGone || broken.reason === "cancelled" ? new PipeBroke(error, { quietly: stdio.readerGone }) : error;
}

function wantsProgress({ progress, quiet }: PipeFlags & { readonly quiet?: boolean }): boolean {
  return progress ?? (quiet !== true && process.stderr.isTTY === true && process.stdin.isTTY !== true && process.stdout.isTTY !== true);
}

/** Bytes of stdin when it is a regular file. */
function inputSize(): number | undefined {
  const found = statInput();
  return found?.isFile() === true ? found.size : undefined;
}

function statInput(): Stats | undefined {
  try {
    return fstatSync(0);
  } catch {
    return undefined; // stdin is closed
  }
}
