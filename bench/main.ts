/**
 * `npm run bench`: pipegate and the peers of this machine under the same loads in one run, medians of interleaved rounds.
 *   --rounds N            default 3
 *   --only a,b            subjects (nginx) and loads (up, messages) by name; loads alone mean all subjects
 *   --runtime node|deno   what pipegate runs on; both with node,deno (default node)
 *   --workers 1,2         how many threads pipegate has, a subject each (default 1)
 *   --quick               a tenth of the sizes, one round: whether it works, not how fast
 *   --json FILE           every figure of every round
 * Prints tables and what the floors and the targets say. A whole run with its usual sizes also writes the tables and the floors into
 * docs/bench.md, and the targets into docs/performance.md, between their markers.
 * CPU figures are utime + stime of the subject's processes; wall figures and latencies share the machine with the load.
 */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import { loads } from "./loads.ts";
import { peers } from "./peers.ts";
import { report, type Reported, writeInto } from "./report.ts";
import { type Plan, runRounds } from "./rounds.ts";
import { pipegate, plainProxy, type Subject } from "./subjects.ts";
import { targets } from "./targets.ts";

interface Wanted extends Plan {
  readonly absent: readonly string[];
  /** Whether the documents are written. */
  readonly whole: boolean;
  readonly json: string | undefined;
}

function readPlan(): Wanted {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string" },
      only: { type: "string" },
      runtime: { type: "string", default: "node" },
      workers: { type: "string", default: "1" },
      quick: { type: "boolean", default: false },
      json: { type: "string" },
    },
  });
  const runtimes = values.runtime.split(",").filter((name): name is "node" | "deno" => name === "node" || name === "deno");
  const { found, absent } = peers();
  const counts = values.workers.split(",").map(Number);
  const subjects = [...runtimes.flatMap((runtime) => counts.map((workers) => pipegate(runtime, { workers }))), plainProxy, ...found];
  const names = values.only?.split(",") ?? [];
  const known = (subject: Subject): boolean => names.includes(subject.name) || names.includes(subject.name.split(" ")[0]!);
  const unknown = names.filter(
    (name) => !loads.some((load) => load.name === name) && !subjects.some(({ name: one }) => one.split(" ")[0] === name || one === name),
  );
  if (unknown.length > 0 || runtimes.length === 0)
    throw new Error(`there is no load, subject or runtime called ${unknown.join(", ") || values.runtime}`);
  const chosenSubjects = subjects.filter(known);
  const chosenLoads = loads.filter((load) => names.includes(load.name));
  return {
    rounds: Math.max(1, Number(values.rounds ?? (values.quick ? 1 : 3)) || 1),
    subjects: chosenSubjects.length > 0 ? chosenSubjects : subjects,
    loads: chosenLoads.length > 0 ? chosenLoads : loads,
    absent,
    divide: values.quick ? 10 : 1,
    whole: names.length === 0 && !values.quick,
    json: values.json,
  };
}

async function main(): Promise<void> {
  const plan = readPlan();
  const measured = await runRounds(plan);
  const reported: Reported = {
    subjects: plan.subjects,
    absent: plan.absent,
    rounds: plan.rounds,
    command: `npm run bench -- ${process.argv.slice(2).join(" ")}`.replace(/ -- $/, ""),
  };
  const [text, aims] = [report(measured, reported), targets(measured, reported)];
  process.stdout.write(`${text}\n\n${aims}\n`);
  if (plan.json !== undefined) writeFileSync(plan.json, `${JSON.stringify(measured.values, null, 2)}\n`);
  if (plan.whole) {
    writeInto("docs/bench.md", text);
    writeInto("docs/performance.md", aims);
  }
  process.exitCode = measured.failures.length > 0 ? 1 : 0;
}

await main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
});
