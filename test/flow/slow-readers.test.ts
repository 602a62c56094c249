import { expect, test } from "vitest";
import { quantile } from "../support/floods.ts";
import { measureSlowReaders, slowReaderBounds, slowReaderKinds } from "../support/slow-readers.ts";

const MiB = 1 << 20;
const EACH = 67;
/** What a gateway takes once for anybody who comes; among 2,000 it is nothing. */
const ONCE = 8 * MiB;

// The whole of it, 667 of each kind, is `npm run prove:slow`.
test("201 slow readers of bulk back ends hold what is bounded for each, give it back, and another client's echo stays quick", async () => {
  const { cost, left, pipes, cut, alone, beside } = await measureSlowReaders(EACH);
  expect(pipes + cut).toBe(slowReaderKinds.length * EACH);
  const over = slowReaderKinds.filter((kind) => cost[kind].held * EACH > slowReaderBounds[kind].held * EACH + ONCE);
  expect({ over, cost }).toEqual({ over: [], cost });
  const resident = slowReaderKinds.reduce((sum, kind) => sum + cost[kind].resident * EACH, 0);
  expect(resident).toBeLessThan(400 * MiB); // of so few it says less: young garbage is a part of it
  expect(left).toBeLessThan(16 * MiB);
  expect(quantile(beside, 0.5)).toBeLessThan(Math.max(20, 10 * quantile(alone, 0.5)));
}, 60_000);
