/**
 * The stage `counts` of the tests: instructions and bytes of heap for one operation of the inner loops (bench/counted.ts), compared with
 * bench/counts.json. Valgrind's callgrind counts the instructions of Node with V8 made predictable: nothing of the machine's hurry is
 * in them. `--record` writes the file anew: say in the commit why the counts changed. docs/performance.md says what spread was seen.
 * Promises: the status is 1 when a count is beyond its bound, or when the loops and the file do not name the same.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { root } from "../scripts/tree.ts";
import { countBounds, type Counts, judgeCounts } from "./bounds.ts";
import { find } from "./subjects.ts";

const file = join(root, "bench/counts.json");
/** A compiler or a collection of the heap may come into one of three; V8's bytes are exact only over many. */
const [BATCHES, BATCHES_OF_BYTES] = [3, 150];
/** Of a loop: what was before it, then its batches. */
const DUMPS = BATCHES + 1;

const predictable = ["--predictable", "--single-threaded", "--hash-seed=1", "--random-seed=1"];

interface Line {
  readonly name: string;
  readonly operations: number;
  readonly bytes: number;
}

/** The lines of the loops; `before` stands in front of Node. */
function runLoops(batches: number, before: readonly string[]): readonly Line[] {
  const [command, ...words] = [...before, process.execPath, ...predictable, join(root, "bench/counted.ts"), String(batches)];
  const out = execFileSync(command, words, {
    encoding: "utf8",
    env: { PATH: process.env["PATH"] }, // Node's own settings would be counted
    stdio: ["ignore", "pipe", "ignore"],
    timeout: 5 * 60_000,
    killSignal: "SIGKILL",
  });
  return out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

/** The totals of callgrind's dumps, in the order in which they were written. */
function totals(folder: string): readonly number[] {
  const numbers = readdirSync(folder)
    .map((name) => Number(/^dump\.(\d+)$/.exec(name)?.[1]))
    .filter((number) => number > 0)
    .sort((a, b) => a - b);
  return numbers.map((number) => Number(/^totals: (\d+)/m.exec(readFileSync(join(folder, `dump.${number}`), "utf8"))?.[1]));
}

function countInstructions(folder: string): ReadonlyMap<string, number> {
  const valgrind = find("valgrind");
  if (valgrind === undefined) throw new Error("no valgrind: apt-get install valgrind");
  const words = ["--tool=callgrind", "--dump-before=getpriority", `--callgrind-out-file=${join(folder, "dump")}`];
  const lines = runLoops(BATCHES, [valgrind, ...words]);
  const all = totals(folder);
  if (all.length !== lines.length * DUMPS) throw new Error(`${all.length} dumps for ${lines.length} loops`);
  return new Map(
    lines.map(({ name, operations }, index) => [name, Math.min(...all.slice(index * DUMPS + 1, (index + 1) * DUMPS)) / operations]),
  );
}

function count(): Counts {
  const folder = mkdtempSync(join(tmpdir(), "pipegate-counts-"));
  try {
    const instructions = countInstructions(folder);
    const lines = runLoops(BATCHES_OF_BYTES, []);
    return Object.fromEntries(
      lines.map(({ name, bytes }) => [name, { instructions: Number(instructions.get(name)!.toFixed(1)), bytes: Number(bytes.toFixed(1)) }]),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function main(): void {
  const { values } = parseArgs({ options: { record: { type: "boolean", default: false } } });
  const found = count();
  if (values.record) writeFileSync(file, `${JSON.stringify(found, null, 2)}\n`);
  const recorded = JSON.parse(readFileSync(file, "utf8")) as Counts;
  const judged = judgeCounts(found, recorded);
  for (const { name, now, before, isFine } of judged) {
    const [instructions, bytes] = [`${now?.instructions} (${before?.instructions})`, `${now?.bytes} (${before?.bytes})`];
    console.log(`${name.padEnd(42)} instructions ${instructions}, bytes ${bytes}  ${isFine ? "ok" : "BEYOND"}`);
  }
  console.log(`recorded in brackets; ${countBounds}. Changed for a reason: node bench/counts.ts --record`);
  process.exitCode = judged.every(({ isFine }) => isFine) ? 0 : 1;
}

try {
  main();
} catch (error) {
  process.stderr.write(`bench/counts.ts: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
