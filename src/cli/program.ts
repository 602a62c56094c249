/**
 * The command line: names, flags and help, with each subcommand loaded only when it is asked for, so that `pipe` starts without what
 * only `gateway` or `ca` need. Promises: one line on stderr and the documented status for every failure; misspelt words suggest.
 */
import { Command, CommanderError } from "commander";
import { version } from "../base/software.ts";
import { tuneMemory } from "../runtime/memory.ts";
import { endingOf, Status } from "./exit.ts";
import { complain, outputBroke, setQuiet, setVerbose } from "./terminal.ts";

interface Subcommand {
  readonly summary: string;
  load(): Promise<Command>;
}

const subcommands: Readonly<Record<string, Subcommand>> = {
  demo: {
    summary: "dev CA, gateway and sample targets; prints the next line to type",
    load: async () => (await import("./demo.ts")).demoCommand(),
  },
  gateway: { summary: "run the gateway", load: async () => (await import("./gateway.ts")).gatewayCommand() },
  pipe: { summary: "stdin and stdout become the pipe", load: async () => (await import("./pipe.ts")).pipeCommand() },
  forward: {
    summary: "a local TCP port or unix socket becomes the target",
    load: async () => (await import("./forward.ts")).forwardCommand(),
  },
  ca: { summary: "a small CA for development and small fleets", load: async () => (await import("./ca.ts")).caCommand() },
  check: {
    summary: "the whole config and every file it names, with line and column",
    load: async () => (await import("./check.ts")).checkCommand(),
  },
  explain: { summary: "which rule answers, on which line, and why", load: async () => (await import("./explain.ts")).explainCommand() },
  reload: { summary: "have a running gateway load its config anew", load: async () => (await import("./reload.ts")).reloadCommand() },
  audit: { summary: "whether an audit log is whole", load: async () => (await import("./audit.ts")).auditCommand() },
  status: { summary: "counters and live pipes of a running gateway", load: async () => (await import("./status.ts")).statusCommand() },
};

const examples = `Examples:
  pipegate demo                            set everything up here and run it; prints what to type next
  echo hi | pipegate pipe echo             send a line to the target "echo" and print its answer
  pipegate forward 5432 db                 psql -h 127.0.0.1 now reaches the target "db"
  pipegate gateway -c pipegate.yaml        run a gateway
  pipegate explain --cert alice.pem --target db
`;

const statuses = `
Exit status: 0 done, 2 wrong usage or config, 3 cannot reach the gateway, 4 refused, 5 the pipe broke, 6 timed out.
A client's settings: flags, then PIPEGATE_GATEWAY, _CERT, _KEY, _CA, _SERVER_NAME, then the profile
(~/.config/pipegate/default.env or --profile NAME), then what demo left in certs/ of this folder.`;

/** Runs the command with `words` (without the program's name); resolves with the exit status, having said what went wrong. */
export async function run(words: readonly string[]): Promise<number> {
  ignoreBrokenOutput();
  try {
    const program = await buildProgram(words);
    await program.parseAsync(words, { from: "user" });
    return typeof process.exitCode === "number" ? process.exitCode : Status.done;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? Status.done : Status.usage;
    const { status, line, more } = endingOf(error);
    for (const text of line === undefined ? [] : [line, ...(more ?? [])]) complain(text);
    return status;
  }
}

async function buildProgram(words: readonly string[]): Promise<Command> {
  const program = new Command("pipegate")
    .description("A Unix pipe across hosts, with proof of who is on each end.")
    .version(version, "-V, --version")
    .helpOption("-h, --help", "examples and flags; also: pipegate COMMAND --help")
    .addHelpText("before", examples)
    .addHelpText("after", statuses)
    .enablePositionalOptions()
    .exitOverride() // commander throws instead of exiting, and speaks as the rest of the command does
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /u, "pipegate: ")) })
    .hook("preAction", (_, command) => {
      const { quiet, verbose } = command.optsWithGlobals<{ quiet?: boolean; verbose?: boolean }>();
      setQuiet(quiet === true);
      setVerbose(verbose === true);
      tuneMemory(); // all that the command is made of is loaded
    });
  addVoice(program);
  const wanted = words.find((word) => !word.startsWith("-"));
  for (const [name, { summary, load }] of Object.entries(subcommands)) {
    const command = name === wanted || (wanted === "help" && words.includes(name)) ? await load() : new Command(name).description(summary);
    inherit(command, program);
    program.addCommand(command);
  }
  return program;
}

/** What commander gives to subcommands only when it makes them itself. */
function inherit(command: Command, parent: Command): void {
  command.copyInheritedSettings(parent);
  if (command.commands.length === 0) addVoice(command);
  for (const child of command.commands) inherit(child, command);
}

function addVoice(command: Command): void {
  const known = new Set(command.options.map((option) => option.long));
  if (!known.has("--quiet")) command.option("--quiet", "say nothing but failures");
  if (!known.has("--verbose")) command.option("--verbose", "say where settings come from and what happens");
}

/** A reader of stdout or stderr that went away is no crash; whoever writes payload to stdout listens for itself too. */
function ignoreBrokenOutput(): void {
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.listenerCount("error") === 0) stream.on("error", (error: Error) => outputBroke(stream, error));
  }
}
