import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { limiterMemory } from "../../src/policy/limiter.ts";
import type { Rule } from "../../src/policy/rule.ts";
import type { LimiterWork, Round } from "../support/programs/limiter-worker.ts";

const threads = 3;
const names = Array.from({ length: 8 }, (_, index) => `shared${index}`);
const rule: Rule = {
  clients: ["*"],
  targets: ["*"],
  line: 0,
  limits: { opens: { perSecond: 3_000_000, burst: 3_000 }, connections: 1_000 },
};

let workers: Worker[] = [];
const time = new Float64Array(new SharedArrayBuffer(8));

function start(maxAccounts: number): void {
  time[0] = 1_000;
  const workerData: LimiterWork = { memory: limiterMemory(maxAccounts), time: time.buffer, rule, names };
  workers = Array.from(
    { length: threads },
    () => new Worker(new URL("../support/programs/limiter-worker.ts", import.meta.url), { workerData }),
  );
}

/** All of them at once; the sums over the threads. */
async function round(message: Round): Promise<number[][]> {
  const answers = workers.map(async (worker) => (await once(worker, "message"))[0] as number[]);
  for (const worker of workers) worker.postMessage(message);
  return Promise.all(answers);
}

const sums = (answers: readonly number[][]): number[] => names.map((_, index) => answers.reduce((sum, answer) => sum + answer[index]!, 0));

afterEach(async () => {
  for (const worker of workers) worker.postMessage({ act: "end", strangers: "" } satisfies Round);
  await Promise.all(workers.map((worker) => once(worker, "exit")));
});

test("threads that take what they can get at once get what the rate brings in sum, to the last token", async () => {
  start(200);
  expect(sums(await round({ act: "opens", strangers: "first" }))).toEqual(names.map(() => 3_000)); // the burst
  for (let turn = 0; turn < 30; turn++) {
    time[0]! += 0.75; // in microseconds it is whole, and what it brings is below the burst
    expect(sums(await round({ act: "opens", strangers: `turn${turn}` }))).toEqual(names.map(() => 2_250));
  }
});

test("threads that connect as often as they can have the cap in sum, and again when they gave all back", async () => {
  start(200);
  for (let turn = 0; turn < 10; turn++) {
    expect(sums(await round({ act: "connect", strangers: `turn${turn}` }))).toEqual(names.map(() => 1_000));
    await round({ act: "release", strangers: `end${turn}` });
  }
});

test("threads have one clock", async () => {
  start(10);
  await round({ act: "clock", strangers: "" });
  const begin = systemClock.now();
  const [first, ...others] = await round({ act: "clock", strangers: "" });
  const end = systemClock.now();
  for (const now of [first!, ...others].flat()) {
    expect(now).toBeGreaterThan(begin - 5); // a wall clock may be slewed between the starts
    expect(now).toBeLessThan(end + 5);
  }
});
