import { expect, test } from "vitest";
import { within } from "../../src/base/clock.ts";
import { FakeClock } from "../support/fake-clock.ts";

test("what ends in time is waited for, and leaves no timer behind, also when it fails", async () => {
  const clock = new FakeClock();
  await within(Promise.resolve(), { ms: 1_000, clock });
  await expect(within(Promise.reject(new Error("it failed")), { ms: 1_000, clock })).rejects.toThrow("it failed");
  expect(clock.waiting).toBe(0);
});

test("what does not end is waited for until its time, and no longer", async () => {
  const clock = new FakeClock();
  let isOver = false;
  const waited = within(new Promise(() => {}), { ms: 1_000, clock }).then(() => (isOver = true));
  clock.advance(999);
  await new Promise((resolve) => setImmediate(resolve));
  expect(isOver).toBe(false);
  clock.advance(1);
  await waited;
});
