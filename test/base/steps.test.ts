import { expect, test } from "vitest";
import { atOnce, paced, type Steps } from "../../src/base/steps.ts";

function* counting(steps: number, { busyMs = 0 } = {}): Steps<number> {
  for (let at = 0; at < steps; at++) {
    for (const until = performance.now() + busyMs; performance.now() < until;);
    yield;
  }
  return steps;
}

function* failing(): Steps<never> {
  yield;
  throw new Error("no");
}

test("work in steps comes to the same at once and paced", async () => {
  expect([atOnce(counting(1000)), await paced(counting(1000)), atOnce(counting(0)), await paced(counting(0))]).toEqual([1000, 1000, 0, 0]);
});

test("what it throws comes out", async () => {
  expect(() => atOnce(failing())).toThrow("no");
  await expect(paced(failing())).rejects.toThrow("no");
});

test("paced, it lets other events in between", async () => {
  let turns = 0;
  let done = false;
  const turn = (): void => {
    turns++;
    if (!done) setImmediate(turn);
  };
  setImmediate(turn);
  await paced(counting(20, { busyMs: 5 }));
  done = true;
  expect(turns).toBeGreaterThanOrEqual(5); // 100 ms of work, a turn after each second step
});
