import { mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { verifyAudit } from "../../src/audit/verify.ts";
import { systemClock } from "../../src/base/clock.ts";
import type { AuditConfig } from "../../src/config/config.ts";
import { connect } from "../../src/mod.ts";
import { startGateway } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";

const ca = createTestCa();
const alice = ca.client("alice");
let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "pipegate-audit-"))));
afterAll(() => rm(folder, { recursive: true, force: true }));

const config = (file: string, onFailure: AuditConfig["onFailure"] = "continue"): { readonly audit: AuditConfig } => ({
  audit: { file, maxBytes: 1 << 20, keep: 3, onFailure },
});
const dial = (port: number): ReturnType<typeof connect> =>
  connect({ gateway: `127.0.0.1:${port}`, certificate: alice.certificate, key: alice.key, ca: ca.certificate });

test("each open, close and refusal is a line of a whole chain, over a restart and to the very end", async () => {
  const file = join(folder, "whole.jsonl");
  for (let run = 0; run < 2; run++) {
    const setup = await startGateway({ ca, config: config(file) });
    const client = await dial(setup.port);
    const pipe = await client.open("echo");
    await expect(client.open("nowhere")).rejects.toMatchObject({ code: "forbidden" });
    if (run === 0) await pipe.close();
    await setup.close(); // the second time with a pipe that is open
    expect(setup.gateway.status().pipes).toEqual([]);
  }
  const lines = (await readFile(file, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
  expect(lines.map(({ event, reason }) => [event, reason])).toEqual([
    ["pipe open", undefined],
    ["refused", "unknown_target"],
    ["pipe close", expect.stringMatching(/^(?:done|cancelled)$/u)],
    ["pipe open", undefined],
    ["refused", "unknown_target"],
    ["pipe close", "draining"],
  ]);
  for (const line of lines) {
    expect(line).toMatchObject({
      identity: "spiffe://dev/agent/alice",
      fingerprint: alice.fingerprint,
      serial: alice.serial,
      source: expect.stringMatching(/^127\.0\.0\.1:\d+$/u),
    });
  }
  expect(lines[2]).toMatchObject({ target: "echo", backEnd: "echo", rule: 1, bytesIn: 0, bytesOut: 0, durationMs: expect.any(Number) });
  expect(await verifyAudit(file)).toMatchObject({ faults: [], lines: 6 });
});

test.each(["continue", "refuse"] as const)("a log that cannot be written: %s", async (onFailure) => {
  const place = await mkdtemp(join(folder, "taken-"));
  await using setup = await startGateway({
    ca,
    config: config(join(place, "audit.jsonl"), onFailure),
    clock: systemClock,
  });
  const client = await dial(setup.port);
  await client.open("echo");
  await rename(place, `${place}-away`); // as a disk that is gone
  await expect
    .poll(
      async () => {
        await client.open("echo").catch(() => {});
        return setup.gateway.status().audit?.failing;
      },
      { timeout: 10_000, interval: 50 },
    )
    .toEqual(expect.any(String));
  const opened = client.open("echo").then(
    () => "open",
    (error: { code: string }) => error.code,
  );
  expect(await opened).toBe(onFailure === "refuse" ? "internal" : "open");
  expect(setup.lines("audit log failing").length).toBe(1);
  await rename(`${place}-away`, place);
  await expect.poll(() => setup.gateway.status().audit?.failing, { timeout: 10_000 }).toBeUndefined();
  await client.open("echo");
  await client.close();
});
