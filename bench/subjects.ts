/**
 * What is measured, and pipegate on Node or Deno as such a subject; peers.ts has the others. Each is set up to do the same: TLS 1.3 with
 * a client certificate of one CA, no session tickets, one worker, no log of single connections, bytes to a back end on loopback.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { denoFlags, nodeFlags } from "../scripts/flags.mjs";
import { root } from "../scripts/tree.ts";
import { Child, cpuSeconds, freePort, whenOpen } from "./children.ts";

/** Where the back end listens, and where configs and certificates may be written. */
export interface Surroundings {
  readonly folder: string;
  readonly backend: { readonly bulk: number; readonly echo: number };
}

/** Ports of a subject that runs. */
export interface Running {
  readonly child: Child;
  /** Whose CPU and memory counts. */
  readonly pid: number;
  /** Raw: to the back end's ports. TLS, or plain TCP for sshd. */
  readonly bulk: number;
  readonly echo: number;
  /** pipegate/1, with the targets `bulk`, `echo`, and `loop`, which has no back end. */
  readonly framed?: number;
  /** Starts another one like it, without the self-test, and ends it when it is ready. `load`: the compiled load.c. */
  readonly boot?: (load: string) => Promise<{ readonly ms: number; readonly cpuMs: number }>;
  stop(): Promise<void>;
}

export interface Subject {
  readonly name: string;
  readonly version: string;
  readonly kind: "pipegate" | "proxy" | "ssh";
  /** Not a peer: it says what the runtime itself costs. */
  readonly reference?: true;
  start(around: Surroundings): Promise<Running>;
}

const bin = join(root, "node_modules/.bin");

/** The full path of a command, or undefined. Daemons are also looked for where PATH of a person need not point. */
export function find(command: string): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, command)).find((path) => existsSync(path));
}

/** What of a command's output the pattern catches; empty when that is nothing. */
export function firstLine(words: readonly string[], pattern: RegExp): string {
  try {
    const text = execFileSync("/bin/sh", ["-c", '"$@" 2>&1 || true', "sh", ...words], { encoding: "utf8", timeout: 10_000 });
    return pattern.exec(text)?.[1] ?? "";
  } catch {
    return "";
  }
}

/** Starts the command and waits until it listens on all of its ports. */
export async function running(
  words: readonly string[],
  ports: { readonly bulk: number; readonly echo: number; readonly framed?: number },
): Promise<Running> {
  const child = new Child(words);
  try {
    for (const port of Object.values(ports)) await whenOpen(port, child);
  } catch (error) {
    await child.stop();
    throw error;
  }
  return { child, pid: child.process.pid!, ...ports, stop: () => child.stop() };
}

interface Served {
  readonly ports: { readonly bulk: number; readonly echo: number; readonly framed: number };
  readonly rest: string;
}

function pipegateConfig({ folder, backend }: Surroundings, { ports, rest }: Served): string {
  return `listeners:
  - listen: 127.0.0.1:${ports.framed}
  - listen: 127.0.0.1:${ports.bulk}
    target: bulk
  - listen: 127.0.0.1:${ports.echo}
    target: echo
identity: { certificate: ${folder}/gateway.pem, key: ${folder}/gateway-key.pem }
trust: { ca: [${folder}/ca.pem] }
targets:
  bulk: { tcp: "127.0.0.1:${backend.bulk}" }
  echo: { tcp: "127.0.0.1:${backend.echo}" }
  loop: { builtin: echo }
rules:
  - clients: ["spiffe://dev/agent/*"]
    targets: [bulk, echo, loop]
${rest}
`;
}

const threePorts = async (): Promise<Served["ports"]> => ({ bulk: await freePort(), echo: await freePort(), framed: await freePort() });

/** From the start of the process to its line that it serves; what waits to be read of that line is no part of it. */
async function boot(words: readonly string[], load: string): Promise<{ readonly ms: number; readonly cpuMs: number }> {
  const started = performance.now();
  const child = new Child(words);
  try {
    await child.told("gateway ready");
    const ms = performance.now() - started;
    return { ms, cpuMs: cpuSeconds(load, child.process.pid!) * 1000 };
  } finally {
    await child.stop();
  }
}

let built: string | undefined;

/** What npm installs: JavaScript, made of the source of now. */
function build(): string {
  execFileSync(join(bin, "node"), [join(root, "scripts/build.ts")], { stdio: "inherit", timeout: 180_000, killSignal: "SIGKILL" });
  return join(root, "dist/cli/main.js");
}

/** pipegate as its users run it: the command and a config. */
export function pipegate(runtime: "node" | "deno", { workers = 1 }: { readonly workers?: number } = {}): Subject {
  const words =
    runtime === "node"
      ? [join(bin, "node"), ...nodeFlags]
      : [join(bin, "deno"), "run", "-A", "--quiet", ...denoFlags, `--config=${join(root, "deno.json")}`];
  return {
    name: workers === 1 ? `pipegate ${runtime}` : `pipegate ${runtime} x${workers}`,
    version: firstLine([words[0]!, "--version"], /(\d+\.\d+\.\d+)/),
    kind: "pipegate",
    async start(around) {
      const [file, another] = ["run", "boot"].map((name) => join(around.folder, `pipegate-${runtime}-${workers}-${name}.yaml`)) as [
        string,
        string,
      ];
      const program = runtime === "node" ? (built ??= build()) : join(root, "src/cli/main.ts");
      const command = [...words, program, "gateway", "-c"];
      const ports = await threePorts();
      writeFileSync(file, pipegateConfig(around, { ports, rest: `log: { level: warn, format: json }\nworkers: ${workers}` }));
      const up = await running([...command, file], ports);
      const bootAgain = async (load: string): Promise<{ readonly ms: number; readonly cpuMs: number }> => {
        const served = { ports: await threePorts(), rest: `log: { level: info, format: json }\nselfTest: skip\nworkers: ${workers}` };
        writeFileSync(another, pipegateConfig(around, served));
        return boot([...command, another], load);
      };
      return { ...up, boot: bootAgain };
    },
  };
}

/** The least that Node can do as a proxy (plain-proxy.ts): what of our figures is the runtime's, and ratios that no machine changes. */
export const plainProxy: Subject = {
  name: "plain node",
  version: firstLine([join(bin, "node"), "--version"], /(\d+\.\d+\.\d+)/),
  kind: "proxy",
  reference: true,
  async start({ folder, backend }) {
    const [bulk, echo] = [await freePort(), await freePort()];
    const ports = [bulk, backend.bulk, echo, backend.echo].map(String);
    return running([join(bin, "node"), join(root, "bench/plain-proxy.ts"), folder, ...ports], { bulk, echo });
  },
};

/** Certificates as every subject wants them: PEM files, keys for the owner alone. */
export function writeCertificates(folder: string, made: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(made)) {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    chmodSync(join(folder, name), name.includes("key") || name.includes("both") ? 0o600 : 0o644);
  }
}
