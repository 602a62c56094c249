/**
 * The run of a bench: one back end, then round after round each subject under each load that fits it, so that whatever the machine does
 * meanwhile meets all of them. Promises: a load that fails is told and the rest goes on; nothing is left behind.
 * Leaves to others: what is asked for, what the figures say.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { root } from "../scripts/tree.ts";
import { createTestCa } from "../test/support/mint.ts";
import { Child, sleep } from "./children.ts";
import type { Tools } from "./driving.ts";
import type { Load } from "./loads.ts";
import { into, type Measured } from "./measured.ts";
import { find, type Running, type Subject, type Surroundings, writeCertificates } from "./subjects.ts";

export interface Plan {
  readonly rounds: number;
  readonly subjects: readonly Subject[];
  readonly loads: readonly Load[];
  /** Divides the sizes. */
  readonly divide: number;
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
    loads,
    around,
    tools,
    measured,
  }: { readonly loads: readonly Load[]; readonly around: Surroundings; readonly tools: Tools; readonly measured: Measured },
): Promise<void> {
  const fitting = loads.filter((load) => load.kinds.includes(subject.kind));
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
      const what = error instanceof Error ? error.message : String(error);
      measured.fail(subject.name, load.name, what.replaceAll(`${root}/`, ""));
      process.stderr.write(`${subject.name} ${load.name}: FAILED ${what}\n`);
      await stop(); // whatever state it is in
    }
  }
  await stop();
}

export async function runRounds({ rounds, subjects, loads, divide }: Plan): Promise<Measured> {
  const folder = mkdtempSync(join(tmpdir(), "pipegate-bench-"));
  const measured = into();
  let backend: Child | undefined;
  try {
    prepare(folder);
    const tools: Tools = { load: compile(folder), folder, divide };
    backend = new Child([tools.load, "backend"], { limitMs: 60 * 60_000 });
    const { bulk, echo } = await backend.answer();
    const around: Surroundings = { folder, backend: { bulk: bulk!, echo: echo! } };
    for (let index = 0; index < rounds; index++) {
      process.stderr.write(`-- round ${index + 1} of ${rounds}\n`);
      for (const subject of subjects) await round(subject, { loads, around, tools, measured });
    }
  } finally {
    await backend?.finish();
    rmSync(folder, { recursive: true, force: true });
  }
  return measured;
}
