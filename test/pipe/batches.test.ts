import fc from "fast-check";
import { expect, test } from "vitest";
import { pipeSteps, PipeWorld } from "../support/pipe-model.ts";
import { kept } from "../target/frame-reference.ts";

const RUNS = Number(process.env["PIPEGATE_RUNS"] ?? 60);

test.each([
  ["nothing breaks", false],
  ["anything happens within a delivery", true],
])(
  "messages of pipes arrive in order, whole and counted, when %s",
  async (_name, rare) => {
    let clean = 0;
    const start = fc.record({
      framing: fc.constantFrom(...kept),
      chunkSize: fc.constantFrom(0, 0, 1_000, 16_384, 65_536),
      gated: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(pipeSteps(rare), { minLength: 10, maxLength: 60 }), start, async (steps, how) => {
        const world = new PipeWorld(how);
        for (const each of steps) await world.do(each);
        await world.finish();
        expect(world.faults()).toEqual([]);
        for (const { client } of world.lines) if (client.broken === undefined) clean++;
      }),
      { numRuns: RUNS },
    );
    expect(clean).toBeGreaterThan(RUNS);
  },
  Math.max(30_000, RUNS * 400),
);
