import { spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runtimeWords } from "../support/this-runtime.ts";

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
let folder: string;

beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "pipegate-"))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the command with its stdout at `out`. */
function run(words: readonly string[], out: string): { readonly status: number | null; readonly err: string } {
  const [command, ...rest] = runtimeWords as readonly [string, ...string[]];
  const stdout = openSync(out, "w");
  try {
    const deno = rest.includes("run") ? [`--config=${config}`] : [];
    const done = spawnSync(command, [...rest, ...deno, main, ...words], {
      cwd: folder,
      stdio: ["ignore", stdout, "pipe"],
      timeout: 20_000,
      killSignal: "SIGKILL",
    });
    return { status: done.status, err: done.stderr.toString() };
  } finally {
    closeSync(stdout);
  }
}

test.runIf(existsSync("/dev/full"))("an answer that finds no room on the disk ends with 1 and one line, never with 0", () => {
  expect(run(["ca", "init"], "/dev/null").status).toBe(0);
  expect(run(["ca", "issue", "cn:x"], "/dev/null").status).toBe(0);
  const { status, err } = run(["ca", "list"], "/dev/full");
  expect(err).toMatch(/^pipegate: the answer could not be written \(.*no space left.*\)\. Check where stdout leads, then try again\.\n$/iu);
  expect(status).toBe(1);
});
