/**
 * Everything that must hold, one stage after the other: what `npm test`, `deno task test` and .ci/run run.
 *   npm test -- [--only stage,stage] [--all] [--list] [path of a test ...]
 * Promises: each stage says its name and its seconds, a failed one how to run it alone; all run, also after a failure; the last line
 * is `N passed, N failed`, counting tests, and each check as one; the exit status is 1 when anything failed or nothing ran.
 * No stage can hang: each has a time limit, after which its processes are killed.
 * Leaves to others: that everything is installed (run.mjs does that), Debian packages that some tests want (.ci/run).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { root } from "./tree.ts";

interface Stage {
  readonly name: string;
  readonly about: string;
  readonly command: readonly string[];
  /** Before `command`: brings what this stage alone needs. */
  readonly prepare?: () => Promise<boolean>;
  /** Counts tests, from the report that it writes. */
  readonly tests?: boolean;
  /** Only with --all, or where CI is set. */
  readonly thorough?: boolean;
  readonly minutes: number;
}

const bin = join(root, "node_modules/.bin");
const cache = join(root, ".cache");
const node = [join(bin, "node"), "--disable-sigusr1"] as const;
// The Deno that runs this, or the pinned one.
const deno = "Deno" in globalThis ? process.execPath : join(bin, "deno");
/** The oldest Node that we promise to run on: the first of `engines` in package.json. */
const { engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly engines: { readonly node: string } };
const floor = /\d+\.\d+\.\d+/.exec(engines.node)![0];
const floorFolder = join(cache, `node-${floor}`);
const floorNode = join(floorFolder, "node_modules/.bin/node");
const code = ["src", "test", "scripts", "bench"];

const vitest = (report: string): string[] => [
  "node_modules/vitest/vitest.mjs",
  "run",
  "--reporter=default",
  "--reporter=json",
  `--outputFile.json=${join(cache, `${report}.json`)}`,
];

const stages: readonly Stage[] = [
  { name: "format", about: "one look: npm run format mends it", command: ["oxfmt", "--check"], minutes: 1 },
  { name: "lint", about: "promises that nobody awaits, and the like", command: ["oxlint"], minutes: 3 },
  { name: "floors", about: "who imports whom", command: [...node, "scripts/check-floors.ts"], minutes: 1 },
  { name: "repository", about: "the repository's own rules", command: [...node, "scripts/check-repository.ts"], minutes: 1 },
  { name: "types", about: "tsc", command: ["tsc", "-p", "."], minutes: 3 },
  { name: "types-deno", about: "deno check", command: [deno, "check", "--quiet", ...code], minutes: 3 },
  { name: "unused", about: "files, exports and packages that nothing uses", command: ["knip", "--no-progress"], minutes: 2 },
  { name: "package", about: "what npm would publish", command: [...node, "scripts/check-package.ts"], minutes: 3 },
  { name: "node", about: "tests on the newest Node", command: [...node, ...vitest("node")], tests: true, minutes: 10 },
  { name: "deno", about: "the same tests on Deno", command: [deno, "run", "-A", "--quiet", ...vitest("deno")], tests: true, minutes: 10 },
  {
    name: "node-floor",
    about: `the same tests on Node ${floor}, the oldest that is supported`,
    prepare: installFloorNode,
    command: [floorNode, "--disable-sigusr1", "--disable-warning=ExperimentalWarning", ...vitest("node-floor")],
    tests: true,
    thorough: true,
    minutes: 10,
  },
  {
    name: "counts",
    about: "instructions and bytes of the inner loops beside the recorded ones",
    command: [...node, "bench/counts.ts"],
    thorough: true,
    minutes: 11,
  },
  {
    name: "smoke",
    about: "what loads cost beside a plain Node proxy, as ratios, beside the recorded ones",
    command: [...node, "bench/smoke.ts"],
    thorough: true,
    minutes: 10,
  },
];

interface Result {
  readonly passed: number;
  readonly failed: number;
}

const again = "Deno" in globalThis ? "deno task test" : "npm test --";
// The pinned runtimes first; last the npm of a machine that has only Deno (scripts/setup.mjs).
const environment = { ...process.env, PATH: [bin, process.env["PATH"] ?? "", join(cache, "deno-as-node")].join(delimiter) };

async function runStage(stage: Stage, paths: readonly string[]): Promise<Result> {
  const report = stage.tests ? join(cache, `${stage.name}.json`) : undefined;
  if (report !== undefined) rmSync(report, { force: true });
  if (stage.prepare !== undefined && !(await stage.prepare())) return { passed: 0, failed: 1 };
  const ok = await succeeds([...stage.command, ...(stage.tests ? paths : [])], stage.minutes);
  if (report === undefined) return ok ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
  const { passed, failed } = counted(report);
  // A run that failed without a failed test (it crashed, it hung, a file did not load) counts as one; so does one that ran nothing.
  return { passed, failed: failed === 0 && (!ok || passed === 0) ? 1 : failed };
}

function counted(report: string): Result {
  try {
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, "utf8")) as {
      numPassedTests: number;
      numFailedTests: number;
    };
    return { passed: numPassedTests, failed: numFailedTests };
  } catch {
    return { passed: 0, failed: 0 };
  }
}

/** The npm package `node` ships the binary; the manifest lets its install script run on every npm. */
async function installFloorNode(): Promise<boolean> {
  if (existsSync(floorNode)) return true;
  mkdirSync(floorFolder, { recursive: true });
  writeFileSync(join(floorFolder, "package.json"), JSON.stringify({ private: true, allowScripts: { node: true } }));
  const words = ["install", "--prefix", floorFolder, "--no-save", "--no-audit", "--no-fund", "--loglevel=error", `node@${floor}`];
  return (await succeeds(["npm", ...words], 5)) && existsSync(floorNode);
}

let running: ChildProcess | undefined;

function succeeds([command, ...words]: readonly string[], minutes: number): Promise<boolean> {
  return new Promise((resolve) => {
    // A group of its own, so that the time limit ends grandchildren, too.
    const child = spawn(command!, words, { cwd: root, env: environment, stdio: ["ignore", "inherit", "inherit"], detached: true });
    running = child;
    const timer = setTimeout(() => {
      console.log(`killed: not done after ${minutes} minutes`);
      kill(child);
    }, minutes * 60_000);
    const done = (ok: boolean): void => {
      clearTimeout(timer);
      running = undefined;
      resolve(ok);
    };
    child.on("error", (error) => {
      console.log(`cannot start ${command}: ${error.message}`);
      done(false);
    });
    child.on("exit", (status) => {
      kill(child); // what it left behind
      done(status === 0);
    });
  });
}

function kill(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  } catch {
    // nothing is left of it
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { only: { type: "string" }, all: { type: "boolean" }, list: { type: "boolean" } },
  });
  if (values.list) {
    for (const { name, about, thorough } of stages)
      console.log(`${name.padEnd(12)} ${about}${thorough ? " (with --all, or CI=true)" : ""}`);
    return;
  }
  const names = values.only?.split(",");
  const unknown = names?.filter((name) => !stages.some((stage) => stage.name === name)) ?? [];
  if (unknown.length > 0) throw new Error(`no stage is called ${unknown.join(", ")}; ${again} --list shows them`);
  const thorough = values.all || Boolean(process.env["CI"]);
  const wanted = stages.filter((stage) =>
    names ? names.includes(stage.name) : (thorough || !stage.thorough) && (stage.tests || positionals.length === 0),
  );

  mkdirSync(cache, { recursive: true });
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      if (running !== undefined) kill(running);
      process.exit(1);
    });
  }
  const lines: string[] = [];
  let passed = 0;
  let failed = 0;
  for (const stage of wanted) {
    console.log(`\n== ${stage.name}: ${stage.about}`);
    const started = performance.now();
    const result = await runStage(stage, positionals);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    passed += result.passed;
    failed += result.failed;
    const verdict = result.failed === 0 ? "ok" : "FAILED";
    const hint =
      result.failed === 0
        ? ""
        : `  ->  ${again} --only ${stage.name}${stage.tests && positionals.length > 0 ? ` ${positionals.join(" ")}` : ""}`;
    lines.push(
      `${stage.name.padEnd(12)} ${verdict.padEnd(6)} ${seconds.padStart(6)} s  ${result.passed} passed, ${result.failed} failed${hint}`,
    );
    console.log(lines.at(-1));
  }
  console.log(`\n${lines.join("\n")}\n\n${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
}

await main().catch((error: unknown) => {
  console.error(`npm test: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
});
