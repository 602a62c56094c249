/** How to start a TypeScript program of this checkout in a child of the runtime that runs the test. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Words before the program's file. */
export const runtimeWords: readonly string[] =
  "Deno" in globalThis ? [process.execPath, "run", "-A", "--quiet", "--node-modules-dir=manual"] : [process.execPath];

/** The runtimes that tests can pair: this one, and the other where it is installed (always where CI is set). */
export const pairRuntimes: readonly { readonly name: "node" | "deno"; readonly words: readonly string[] }[] = (["node", "deno"] as const)
  .map((name) => {
    if (("Deno" in globalThis ? "deno" : "node") === name) return { name, words: runtimeWords };
    const binary = `${root}node_modules/.bin/${name}`;
    return {
      name,
      words:
        name === "deno" ? [binary, "run", "-A", "--quiet", "--node-modules-dir=manual"] : [binary, "--disable-warning=ExperimentalWarning"],
    };
  })
  .filter(({ words }) => existsSync(words[0] as string) || process.env["CI"] !== undefined);

export interface ChildOptions {
  /** Default: this runtime. */
  readonly words?: readonly string[];
  /** Default: this checkout. */
  readonly folder?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Killed after so long. */
  readonly timeoutMs?: number;
}

/** Starts `file` (from the checkout's root) with `words`; the caller waits for its end. */
export function startProgram(file: string, words: readonly string[], options: ChildOptions = {}): ChildProcessWithoutNullStreams {
  const [command, ...rest] = (options.words ?? runtimeWords) as readonly [string, ...string[]];
  const config = rest.includes("run") ? [`--config=${root}deno.json`] : [];
  return spawn(command, [...rest, ...config, `${root}${file}`, ...words], {
    cwd: options.folder ?? root,
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/", NO_COLOR: "1", ...options.environment },
    timeout: options.timeoutMs ?? 25_000,
    killSignal: "SIGKILL",
  });
}
