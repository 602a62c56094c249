import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openAudit } from "../../src/audit/audit.ts";
import { Workers } from "../../src/workers/leader.ts";
import { configOf } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "pipegate-leader-"))));
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a gateway of workers that was closed while it was opening opens nothing, and leaves nothing open", async () => {
  const audit = { file: join(folder, "audit.jsonl"), maxBytes: 1 << 20, keep: 1, onFailure: "continue" } as const;
  const config = configOf({ config: { workers: 2, audit } }, createTestCa());
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, lines: () => {}, flush: () => {} };
  const gateway = new Workers(config, { log });
  const listening = gateway.listen().catch((error: unknown) => error);
  await gateway.close();
  expect(await listening).toMatchObject({ code: "cancelled" });
  expect(gateway.state).toBe("closed");
  const again = await openAudit({ ...audit, onTrouble: () => {}, onWell: () => {} }); // its lock is free
  await again.close();
});
