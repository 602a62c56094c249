import { expect, test } from "vitest";
import { nodeFlags } from "../../scripts/flags.mjs";
import { facts } from "../../src/runtime/facts.ts";
import { ended } from "../support/run-command.ts";
import { runtimeWords, startProgram } from "../support/this-runtime.ts";

interface Heap {
  /** What V8 asks of compiled code, by its version and flags. */
  readonly started: number;
  readonly loading: number;
  readonly tuned: number;
  readonly nurseryBytes: number;
}

async function heapOf(flags: readonly string[]): Promise<Heap> {
  const { out } = await ended(startProgram("test/support/programs/heap.ts", [], { words: [...runtimeWords, ...flags] }));
  return JSON.parse(out.toString()) as Heap;
}

test.skipIf(facts.name !== "node")(
  "while the command loads, V8 takes what Node has compiled of itself, whatever sizes its heap was given",
  async () => {
    const [plain, ours] = await Promise.all([heapOf([]), heapOf(nodeFlags)]);
    expect(ours.started).not.toBe(plain.started);
    expect(ours.loading).toBe(plain.started);
    expect(ours.tuned).toBe(plain.tuned);
    expect(ours.tuned).not.toBe(ours.loading);
  },
);

test.skipIf(facts.name !== "node")("a heap keeps the sizes that it was given, though they are forgotten", async () => {
  const [plain, ours] = await Promise.all([heapOf([]), heapOf(nodeFlags)]);
  expect(ours.nurseryBytes).toBeLessThanOrEqual(1 << 20);
  expect(plain.nurseryBytes).toBeGreaterThan(1 << 20);
});
