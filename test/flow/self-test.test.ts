import { connect as connectTcp } from "node:net";
import { expect, test, vi } from "vitest";
import { configDefaults, type Config } from "../../src/config/config.ts";
import { Gateway } from "../../src/gateway.ts";
import { connect } from "../../src/mod.ts";
import { type Judging, overlooks } from "../support/careless-judge.ts";
import { startGateway } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";

vi.mock("../../src/identity/judge.ts", async (original) => {
  const { careless } = await import("../support/careless-judge.ts"); // this runs before the imports above
  return careless(await original<Judging>());
});

const ca = createTestCa();

/** Every address pays for what it fails at, ours too, and soon too much. */
const strict: Partial<Config> = {
  selfTest: "required",
  penalties: { ...configDefaults.penalties, mode: "enforce", thresholdMs: 8_000, exempt: [] },
};

test("a gateway that has tried its own doors has logged, counted and charged nothing for it, and serves", async () => {
  await using setup = await startGateway({ ca, raw: ["echo", "echo", "echo"], config: strict });
  expect(setup.log.map(({ event }) => event)).toEqual([]);
  expect(setup.gateway.status()).toMatchObject({ state: "ready", connections: 0, connectionsTotal: 0, refusals: {}, identities: [] });
  const { certificate, key } = ca.client("alice");
  const client = await connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate });
  await client.open("echo");
  await client.close();
});

test("who comes while a gateway tries its doors is not served yet, and is told so", async () => {
  const free = await startGateway({ ca });
  await free.close();
  const listener = { serverNames: new Map<string, string>(), alpn: [] } as const;
  const listeners = [free.port, 0, 0, 0].map((port) => ({ ...listener, listen: { kind: "tcp", host: "127.0.0.1", port } as const }));
  const { certificate, key } = ca.client("alice");
  const knock = (): Promise<string> =>
    connect({ gateway: `127.0.0.1:${free.port}`, certificate, key, ca: ca.certificate }).then(
      async (client) => {
        await client.close();
        return "in";
      },
      ({ code }: { code: string }) => code,
    );
  const answers: string[] = [];
  const knocking = (async () => {
    while (answers.at(-1) !== "in") answers.push(await knock());
  })();
  await using setup = await startGateway({ ca, config: { selfTest: "required", listeners } });
  expect(setup.lines("connection open")).toEqual([]); // ready is it only now
  await knocking;
  expect(new Set(answers)).toEqual(new Set(["unreachable", "draining", "in"]));
  expect(new Set(setup.lines("refused").map(({ reason }) => reason))).toEqual(new Set(["draining"]));
});

test("a gateway that is told to skip it says so at the start", async () => {
  await using setup = await startGateway({ ca, config: { selfTest: "skip" } });
  expect(setup.log).toEqual([expect.objectContaining({ level: "warn", event: "self-test skipped" })]);
});

test("a gateway whose guard overlooks a revocation does not serve, and leaves no port open", async () => {
  const taken = await startGateway({ ca });
  const { port } = taken;
  await taken.close();
  overlooks.revocation = true;
  try {
    const listeners = [{ listen: { kind: "tcp", host: "127.0.0.1", port }, serverNames: new Map<string, string>(), alpn: [] }] as const;
    await expect(startGateway({ ca, config: { ...strict, listeners } })).rejects.toMatchObject({
      code: "internal",
      message: "the self-test of the door failed: a revoked certificate was let in",
    });
  } finally {
    overlooks.revocation = false;
  }
  const socket = connectTcp({ host: "127.0.0.1", port });
  const outcome = await new Promise((resolve) => {
    socket.on("connect", () => resolve("open"));
    socket.on("error", (error) => resolve((error as NodeJS.ErrnoException).code));
  });
  socket.destroy();
  expect(outcome).toBe("ECONNREFUSED");
});

test.each(["trials", "listeners"])("a gateway that is closed while it tries its %s says so, and stays closed", async (part) => {
  const model = await startGateway({ ca });
  await model.close();
  const gateway = new Gateway({ ...model.config, ...strict });
  const opened = gateway.listen().then(
    () => "open",
    ({ code }: { readonly code: string }) => code,
  );
  while (part === "listeners" && gateway.status().listeners.length === 0) await new Promise((resolve) => setImmediate(resolve));
  await gateway.close();
  expect([await opened, gateway.status().state]).toEqual(["cancelled", "closed"]);
});

test.each(["localhost", "0.0.0.0", "::", "::1"])("a gateway that listens on %s finds its own door", async (host) => {
  const listeners = [{ listen: { kind: "tcp", host, port: 0 }, serverNames: new Map<string, string>(), alpn: [] }] as const;
  await using setup = await startGateway({ ca, config: { ...strict, listeners } });
  expect(setup.gateway.status().state).toBe("ready");
});
