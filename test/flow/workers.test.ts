import { mkdtemp, readFile, rename, rm, stat } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { verifyAudit } from "../../src/audit/verify.ts";
import type { Config } from "../../src/config/config.ts";
import { Gateway } from "../../src/gateway.ts";
import { connect, type Client, type PipegateError } from "../../src/mod.ts";
import { Workers } from "../../src/workers/leader.ts";
import { startBackEnd, targetOf, type BackEnd } from "../support/back-ends.ts";
import { trustIn } from "../support/gateway.ts";
import { freePort, listenerAt } from "../support/listeners.ts";
import { createTestCa, type Issued } from "../support/mint.ts";
import { hashing, startPump } from "../support/pump.ts";
import { startWorkers, type TestWorkers } from "../support/workers.ts";

const ca = createTestCa();
const alice = ca.client("alice");
let folder: string;
let backEnd: BackEnd;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pipegate-workers-"));
  backEnd = await startBackEnd(hashing);
});
afterAll(async () => {
  await backEnd.close();
  await rm(folder, { recursive: true, force: true });
});

const hash = (): Config["targets"] => new Map([["hash", targetOf(backEnd)]]);
const dial = (port: number, own: Issued = alice): Promise<Client> =>
  connect({ gateway: `127.0.0.1:${port}`, certificate: own.certificate, key: own.key, ca: ca.certificate });
const times = <T>(count: number, act: (n: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, (_, n) => act(n)));
/** What came of each, and the codes of those that were refused. */
const settle = async <T>(count: number, act: (n: number) => Promise<T>): Promise<{ readonly came: T[]; readonly failed: string[] }> => {
  const ends = await Promise.allSettled(Array.from({ length: count }, (_, n) => act(n)));
  return {
    came: ends.flatMap((end) => (end.status === "fulfilled" ? [end.value] : [])),
    failed: ends.flatMap((end) => (end.status === "rejected" ? [(end.reason as PipegateError).code] : [])),
  };
};
/** So many that both workers have some: all fall on one side once in a million. */
const many = 20;
/** Waits for what other threads bring about. */
const until = (holds: () => Promise<void> | void): Promise<void> => vi.waitFor(holds, { timeout: 10_000, interval: 20 });

async function expectBothServe({ gateway }: TestWorkers): Promise<void> {
  const { workers } = await gateway.status();
  expect(workers).toHaveLength(2);
  for (const worker of workers!) expect(worker.connections).toBeGreaterThan(0);
}

describe("a gateway of two workers", () => {
  test("tries the door of each, spreads connections over both, and tells of all of them in one status", async () => {
    await using setup = await startWorkers({ ca, config: { selfTest: "required" } });
    const clients = await times(many, () => dial(setup.port));
    const pipes = await Promise.all(clients.map((client) => client.open("echo")));
    await expectBothServe(setup);
    const status = await setup.gateway.status();
    expect(status).toMatchObject({ state: "ready", connections: many, connectionsTotal: many, version: 1 });
    expect(new Set(status.pipes.map(({ id }) => id)).size).toBe(many);
    expect(status.identities).toMatchObject([{ identity: "spiffe://dev/agent/alice", connections: many }]);
    const metrics = await setup.gateway.metrics();
    expect(metrics).toContain(`pipegate_connections ${many}`);
    expect(metrics).toContain(`pipegate_pipes{target="echo"} ${many}`);
    await Promise.all(pipes.map((pipe) => pipe.close()));
    await Promise.all(clients.map((client) => client.close()));
    expect(setup.lines("pipe open")).toHaveLength(many);
  });

  test("has its port for itself: neither another gateway nor one with workers starts there, and the first goes on", async () => {
    await using setup = await startWorkers({ ca });
    const config = { ...setup.config, listeners: [listenerAt({ kind: "tcp", host: "127.0.0.1", port: setup.port })] };
    const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, lines: () => {}, flush: () => {} };
    const taken = { code: "config", message: `127.0.0.1:${setup.port} is already in use` };
    await expect(new Workers(config, { log }).listen()).rejects.toMatchObject(taken);
    await expect(new Gateway(config).listen()).rejects.toMatchObject(taken);
    for (const client of await times(many, () => dial(setup.port))) await client.close();
    expect((await setup.gateway.status()).connectionsTotal).toBe(many);
  });

  test("puts another config in force in both", async () => {
    await using setup = await startWorkers({ ca });
    const clients = await times(many, () => dial(setup.port));
    await expectBothServe(setup);
    const added = await freePort();
    const reloaded = await setup.gateway.reload({
      ...setup.config,
      listeners: [...setup.config.listeners, listenerAt({ kind: "tcp", host: "127.0.0.1", port: added })],
      targets: new Map([...setup.config.targets, ["more", { kind: "builtin", builtin: "echo" }]]),
    });
    expect(reloaded).toEqual({ version: 2, changes: [`listener 127.0.0.1:${added} opened`, "target more"] });
    for (const client of clients) await (await client.open("more")).close();
    for (const client of await times(many, () => dial(added))) await (await client.open("more")).close();
    expect(setup.lines("config reloaded")).toEqual([reloaded]);
    expect((await setup.gateway.status()).listeners).toEqual([`127.0.0.1:${setup.port}`, `127.0.0.1:${added}`]);
  });

  test("takes its own port over where its address is written in another way, and refuses to share that of another process", async () => {
    await using setup = await startWorkers({ ca });
    const at = (host: string, port: number): Config => ({ ...setup.config, listeners: [listenerAt({ kind: "tcp", host, port })] });
    for (const host of ["localhost", "0.0.0.0", "127.0.0.1"]) {
      await setup.gateway.reload(at(host, setup.port));
      for (const client of await times(many, () => dial(setup.port))) await client.close();
    }
    const other = createServer();
    await new Promise<void>((resolve) => other.listen({ host: "127.0.0.1", port: 0, reusePort: true }, resolve));
    const { port } = other.address() as { readonly port: number };
    const taken = { code: "config", message: `127.0.0.1:${port} is already in use` };
    await expect(setup.gateway.reload(at("127.0.0.1", port))).rejects.toMatchObject(taken);
    other.close();
    for (const client of await times(many, () => dial(setup.port))) await client.close();
  });

  test("takes another config in both or in none: what one cannot have, the other does not put in force", async () => {
    await using setup = await startWorkers({ ca });
    const clients = await times(many, () => dial(setup.port));
    await expectBothServe(setup);
    const added = await freePort();
    const next: Config = {
      ...setup.config,
      listeners: [
        ...setup.config.listeners,
        listenerAt({ kind: "tcp", host: "127.0.0.1", port: added }),
        listenerAt({ kind: "unix", path: join(folder, "no", "such.sock") }), // the first worker alone would serve it
      ],
      targets: new Map([...setup.config.targets, ["more", { kind: "builtin", builtin: "echo" }]]),
    };
    await expect(setup.gateway.reload(next)).rejects.toMatchObject({ code: "config", message: expect.stringContaining("does not exist") });
    for (const client of clients) await expect(client.open("more")).rejects.toMatchObject({ code: "forbidden" });
    await expect(dial(added)).rejects.toMatchObject({ code: "unreachable" });
    expect((await setup.gateway.status()).version).toBe(1);
    // Nothing of it stays: the same without what was wrong is taken.
    const { changes } = await setup.gateway.reload({ ...next, listeners: next.listeners.slice(0, 2) });
    expect(changes).toEqual([`listener 127.0.0.1:${added} opened`, "target more"]);
    for (const client of clients) await (await client.open("more")).close();
  });

  test("ends the pipes of a revoked client in both, and no others", async () => {
    await using setup = await startWorkers({ ca, config: { targets: hash() } });
    const mallory = ca.client("mallory");
    const start = (own: Issued) => startPump({ port: setup.port, ca: ca.certificate, own });
    const bad = await times(many, () => start(mallory));
    const good = await times(3, () => start(alice));
    await expectBothServe(setup);
    await setup.gateway.reload({
      ...setup.config,
      trust: trustIn({ ca: [ca.certificate], crl: [Buffer.from(ca.crl({ revoked: [mallory.serial] }).pem)] }),
    });
    for (const pump of bad) expect(await pump.over).toBe("revoked");
    for (const pump of good) expect(await pump.finish()).toBe("whole");
    await expect(dial(setup.port, mallory)).rejects.toMatchObject({ code: "revoked" });
  });

  test("drains both: pipes end whole, nobody new is taken, and all is over with the last", async () => {
    await using setup = await startWorkers({ ca, config: { targets: hash() } });
    const pumps = await times(many, () => startPump({ port: setup.port, ca: ca.certificate, own: alice }));
    await expectBothServe(setup);
    const drained = setup.gateway.drain(20_000);
    await until(() => expect(dial(setup.port)).rejects.toMatchObject({ code: "unreachable" }));
    expect(await setup.gateway.status()).toMatchObject({ state: "draining", connections: many });
    for (const pump of pumps) expect(await pump.finish()).toBe("whole");
    await drained;
    expect(setup.gateway.state).toBe("closed");
    expect(setup.lines("connection close")).toHaveLength(many);
  });

  test("serves a unix socket by the first of them, for owner and group alone from its birth", async () => {
    const path = join(folder, "first.sock");
    await using setup = await startWorkers({ ca, config: { listeners: [listenerAt({ kind: "unix", path })] } });
    expect((await stat(path)).mode & 0o777).toBe(0o660);
    expect((await setup.gateway.status()).listeners).toEqual([`unix:${path}`]);
    const client = await connect({ gateway: `unix:${path}`, serverName: "localhost", ...clientFiles(alice) });
    await (await client.open("echo")).close();
    await client.close();
  });

  test("writes one audit log, whose chain is whole, and counts refusals of both under one cap", async () => {
    const file = join(folder, "audit.jsonl");
    const setup = await startWorkers({ ca, config: { audit: { file, maxBytes: 1 << 20, keep: 3, onFailure: "continue" } } });
    const clients = await times(many, () => dial(setup.port));
    await expectBothServe(setup);
    await Promise.all(clients.map(async (client) => (await client.open("echo")).close()));
    const asked = 15;
    for (const client of clients) await Promise.allSettled(Array.from({ length: asked }, () => client.open("nowhere")));
    await setup.gateway.close();
    const lines = (await readFile(file, "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
    expect(await verifyAudit(file)).toMatchObject({ faults: [], lines: lines.length });
    for (const event of ["pipe open", "pipe close"]) expect(lines.filter((line) => line["event"] === event)).toHaveLength(many);
    const refused = lines.filter((line) => line["event"] === "refused");
    const left = refused.reduce((sum, { suppressed }) => sum + ((suppressed as number | undefined) ?? 0), 0);
    const told = refused.filter(({ reason }) => reason !== undefined);
    expect(told.length + left).toBe(many * asked);
    expect(told.length).toBeLessThan(100 + 20 * 10); // a burst of 100, then 20 a second: for both together
    expect(setup.lines("refused")).toHaveLength(refused.length);
    expect(told[0]).toMatchObject({
      identity: "spiffe://dev/agent/alice",
      serial: alice.serial,
      reason: "unknown_target",
      target: "nowhere",
    });
  });

  test("opens no pipe in either while the audit log cannot be written, where the config says so", async () => {
    const [place, away] = [await mkdtemp(join(folder, "taken-")), join(folder, "away")];
    const audit = { file: join(place, "audit.jsonl"), maxBytes: 1 << 20, keep: 3, onFailure: "refuse" } as const;
    await using setup = await startWorkers({ ca, config: { audit } });
    const clients = await times(many, () => dial(setup.port));
    await expectBothServe(setup);
    const asked = (): Promise<readonly string[]> =>
      times(many, (n) =>
        clients[n]!.open("echo").then(
          () => "open",
          (error: PipegateError) => error.code,
        ),
      );
    expect(await asked()).toEqual(Array(many).fill("open"));
    await rename(place, away); // as a disk that is gone
    await until(async () => expect(await asked()).toEqual(Array(many).fill("internal")));
    // A reload may say otherwise, but that holds from the next start on.
    await setup.gateway.reload({ ...setup.config, audit: { ...audit, onFailure: "continue" } });
    await rename(away, place);
    await until(async () => expect(await asked()).toEqual(Array(many).fill("open")));
    await rename(place, away);
    await until(async () => expect(await asked()).toEqual(Array(many).fill("internal")));
    await Promise.all(clients.map((client) => client.close()));
  });

  test("holds the limits of a rule exactly, for both together", async () => {
    const limits = { connections: 30, pipes: 40, opens: { perSecond: 1, burst: 50 } };
    await using setup = await startWorkers({ ca, rules: [{ clients: ["*"], limits }] });
    const clients = (await settle(50, () => dial(setup.port))).came;
    expect(clients).toHaveLength(30);
    await expectBothServe(setup);
    const started = performance.now();
    const opened = await settle(60, (n) => clients[n % clients.length]!.open("echo"));
    const brought = Math.floor((performance.now() - started) / 1_000); // by the rate, meanwhile
    expect(opened.came).toHaveLength(40);
    const rated = opened.failed.filter((code) => code === "rate_limited").length;
    expect(rated).toBeGreaterThanOrEqual(10 - brought); // of 60 opens 50 and what the rate brought were charged
    expect(rated).toBeLessThanOrEqual(10);
    expect(opened.failed).toHaveLength(20);
    await Promise.all(opened.came.map((pipe) => pipe.close()));
    await Promise.all(clients.map((client) => client.close()));
    await until(async () => (await dial(setup.port)).close()); // all was given back
  });

  test("carries bytes at the rate of a rule, for both together", async () => {
    const limits = { bytes: { perSecond: 1 << 20, burst: 1 << 20 } };
    await using setup = await startWorkers({ ca, config: { targets: hash() }, rules: [{ clients: ["*"], limits }] });
    const clients = await times(many, () => dial(setup.port));
    await expectBothServe(setup);
    const pipes = await Promise.all(clients.map((client) => client.open("hash")));
    const started = performance.now();
    const each = 128 << 10; // 2.5 MiB together: the burst, and what 1.5 s bring
    await Promise.all(
      pipes.map(async (pipe) => {
        const writer = pipe.writable.getWriter();
        await writer.write(new Uint8Array(each));
        await writer.close();
        for await (const _ of pipe.readable);
      }),
    );
    expect((performance.now() - started) / 1_000).toBeGreaterThan(1.4);
    await Promise.all(clients.map((client) => client.close()));
  });

  test("counts handshakes of one address in both together", async () => {
    await using setup = await startWorkers({ ca });
    const sockets = Array.from({ length: 100 }, () => createConnection({ host: "127.0.0.1", port: setup.port }).on("error", () => {}));
    await until(async () => {
      const { refusals } = await setup.gateway.status();
      expect(refusals["too_many_connections"]).toBeGreaterThanOrEqual(36); // 64 may wait; for the last place both may have given way
    });
    for (const socket of sockets) socket.destroy();
    await until(async () => (await dial(setup.port)).close());
  });

  test("keeps an address out of both for what it did at either", async () => {
    const penalties = { mode: "enforce", thresholdMs: 15_000, longestMs: 600_000, exempt: [] } as const;
    await using setup = await startWorkers({ ca, config: { penalties } });
    for (let n = 0; n < 9; n++) {
      const socket = createConnection({ host: "127.0.0.1", port: setup.port }).on("error", () => {});
      socket.resume().end("no TLS at all\r\n\r\n"); // 2 s each, at one or the other
      await new Promise((resolve) => socket.once("close", resolve));
    }
    await until(async () => {
      const ends = await Promise.allSettled(Array.from({ length: many }, () => dial(setup.port)));
      for (const end of ends) if (end.status === "fulfilled") await end.value.close();
      expect(ends.map(({ status }) => status)).toEqual(Array(many).fill("rejected"));
    });
    expect((await setup.gateway.status()).refusals).toMatchObject({ not_tls: expect.any(Number), rate_limited: expect.any(Number) });
  });
});

function clientFiles({ certificate, key }: Issued): { readonly certificate: string; readonly key: string; readonly ca: string } {
  return { certificate, key, ca: ca.certificate };
}
