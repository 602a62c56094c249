/** Runs the command in a child of this runtime, with settings from the environment, and waits for its end. */
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Issued } from "./mint.ts";
import { startProgram } from "./this-runtime.ts";

export interface Ended {
  readonly status: number | null;
  readonly out: Buffer;
  readonly err: string;
}

/** A folder with a client's files, where commands are run. */
export interface Workplace {
  readonly folder: string;
  start(words: readonly string[], environment?: Readonly<Record<string, string>>): ChildProcessWithoutNullStreams;
  /** With `input` on stdin. */
  run(words: readonly string[], input?: string | Uint8Array, environment?: Readonly<Record<string, string>>): Promise<Ended>;
  remove(): Promise<void>;
}

/** Writes NAME.pem and NAME-key.pem for each of `issued`, and `ca.pem`. */
export async function createWorkplace(ca: string, issued: Readonly<Record<string, Issued>> = {}): Promise<Workplace> {
  const folder = await mkdtemp(join(tmpdir(), "pipegate-"));
  await writeFile(join(folder, "ca.pem"), ca);
  for (const [name, { certificate, key }] of Object.entries(issued)) {
    await writeFile(join(folder, `${name}.pem`), certificate);
    await writeFile(join(folder, `${name}-key.pem`), key, { mode: 0o600 });
  }
  const start: Workplace["start"] = (words, environment = {}) =>
    startProgram("src/cli/main.ts", words, { folder, environment: { XDG_CONFIG_HOME: folder, ...environment } });
  return {
    folder,
    start,
    run: (words, input = "", environment = {}) => {
      const child = start(words, environment);
      child.stdin.on("error", () => {}); // it may end without having read all
      child.stdin.end(input);
      return ended(child);
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Collects what the child says until it ends. */
export function ended(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const out: Buffer[] = [];
    let err = "";
    child.stdout.on("data", (chunk: Buffer) => void out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => void (err += chunk.toString()));
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, out: Buffer.concat(out), err }));
  });
}

/** Waits until the child's stderr has said something that matches. */
export function says(child: ChildProcessWithoutNullStreams, pattern: RegExp, stream: "stdout" | "stderr" = "stderr"): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child[stream].on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (pattern.test(text)) resolve(text);
    });
    child.on("close", (status) => reject(new Error(`it ended with ${status} and said: ${text}`)));
  });
}

/** Sends a signal. Not by `child.kill`: after that Deno reports the signal even where the child handled it and ended by itself. */
export function tell(child: ChildProcessWithoutNullStreams, signal: "SIGTERM" | "SIGINT" | "SIGKILL" | "SIGHUP"): void {
  process.kill(child.pid!, signal);
}
