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
import { find } from "./subjects.ts";

interface Count {
  readonly instructions: number;
  readonly bytes: number;
}
type Counts = Readonly<Record<string, Count>>;

const file = join(root, "bench/counts.json");
/** A count may be so many times the recorded one; bytes so many more, too, where next to none are recorded. */
const BOUND = 1.03;
const BYTES_MORE = 2;
/** Dumps of a loop: what was before it, then its batches (counted.ts, COUNTED). */
const DUMPS = 4;

const predictable = ["--predictable", "--single-threaded", "--hash-seed=1", "--random-seed=1"];

/** Runs the loops under callgrind; their lines, and the totals of its dumps in their order. */
function runCounted(folder: string): { readonly lines: readonly string[]; readonly totals: readonly number[] } {
  const valgrind = find("valgrind");
  if (valgrind === undefined) throw new Error("no valgrind: apt-get install valgrind");
  const dumps = join(folder, "dump");
  const words = ["--tool=callgrind", "--dump-before=getpriority", `--callgrind-out-file=${dumps}`, process.execPath, ...predictable];
  const out = execFileSync(valgrind, [...words, join(root, "bench/counted.ts")], {
    encoding: "utf8",
    env: { PATH: process.env["PATH"] }, // Node's own settings would be counted
    stdio: ["ignore", "pipe", "ignore"],
    timeout: 5 * 60_000,
    killSignal: "SIGKILL",
  });
  const numbers = readdirSync(folder)
    .map((name) => Number(/^dump\.(\d+)$/.exec(name)?.[1]))
    .filter((number) => number > 0)
    .sort((a, b) => a - b);
  const totals = numbers.map((number) => Number(/^totals: (\d+)/m.exec(readFileSync(`${dumps}.${number}`, "utf8"))?.[1]));
  return { lines: out.trim().split("\n"), totals };
}

function count(): Counts {
  const folder = mkdtempSync(join(tmpdir(), "pipegate-counts-"));
  try {
    const { lines, totals } = runCounted(folder);
    if (totals.length !== lines.length * DUMPS) throw new Error(`${totals.length} dumps for ${lines.length} loops`);
    const found = lines.map((line, index): [string, Count] => {
      const { name, operations, bytes } = JSON.parse(line) as { name: string; operations: number; bytes: number };
      const least = Math.min(...totals.slice(index * DUMPS + 1, (index + 1) * DUMPS)); // a compiler may have come into one
      return [name, { instructions: Number((least / operations).toFixed(1)), bytes: Number(bytes.toFixed(1)) }];
    });
    return Object.fromEntries(found);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function main(): void {
  const { values } = parseArgs({ options: { record: { type: "boolean", default: false } } });
  const found = count();
  if (values.record) writeFileSync(file, `${JSON.stringify(found, null, 2)}\n`);
  const recorded = JSON.parse(readFileSync(file, "utf8")) as Counts;
  let failed = false;
  for (const name of new Set([...Object.keys(found), ...Object.keys(recorded)])) {
    const [now, before] = [found[name], recorded[name]];
    const fine =
      now !== undefined &&
      before !== undefined &&
      now.instructions <= before.instructions * BOUND &&
      now.bytes <= before.bytes * BOUND + BYTES_MORE;
    failed ||= !fine;
    const [instructions, bytes] = [`${now?.instructions} (${before?.instructions})`, `${now?.bytes} (${before?.bytes})`];
    console.log(`${name.padEnd(42)} instructions ${instructions}, bytes ${bytes}  ${fine ? "ok" : "BEYOND"}`);
  }
  console.log(`recorded in brackets; at most x ${BOUND}, bytes + ${BYTES_MORE}. Changed for a reason: node bench/counts.ts --record`);
  process.exitCode = failed ? 1 : 0;
}

try {
  main();
} catch (error) {
  process.stderr.write(`bench/counts.ts: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
