/**
 * The stage `smoke` of the tests: pipegate beside a plain proxy on the same Node under small loads, as ratios, compared with those of
 * bench/ratios.json. `--record` writes that file anew, from more rounds: do it on a quiet machine, and say in the commit why they changed.
 * Promises: a ratio beyond its bound is measured again in more rounds before it counts; the status is 1 then. Each side's figure is
 * the least CPU of its rounds: what else the machine does only ever adds to it. docs/performance.md says why the bounds are so wide.
 * Leaves to others: small changes (`npm run bench`), counts of the inner loops (bench/counts.ts).
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { root } from "../scripts/tree.ts";
import { RATIO_TIMES, ratiosBeyond } from "./bounds.ts";
import { fewMessages, framedBulk, opens } from "./framed-loads.ts";
import type { Load } from "./loads.ts";
import { bulk, connections } from "./raw-loads.ts";
import { type Plan, runRounds } from "./rounds.ts";
import { pipegate, plainProxy } from "./subjects.ts";

const file = join(root, "bench/ratios.json");
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

const ratios: Readonly<Record<string, (own: Least, plain: Least) => number>> = {
  "raw up / plain raw up": (own, plain) => own("upCpu") / plain("upCpu"),
  "raw down / plain raw down": (own, plain) => own("downCpu") / plain("downCpu"),
  "connection / plain connection": (own, plain) => own("connectionCpu") / plain("connectionCpu"),
  "framed up / plain raw up": (own, plain) => own("framedUpCpu") / plain("upCpu"),
  "framed down / plain raw down": (own, plain) => own("framedDownCpu") / plain("downCpu"),
  "256 B messages in / plain raw up": (own, plain) => perGb(own("in256")) / plain("upCpu"),
  "256 B messages out / plain raw down": (own, plain) => perGb(own("out256")) / plain("downCpu"),
  "pipe opened / plain connection": (own, plain) => own("openCpu") / plain("connectionCpu"),
  "pipe to echo / plain connection": (own, plain) => own("loopCpu") / plain("connectionCpu"),
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
  const [own, plain] = [least("pipegate node"), least(plainProxy.name)];
  return Object.fromEntries(Object.entries(ratios).map(([name, of]) => [name, Number(of(own, plain).toPrecision(3))]));
}

async function main(): Promise<void> {
  const { values: words } = parseArgs({ options: { record: { type: "boolean", default: false } } });
  const plan: Plan = { rounds: words.record ? 5 : ROUNDS, subjects: [pipegate("node"), plainProxy], loads, divide: DIVIDE };
  let found = await measure(plan);
  if (words.record) return writeFileSync(file, `${JSON.stringify(found, null, 2)}\n`);
  const recorded = JSON.parse(readFileSync(file, "utf8")) as Readonly<Record<string, number>>;
  let beyond = ratiosBeyond(found, recorded);
  if (beyond.length > 0) {
    process.stderr.write(`beyond its bound: ${beyond.join(", ")}; measured again\n`);
    found = await measure({ ...plan, rounds: AGAIN });
    beyond = ratiosBeyond(found, recorded);
  }
  for (const name of Object.keys(ratios)) {
    const verdict = beyond.includes(name) ? "BEYOND" : "ok";
    console.log(
      `${name.padEnd(38)} ${found[name]!.toFixed(3)}  recorded ${recorded[name]?.toFixed(3)}, at most x ${RATIO_TIMES}  ${verdict}`,
    );
  }
  process.exitCode = beyond.length > 0 ? 1 : 0;
}

await main().catch((error: unknown) => {
  process.stderr.write(`bench/smoke.ts: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
