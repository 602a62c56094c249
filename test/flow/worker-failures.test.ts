import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { verifyAudit } from "../../src/audit/verify.ts";
import type { Config } from "../../src/config/config.ts";
import { connect } from "../../src/mod.ts";
import { targetOf } from "../support/back-ends.ts";
import { seesEnds } from "../support/ends.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { createTestCa } from "../support/mint.ts";
import { startWorkers, type TestWorkers } from "../support/workers.ts";

const ca = createTestCa();
const failing = new URL("../support/programs/failing-worker", import.meta.url);
/** Has its workers, which are `failing`, fail. What came of asking them. */
const fail = ({ gateway }: TestWorkers, how: string): Promise<unknown> =>
  gateway.explain({ certificates: [], target: how }).catch((error: unknown) => error);

describe("a gateway of workers", () => {
  for (const how of ["throw", "reject", "handler"])
    test(`ends when a worker ends by a fault, and says so (${how})`, async () => {
      const setup = await startWorkers({ ca, program: failing });
      void fail(setup, how);
      await expect(setup.gateway.failed).rejects.toThrow(/^worker [12] of 2 has ended, and a gateway never serves with fewer/u);
      await setup.gateway.close();
      expect(setup.lines("worker ended")[0]).toMatchObject({ detail: expect.stringContaining("a fault of the test") });
    });

  test("breaks the pipes of a worker that ends by a fault, so that none looks whole to its back end", async () => {
    const backEnd = await seesEnds();
    const setup = await startWorkers({ ca, program: failing, config: { targets: new Map([["db", targetOf(backEnd)]]) } });
    const { certificate, key } = ca.client("alice");
    const client = await connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate });
    const pipe = await client.open("db");
    await pipe.writable.getWriter().write(new Uint8Array(1_000));
    await vi.waitFor(() => expect(backEnd.received).toBeGreaterThan(0), { timeout: 5_000 });
    void fail(setup, "throw"); // all of them
    await vi.waitFor(() => expect(backEnd.ends).toEqual(["ECONNRESET"]), { timeout: 5_000 });
    await setup.gateway.close();
    await client.close();
    await backEnd.close();
  });

  test("ends when a worker hangs: whoever waits for it hears so, and a drain is over", async () => {
    const clock = new FakeClock(Date.now());
    const setup = await startWorkers({ ca, program: failing, workers: 1, clock });
    const asked = fail(setup, "hang");
    const status = setup.gateway.status().catch((error: unknown) => error);
    const drained = setup.gateway.drain();
    clock.advance(11_000);
    await expect(setup.gateway.failed).rejects.toThrow("worker 1 of 1 has ended");
    for (const answer of [await asked, await status])
      expect(answer).toMatchObject({
        code: "internal",
        message: expect.stringMatching(/^a worker has ended: it has not answered for 10 s$/u),
      });
    await drained;
    expect(setup.lines("worker ended")).toHaveLength(1);
  });

  test("does not start where a worker does not", async () => {
    const gone = new URL("../support/programs/no-such-worker", import.meta.url);
    await expect(startWorkers({ ca, program: gone })).rejects.toMatchObject({
      code: "internal",
      message: expect.stringMatching(/^a worker has ended: /u),
    });
  });

  test("tells in the audit log that a worker has ended, and keeps its chain whole", async () => {
    const folder = await mkdtemp(join(tmpdir(), "pipegate-worker-failures-"));
    const audit = { file: join(folder, "audit.jsonl"), maxBytes: 1 << 20, keep: 1, onFailure: "refuse" } as const;
    const setup = await startWorkers({ ca, program: failing, config: { audit } });
    void fail(setup, "throw");
    await expect(setup.gateway.failed).rejects.toThrow("has ended");
    await setup.gateway.close();
    expect(await readFile(audit.file, "utf8")).toMatch(/"event":"worker ended","detail":"worker [12] of 2 has ended"/u);
    expect(await verifyAudit(audit.file)).toMatchObject({ faults: [] });
    await rm(folder, { recursive: true });
  });

  test("ends when a worker cannot take the config that the other serves by then", async () => {
    await using setup = await startWorkers({ ca, program: failing });
    await fail(setup, "commit");
    const next: Config = { ...setup.config, maxMessageBytes: 2 << 20 };
    await expect(setup.gateway.reload(next)).rejects.toThrow("a fault of the test");
    await expect(setup.gateway.failed).rejects.toThrow("a worker has not taken the config that the others serve");
  });

  test("puts no config in force when a worker ends while it prepares it", async () => {
    await using setup = await startWorkers({ ca, program: failing });
    await fail(setup, "prepare");
    const more: Config["targets"] = new Map([...setup.config.targets, ["more", { kind: "builtin", builtin: "echo" }]]);
    await expect(setup.gateway.reload({ ...setup.config, targets: more })).rejects.toMatchObject({ code: "internal" });
    await expect(setup.gateway.failed).rejects.toThrow("has ended");
    expect(setup.lines("config reloaded")).toEqual([]);
  });
});
