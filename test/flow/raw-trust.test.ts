import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Config } from "../../src/config/config.ts";
import type { TargetOptions } from "../../src/target/target.ts";
import { type BackEnd, echo, startBackEnd, targetOf } from "../support/back-ends.ts";
import { startGateway, trustIn, type TestGateway } from "../support/gateway.ts";
import { createTestCa, type Issued } from "../support/mint.ts";
import { opensslClient, type OpensslClient, sawBreak } from "../support/openssl-client.ts";
import { ended, type Ended } from "../support/run-command.ts";
import { expectToldOnce } from "../support/told-once.ts";

const [ca, other] = [createTestCa({ cn: "home" }), createTestCa({ cn: "away" })];
const [mallory, guest, bystander] = [ca.client("mallory"), other.client("guest"), ca.client("bystander")];
let backEnd: BackEnd;
let folder: string;
const strangers: OpensslClient[] = [];
beforeAll(async () => {
  backEnd = await startBackEnd(echo);
  folder = await mkdtemp(join(tmpdir(), "pipegate-raw-trust-"));
});
afterAll(async () => {
  for (const one of strangers) one.remove();
  await backEnd.close();
  await rm(folder, { recursive: true });
});

const target = (): TargetOptions => targetOf(backEnd);
const trusted = (changes: Partial<Parameters<typeof trustIn>[0]> = {}): Config["trust"] =>
  trustIn({ ca: [ca.certificate, other.certificate], ...changes });
const rules = (clients: readonly string[], targets: readonly string[] = ["*"]): Config["rules"] => [
  { clients, targets, limits: {}, line: 1 },
];
let audits = 0;
const start = (): Promise<TestGateway> =>
  startGateway({
    ca,
    targets: { echo: target(), more: target() },
    raw: ["echo", "more"],
    config: { trust: trusted(), audit: { file: join(folder, `${++audits}.jsonl`), maxBytes: 1 << 20, keep: 1, onFailure: "continue" } },
  });

/** Openssl, which tells a break from an end on both runtimes: it sends anew whenever something came back. */
interface RawPump {
  readonly child: ChildProcessWithoutNullStreams;
  readonly over: Promise<Ended>;
  /** Resolves when something came back that was sent after this call. */
  round(): Promise<void>;
}

async function startRaw(port: number, who: Issued): Promise<RawPump> {
  const stranger = opensslClient(ca.certificate, who);
  strangers.push(stranger);
  const child = stranger.start(port);
  child.stdin.on("error", () => {});
  let came = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    came += chunk.length;
    child.stdin.write(chunk.subarray(0, 4_096));
  });
  child.stdin.write(Buffer.alloc(4_096, "x"));
  const round = async (): Promise<void> => {
    const before = came;
    await expect.poll(() => came, { timeout: 10_000 }).toBeGreaterThan(before + 8_192);
  };
  const over = ended(child);
  await round();
  return { child, over, round };
}

const endings: readonly (readonly [string, string, Issued, () => Partial<Config>])[] = [
  ["it is revoked", "revoked", mallory, () => ({ trust: trusted({ crl: [Buffer.from(ca.crl({ revoked: [mallory.serial] }).pem)] }) })],
  ["it is denied", "revoked", mallory, () => ({ trust: trusted({ deny: [mallory.fingerprint] }) })],
  ["its CA is removed", "unknown_issuer", guest, () => ({ trust: trusted({ ca: [ca.certificate] }) })],
  ["its rule is deleted", "forbidden", mallory, () => ({ rules: rules(["spiffe://dev/agent/bystander"]) })],
  [
    "its rule no longer names the target",
    "forbidden",
    mallory,
    () => ({ rules: [...rules(["spiffe://dev/agent/bystander"]), ...rules(["*"], ["more"])] }),
  ],
];

describe("a raw pipe that carries bytes", () => {
  test.each(endings)(
    "breaks off, never ends, when %s: %s; another's goes on, and nothing is told twice",
    async (_, reason, victim, change) => {
      await using setup = await start();
      const pump = await startRaw(setup.rawPorts[0]!, victim);
      const good = await startRaw(setup.rawPorts[0]!, bystander);
      const at = performance.now();
      await setup.gateway.reload({ ...setup.config, ...change() });
      expect(sawBreak(await pump.over)).toBe(true);
      expect(performance.now() - at).toBeLessThan(5_000);
      await good.round();
      await expect
        .poll(() => setup.lines("connection close"))
        .toEqual([
          expect.objectContaining({
            reason,
            fingerprint: victim.fingerprint,
            protocol: "raw",
            pipes: 1,
            detail: expect.stringMatching(/\w/u),
          }),
        ]);
      expect(setup.lines("pipe close")).toEqual([expect.objectContaining({ reason, fingerprint: victim.fingerprint, target: "echo" })]);
      expect(setup.lines("refused")).toEqual([]);
      await expectToldOnce(setup, setup.config.audit!.file);
      await good.over;
    },
  );

  test("breaks off when its target is removed, and when it expires", async () => {
    await using setup = await start();
    const notAfter = Math.ceil(Date.now() / 1_000) * 1_000 + 2_000;
    const soon = ca.issue({ uri: "spiffe://dev/agent/soon", notAfter });
    const expiring = await startRaw(setup.rawPorts[0]!, soon);
    const pump = await startRaw(setup.rawPorts[1]!, mallory);
    await setup.gateway.reload({ ...setup.config, targets: new Map([["echo", target()]]), listeners: setup.config.listeners.slice(0, 2) });
    expect(sawBreak(await pump.over)).toBe(true);
    expect(sawBreak(await expiring.over)).toBe(true);
    await expect
      .poll(() => setup.lines("pipe close").map(({ reason, identity }) => [reason, identity]))
      .toEqual([
        ["unknown_target", "spiffe://dev/agent/mallory"],
        ["cert_expired", "spiffe://dev/agent/soon"],
      ]);
    await expectToldOnce(setup, setup.config.audit!.file);
  });
});
