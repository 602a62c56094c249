/**
 * `npm run bench`: pipegate and the peers of this machine under the same loads in one run, medians of interleaved rounds.
 *   --rounds N            default 3
 *   --only a,b            subjects (nginx) and loads (up, messages) by name; loads alone mean all subjects
 *   --runtime node|deno   what pipegate runs on; both with node,deno (default node)
 *   --quick               a tenth of the sizes, one round: whether it works, not how fast
 *   --json FILE           every figure of every round
 * Prints tables and what the floors say. A whole run with its usual sizes also writes them into docs/bench.md, between its markers.
 * CPU figures are utime + stime of the subject's processes; wall figures and latencies share the machine with the load.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { root } from "../scripts/tree.ts";
import { createTestCa } from "../test/support/mint.ts";
import { Child, sleep } from "./children.ts";
import { type Load, loads, type Tools } from "./loads.ts";
import { type Measured, report, into } from "./report.ts";
import { find, peers, pipegate, type Running, type Subject, type Surroundings, writeCertificates } from "./subjects.ts";

interface Plan {
  readonly rounds: number;
  readonly subjects: readonly Subject[];
  readonly loads: readonly Load[];
  readonly absent: readonly string[];
  readonly divide: number;
  /** Whether docs/bench.md is written. */
  readonly whole: boolean;
  readonly json: string | undefined;
}

function readPlan(): Plan {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string" },
      only: { type: "string" },
      runtime: { type: "string", default: "node" },
      quick: { type: "boolean", default: false },
      json: { type: "string" },
    },
  });
  const runtimes = values.runtime.split(",").filter((name): name is "node" | "deno" => name === "node" || name === "deno");
  const { found, absent } = peers();
  const subjects = [...runtimes.map(pipegate), ...found];
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

/** Compiles load.c, which every load needs as its back end. */
function compile(folder: string): string {
  const [compiler, to] = [find("cc") ?? find("gcc") ?? find("clang"), join(folder, "load")];
  if (compiler === undefined) throw new Error("no C compiler: apt-get install gcc libssl-dev");
  try {
    execFileSync(compiler, ["-O2", "-o", to, join(root, "bench/load.c"), "-lssl", "-lcrypto"], {
      stdio: ["ignore", "ignore", "pipe"],
      timeout: 60_000,
    });
  } catch (error) {
    throw new Error(
      `bench/load.c does not compile; apt-get install gcc libssl-dev\n${String((error as { stderr?: unknown }).stderr ?? error)}`,
      { cause: error },
    );
  }
  return to;
}

function prepare(folder: string): void {
  const ca = createTestCa({ cn: "bench CA" });
  const [gateway, client] = [ca.gateway(), ca.client("bench")];
  writeCertificates(folder, {
    "ca.pem": ca.certificate,
    "gateway.pem": gateway.certificate,
    "gateway-key.pem": gateway.key,
    "gateway-both.pem": `${gateway.certificate}\n${gateway.key}`,
    "client.pem": client.certificate,
    "client-key.pem": client.key,
  });
}

/** One subject, started afresh, under each load that fits it; loads that want a fresh one get their own. */
async function round(
  subject: Subject,
  {
    plan,
    around,
    tools,
    measured,
  }: { readonly plan: Plan; readonly around: Surroundings; readonly tools: Tools; readonly measured: Measured },
): Promise<void> {
  const fitting = plan.loads.filter((load) => load.kinds.includes(subject.kind));
  let running: Running | undefined;
  const stop = async (): Promise<void> => {
    await running?.stop();
    running = undefined;
  };
  for (const load of fitting) {
    try {
      if (load.fresh) await stop();
      if (running === undefined) {
        running = await subject.start(around);
        await sleep(2_000); // what a start leaves to do (pipegate looks once more at its files) is no part of a load
      }
      const found = await load.run(running, { ...tools, kind: subject.kind });
      for (const [figure, value] of Object.entries(found)) measured.add(subject.name, figure, value);
      process.stderr.write(
        `${subject.name} ${load.name}: ${Object.entries(found)
          .map(([name, value]) => `${name} ${value.toPrecision(4)}`)
          .join(", ")}\n`,
      );
    } catch (error) {
      measured.fail(subject.name, load.name, error instanceof Error ? error.message : String(error));
      process.stderr.write(`${subject.name} ${load.name}: FAILED ${error instanceof Error ? error.message : String(error)}\n`);
      await stop(); // whatever state it is in
    }
  }
  await stop();
}

async function main(): Promise<void> {
  const plan = readPlan();
  const folder = mkdtempSync(join(tmpdir(), "pipegate-bench-"));
  const measured: Measured = into();
  let backend: Child | undefined;
  try {
    prepare(folder);
    const tools: Tools = { load: compile(folder), folder, divide: plan.divide };
    backend = new Child([tools.load, "backend"], { limitMs: 60 * 60_000 });
    const { bulk, echo } = await backend.answer();
    const around: Surroundings = { folder, backend: { bulk: bulk!, echo: echo! } };
    for (let index = 0; index < plan.rounds; index++) {
      process.stderr.write(`-- round ${index + 1} of ${plan.rounds}\n`);
      for (const subject of plan.subjects) await round(subject, { plan, around, tools, measured });
    }
  } finally {
    await backend?.finish();
    rmSync(folder, { recursive: true, force: true });
  }
  const text = report(measured, {
    subjects: plan.subjects,
    absent: plan.absent,
    rounds: plan.rounds,
    command: `npm run bench -- ${process.argv.slice(2).join(" ")}`.replace(/ -- $/, ""),
  });
  process.stdout.write(`${text}\n`);
  if (plan.json !== undefined) writeFileSync(plan.json, `${JSON.stringify(measured.values, null, 2)}\n`);
  if (plan.whole) {
    const file = join(root, "docs/bench.md");
    const [begin, end] = ["<!-- bench: what follows is written by npm run bench -->", "<!-- bench: end -->"];
    const page = readFileSync(file, "utf8");
    const [from, to] = [page.indexOf(begin), page.indexOf(end)];
    if (from < 0 || to < from) throw new Error("docs/bench.md has lost its markers");
    writeFileSync(file, `${page.slice(0, from + begin.length)}\n\n${text}\n${page.slice(to)}`);
  }
  process.exitCode = measured.failures.length > 0 ? 1 : 0;
}

await main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
});
