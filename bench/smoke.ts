/**
 * The stage `smoke` of the tests: pipegate beside nginx under small loads, as ratios, compared with those of bench/ratios.json.
 * `--record` writes that file anew, from more rounds: do it on a quiet machine, and say in the commit why they changed.
 * Promises: a ratio beyond its bound is measured again in more rounds before it counts; the status is 1 then. Each side's figure is
 * the least CPU of its rounds: what else the machine does only ever adds to it. docs/performance.md says why the bounds are so wide.
 * Leaves to others: small changes (`npm run bench`), counts of the inner loops (bench/counts.ts).
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { root } from "../scripts/tree.ts";
import { fewMessages, framedBulk, opens } from "./framed-loads.ts";
import type { Load } from "./loads.ts";
import { peers } from "./peers.ts";
import { bulk, connections } from "./raw-loads.ts";
import { type Plan, runRounds } from "./rounds.ts";
import { pipegate } from "./subjects.ts";

const file = join(root, "bench/ratios.json");
/** A ratio may be so many times the recorded one. */
const BOUND = 1.6;
const [ROUNDS, AGAIN, DIVIDE] = [2, 2, 5];

const loads: readonly Load[] = [
  { name: "up", kinds: ["pipegate", "proxy"], run: (on, using) => bulk(on, using, "up") },
  { name: "down", kinds: ["pipegate", "proxy"], run: (on, using) => bulk(on, using, "down") },
  { name: "connections", kinds: ["pipegate", "proxy"], run: connections },
  { name: "framed-bulk", kinds: ["pipegate"], run: framedBulk },
  { name: "few-messages", kinds: ["pipegate"], run: fewMessages },
  { name: "opens", kinds: ["pipegate"], run: opens },
];

type Least = (figure: string) => number;

/** CPU s/GB of 256 B messages, of which so many thousand cost a CPU second. */
const perGb = (thousands: number): number => 1e9 / 256 / 1000 / thousands;

const ratios: Readonly<Record<string, (own: Least, nginx: Least) => number>> = {
  "raw up / nginx raw up": (own, nginx) => own("upCpu") / nginx("upCpu"),
  "raw down / nginx raw down": (own, nginx) => own("downCpu") / nginx("downCpu"),
  "connection / nginx connection": (own, nginx) => own("connectionCpu") / nginx("connectionCpu"),
  "framed up / nginx raw up": (own, nginx) => own("framedUpCpu") / nginx("upCpu"),
  "framed down / nginx raw down": (own, nginx) => own("framedDownCpu") / nginx("downCpu"),
  "256 B messages in / nginx raw up": (own, nginx) => perGb(own("in256")) / nginx("upCpu"),
  "256 B messages out / nginx raw down": (own, nginx) => perGb(own("out256")) / nginx("downCpu"),
  "pipe opened / nginx connection": (own, nginx) => own("openCpu") / nginx("connectionCpu"),
  "pipe to echo / nginx connection": (own, nginx) => own("loopCpu") / nginx("connectionCpu"),
};

const values: Record<string, Record<string, number[]>> = {};

async function measure(plan: Plan): Promise<Readonly<Record<string, number>>> {
  const measured = await runRounds(plan);
  if (measured.failures.length > 0) throw new Error(measured.failures.join("; "));
  for (const [subject, found] of Object.entries(measured.values))
    for (const [figure, some] of Object.entries(found)) ((values[subject] ??= {})[figure] ??= []).push(...some);
  const least =
    (subject: string): Least =>
    (figure) =>
      figure.includes("256") ? Math.max(...values[subject]![figure]!) : Math.min(...values[subject]![figure]!);
  const [own, nginx] = [least("pipegate node"), least("nginx")];
  return Object.fromEntries(Object.entries(ratios).map(([name, of]) => [name, Number(of(own, nginx).toPrecision(3))]));
}

function judge(found: Readonly<Record<string, number>>, recorded: Readonly<Record<string, number>>): readonly string[] {
  return Object.keys(ratios).filter((name) => !(found[name]! <= recorded[name]! * BOUND)); // what is not recorded is beyond, too
}

async function main(): Promise<void> {
  const { values: words } = parseArgs({ options: { record: { type: "boolean", default: false } } });
  const nginx = peers().found.find(({ name }) => name === "nginx");
  if (nginx === undefined) throw new Error("no nginx to compare with: apt-get install nginx-light libnginx-mod-stream");
  const plan: Plan = { rounds: words.record ? 5 : ROUNDS, subjects: [pipegate("node"), nginx], loads, divide: DIVIDE };
  let found = await measure(plan);
  if (words.record) return writeFileSync(file, `${JSON.stringify(found, null, 2)}\n`);
  const recorded = JSON.parse(readFileSync(file, "utf8")) as Readonly<Record<string, number>>;
  if (judge(found, recorded).length > 0) {
    process.stderr.write(`beyond its bound: ${judge(found, recorded).join(", ")}; measured again\n`);
    found = await measure({ ...plan, rounds: AGAIN });
  }
  const beyond = judge(found, recorded);
  for (const name of Object.keys(ratios)) {
    const verdict = beyond.includes(name) ? "BEYOND" : "ok";
    console.log(`${name.padEnd(38)} ${found[name]!.toFixed(3)}  recorded ${recorded[name]?.toFixed(3)}, at most x ${BOUND}  ${verdict}`);
  }
  process.exitCode = beyond.length > 0 ? 1 : 0;
}

await main().catch((error: unknown) => {
  process.stderr.write(`bench/smoke.ts: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
