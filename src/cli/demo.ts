/**
 * `pipegate demo`: certificates in certs/, a config beside them, a gateway with sample targets, and the next line to type. Promises:
 * what lies there already is used, never overwritten, but for the two ports in the config: they are those that the demo has; the lines it prints work as they stand, for the way it was started; the
 * settings that it leaves in certs/pipegate.env make `pipegate pipe echo` work in this folder without a flag.
 */
import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join, relative, resolve } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { fitsSocket } from "../base/address.ts";
import { PipegateError } from "../base/error.ts";
import { devCertificates } from "../ca/dev.ts";
import { loadConfig, type LoadedConfig, type LoadOptions } from "../config/load.ts";
import { removeStaleSocket } from "../runtime/bind.ts";
import { listenLocally } from "../runtime/local-listener.ts";
import { requireSupportedRuntime } from "../runtime/version.ts";
import { startSamples } from "./demo-samples.ts";
import { serve } from "./serve.ts";
import { demoConfigFile, demoProfile, surroundings } from "./settings.ts";
import { answer, say } from "./terminal.ts";

interface DemoFlags {
  readonly port: number;
}

const folder = "certs";
/** How many ports after the wanted one are tried. */
const tries = 50;

interface Ports {
  readonly port: number;
  readonly upperPort: number;
}

const configText = ({
  port,
  upperPort,
}: Ports): string => `# Written by pipegate demo, and yours from now on: what you change takes effect within seconds.
listeners:
  - listen: 127.0.0.1:${port}
identity:
  certificate: gateway.pem
  key: gateway-key.pem
trust:
  ca: [ca.pem]
targets:
  echo: { builtin: echo }
  upper: { tcp: 127.0.0.1:${upperPort}, framing: lines }   # the demo runs it, and puts in its port
rules:
  - clients: ["spiffe://dev/agent/alice"]          # to let the stranger in: ["spiffe://dev/agent/alice", "spiffe://dev/stranger"]
    targets: [echo, upper]
`;

export function demoCommand(): Command {
  return new Command("demo")
    .description("dev CA, gateway and sample targets in this folder; prints the next line to type")
    .option("--port <port>", "where the gateway listens on 127.0.0.1; the next free one if it is taken", readPort, 8443)
    .action(runDemo);
}

function readPort(text: string): number {
  const port = /^\d{1,5}$/u.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new InvalidArgumentError("It is a number from 1 to 65535.");
  return port;
}

async function runDemo({ port }: DemoFlags): Promise<void> {
  requireSupportedRuntime();
  const { client, stranger, ca, made } = await devCertificates(folder);
  await removeStaleSockets();
  const free = await freePort(port);
  const samples = await startSamples();
  const profile = { client: basename(client.certificate), ca: basename(ca.certificate) };
  try {
    const ports = { port: free, upperPort: samples.upperPort };
    await writeConfig(ports);
    const config = await demoConfig(ports);
    await serve(config, {
      load: (inForce) => demoConfig(ports, { inForce }),
      ready: async () => {
        await writeFile(demoProfile, profileText({ ...profile, port: free, admin: config.admin?.listen }));
        if (free !== port) say(`pipegate: port ${port} is taken, so the gateway listens on ${free}`);
        introduce({ port: free, stranger: stranger.certificate, made });
      },
    });
  } finally {
    samples.close();
  }
}

/** Makes the config file, or puts the ports of this demo into the lines of it that are still ours. */
async function writeConfig(ports: Ports): Promise<void> {
  if (!existsSync(demoConfigFile)) return writeFile(demoConfigFile, configText(ports), { flag: "wx" });
  const before = await readFile(demoConfigFile, "utf8");
  const after = before
    .replace(/^(listeners:\n *- listen: 127\.0\.0\.1:)\d+/mu, (_, head: string) => `${head}${ports.port}`)
    .replace(/^( *upper: \{ tcp: 127\.0\.0\.1:)\d+/mu, (_, head: string) => `${head}${ports.upperPort}`);
  if (after !== before) await writeFile(demoConfigFile, after);
}

/** A demo that was killed leaves its admin socket. */
async function removeStaleSockets(): Promise<void> {
  for (const name of await readdir(folder)) {
    if (/^admin-\d+\.sock$/u.test(name)) await removeStaleSocket(join(folder, name)).catch(() => false); // it does no harm
  }
}

/** The config of the file, on the ports that are free now, with an admin socket where its path is not too long for one. */
async function demoConfig({ port, upperPort }: Ports, options: LoadOptions = {}): Promise<LoadedConfig> {
  const config = await loadConfig(demoConfigFile, options);
  const targets = new Map(config.targets);
  const upper = targets.get("upper");
  if (upper?.kind === "tcp") targets.set("upper", { ...upper, addresses: [{ kind: "tcp", host: "127.0.0.1", port: upperPort }] });
  const [first, ...others] = config.listeners;
  if (!first)
    throw new PipegateError("config", `${demoConfigFile} has no listener`, {
      next: "give it one, or remove the file and start the demo again",
    });
  const socket = resolve(folder, `admin-${port}.sock`); // one for each port: two demos may run in one folder
  const admin = fitsSocket(socket) ? { listen: `unix:${socket}` } : undefined;
  return {
    ...config,
    targets,
    listeners: [{ ...first, listen: { kind: "tcp", host: "127.0.0.1", port } }, ...others],
    admin: config.admin ?? admin,
    log: { level: "info", format: "auto" },
  };
}

/** The first port from `wanted` on that nobody listens on. */
async function freePort(wanted: number): Promise<number> {
  let fault: unknown;
  for (let port = wanted; port < Math.min(wanted + tries, 65_536); port++) {
    try {
      (await listenLocally({ kind: "tcp", host: "127.0.0.1", port }, (socket) => void socket.destroy())).close();
      return port;
    } catch (error) {
      fault ??= error;
    }
  }
  throw fault;
}

interface Profile {
  readonly client: string;
  readonly ca: string;
  readonly port: number;
  readonly admin: string | undefined;
}

function profileText({ client, ca, port, admin }: Profile): string {
  const lines = [
    "# Left by pipegate demo: what client commands in the folder above use when nothing else is said.",
    `PIPEGATE_GATEWAY=127.0.0.1:${port}`,
    `PIPEGATE_CERT=${client}`,
    `PIPEGATE_CA=${ca}`,
    ...(admin === undefined ? [] : [`PIPEGATE_ADMIN=${admin}`]),
  ];
  return `${lines.join("\n")}\n`;
}

interface Introduction {
  readonly port: number;
  readonly stranger: string;
  readonly made: readonly string[];
}

/** What was made, where it lies, and what to type next. */
function introduce({ port, stranger, made }: Introduction): void {
  const command = commandHere();
  const lines = [
    made.length > 0 ? `Made ${made.join(", ")} and their keys, for trying out only.` : `The certificates in ${folder}/ are used again.`,
    `The gateway listens on 127.0.0.1:${port}. Alice (${folder}/client.pem) may reach its targets echo and upper; the stranger may not.`,
    `Who may what stands in ${demoConfigFile}.`,
    "",
    "Now type this in another terminal, in this folder:",
    `  echo hi | ${command} pipe echo`,
    "and this, to see a refusal with its reason:",
    `  echo hi | ${command} pipe echo --cert ${stranger}`,
    `To mend that, let the stranger in as ${demoConfigFile} says: a change takes effect within seconds. Ctrl-C ends it.`,
    "",
  ];
  for (const line of lines) answer(line);
}

/** How the command is called in this folder, by the way in which the demo was started. */
export function commandHere(): string {
  const { environment } = surroundings;
  if ("Deno" in globalThis) return "deno task --quiet pipegate";
  if (environment("npm_command") === "exec") return "npx pipegate";
  if (environment("npm_lifecycle_event") !== undefined) return "npm run --silent pipegate --";
  return process.argv[1]?.endsWith("main.ts") ? `node ${relative(".", process.argv[1])}` : "pipegate";
}
