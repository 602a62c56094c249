/** How to start a TypeScript program of this checkout in a child of the runtime that runs the test. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Words before the program's file. */
export const runtimeWords: readonly string[] =
  "Deno" in globalThis ? [process.execPath, "run", "-A", "--quiet", "--node-modules-dir=manual"] : [process.execPath];

export interface ChildOptions {
  /** Default: this checkout. */
  readonly folder?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Killed after so long. */
  readonly timeoutMs?: number;
}

/** Starts `file` (from the checkout's root) with `words`; the caller waits for its end. */
export function startProgram(file: string, words: readonly string[], options: ChildOptions = {}): ChildProcessWithoutNullStreams {
  const [command, ...rest] = runtimeWords as readonly [string, ...string[]];
  const config = "Deno" in globalThis ? [`--config=${root}deno.json`] : [];
  return spawn(command, [...rest, ...config, `${root}${file}`, ...words], {
    cwd: options.folder ?? root,
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/", NO_COLOR: "1", ...options.environment },
    timeout: options.timeoutMs ?? 25_000,
    killSignal: "SIGKILL",
  });
}
