import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import type { Config, ListenerConfig } from "../../src/config/config.ts";
import { connect, type PipegateError } from "../../src/mod.ts";
import { type BackEnd, startBackEnd, targetOf } from "../support/back-ends.ts";
import { startGateway, trustIn, type TestGateway } from "../support/gateway.ts";
import { freePort, listenerAt } from "../support/listeners.ts";
import { createTestCa } from "../support/mint.ts";
import { reloadUnderLoad } from "../support/reload-load.ts";
import { hashing, startPump, startRawPump } from "../support/pump.ts";

const ca = createTestCa();
const alice = ca.client("alice");
let backEnd: BackEnd;
beforeAll(async () => void (backEnd = await startBackEnd(hashing)));
afterAll(() => backEnd.close());

const start = (): Promise<TestGateway> =>
  startGateway({
    ca,
    targets: { hash: targetOf(backEnd) },
  });
const dial = (port: number): ReturnType<typeof connect> =>
  connect({ gateway: `127.0.0.1:${port}`, certificate: alice.certificate, key: alice.key, ca: ca.certificate });
const listener = (port: number, host = "127.0.0.1"): ListenerConfig => listenerAt({ kind: "tcp", host, port });

describe("a reload", () => {
  test("adds, moves and removes listeners, targets and rules, and touches nothing else", async () => {
    await using setup = await start();
    const pump = await startPump({ port: setup.port, ca: ca.certificate, own: alice });
    const { config, gateway } = setup;
    const [added, moved] = [await freePort(), await freePort()];
    await gateway.reload({
      ...config,
      listeners: [...config.listeners, listener(added)],
      targets: new Map([...config.targets, ["more", { kind: "builtin", builtin: "echo" }]]),
    });
    const client = await dial(added);
    await client.open("more");
    await gateway.reload({ ...config, listeners: [...config.listeners, listener(moved)] });
    expect(gateway.status().listeners).toEqual([`127.0.0.1:${setup.port}`, `127.0.0.1:${moved}`]);
    await expect(dial(added)).rejects.toMatchObject({ code: "unreachable" });
    await expect(client.open("more")).rejects.toMatchObject({ code: "forbidden" }); // the connection stays, its target is gone
    await (await client.open("hash")).close();
    await client.close();
    await (await dial(moved)).close();
    expect(await pump.finish()).toBe("whole");
    expect(setup.lines("config reloaded")).toEqual([
      { version: 2, changes: [`listener 127.0.0.1:${added} opened`, "target more"] },
      { version: 3, changes: [`listener 127.0.0.1:${moved} opened`, `listener 127.0.0.1:${added} closed`, "target more"] },
    ]);
  });

  test("gives new handshakes a new certificate and a new CA, and makes a listener raw or framed only", async () => {
    await using setup = await start();
    const { config, gateway } = setup;
    const next = createTestCa({ cn: "next" });
    const own = next.gateway();
    await gateway.reload({
      ...config,
      credentials: { certificate: own.certificate, key: own.key },
      trust: trustIn({ ca: [ca.certificate, next.certificate] }),
    });
    const young = next.client("young");
    const client = await connect({
      gateway: `127.0.0.1:${setup.port}`,
      certificate: young.certificate,
      key: young.key,
      ca: next.certificate,
    });
    await (await client.open("hash")).close();
    await client.close();
    await expect(dial(setup.port)).rejects.toMatchObject({ code: "untrusted_gateway" });
  });

  test("names what has changed of a listener and of what has no name", async () => {
    await using setup = await startGateway({ ca, raw: ["echo"] });
    const { config, gateway } = setup;
    const [framed, raw] = config.listeners as [ListenerConfig, ListenerConfig];
    const changed = { ...config, listeners: [framed, { ...raw, alpn: ["postgresql"] }], maxMessageBytes: 1 << 16 };
    expect((await gateway.reload(changed)).changes).toEqual(["listener 127.0.0.1:0", "maxMessage"]);
    expect((await gateway.reload(changed)).changes).toEqual([]);
    const moved = { ...changed, rules: config.rules.map((rule) => ({ ...rule, line: rule.line + 3 })) };
    expect((await gateway.reload(moved)).changes).toEqual(["rules (lines only)"]);
    expect((await gateway.reload({ ...changed, warnings: ["odd"] })).changes).toEqual(["rules (lines only)"]);
    await gateway.reload({ ...moved, warnings: ["odd", "odder"] });
    expect(setup.lines("config")).toEqual([{ detail: "odd" }, { detail: "odder" }]); // each once, for as long as it holds
    expect((await gateway.reload({ ...moved, rules: [...moved.rules, ...config.rules] })).changes).toEqual(["rules"]);
  });

  const broken: readonly (readonly [string, (config: Config) => Promise<Config> | Config])[] = [
    ["a port that is taken", async (config) => ({ ...config, listeners: [...config.listeners, listener(backEnd.port)] })],
    ["a key of another certificate", (config) => ({ ...config, credentials: { ...config.credentials, key: ca.gateway().key } })],
    ["junk for a certificate", (config) => ({ ...config, credentials: { certificate: "junk", key: "junk" } })],
    [
      "one bad rule among 100",
      (config) => ({
        ...config,
        rules: Array.from({ length: 100 }, (_, n) => ({ clients: [n === 57 ? "spiffe:/dev" : "*"], targets: ["*"], limits: {}, line: n })),
      }),
    ],
    ["a deny-list entry that is none", (config) => ({ ...config, trust: { ...config.trust, deny: ["mallory"] } })],
  ];
  test.each(broken)("that cannot be served (%s) changes nothing, and says why", async (_, change) => {
    await using setup = await start();
    const { config, gateway } = setup;
    const pump = await startPump({ port: setup.port, ca: ca.certificate, own: alice });
    const before = gateway.status();
    const failed: unknown = await gateway.reload(await change(config)).then(
      () => "taken",
      (error: PipegateError) => error.code,
    );
    expect(failed).toBe("config");
    expect(gateway.status()).toMatchObject({ version: 1, listeners: before.listeners });
    await (await dial(setup.port)).close();
    expect(await pump.finish()).toBe("whole");
  });

  test("that was not taken stands in the log once, and in status and the metrics until another is taken", async () => {
    await using setup = await start();
    const { gateway, config } = setup;
    const told = async (): Promise<object> => {
      const numbers = (await gateway.metrics()).matchAll(/^pipegate_config_(reload_failed|reload_failures_total) (\d+)$/gmu);
      return {
        lines: setup.lines("config refused").length,
        ...Object.fromEntries(Array.from(numbers, ([, name, n]) => [name, Number(n)])),
      };
    };
    for (let n = 0; n < 3; n++) gateway.reloadFailed(["ca.pem does not exist"]);
    expect(gateway.status().reloadFailure).toMatchObject({ lines: ["ca.pem does not exist"] });
    expect(await told()).toEqual({ lines: 1, reload_failed: 1, reload_failures_total: 3 });
    await gateway.reload(config);
    expect(gateway.status().reloadFailure).toBeUndefined();
    expect(await told()).toEqual({ lines: 1, reload_failed: 0, reload_failures_total: 3 });
    expect(setup.lines("config reloaded").length).toBe(1); // nothing has changed, but what was wrong is mended
  });

  test("to an address that overlaps one that goes takes it over; when it cannot, the old one listens again", async () => {
    const port = await freePort();
    await using setup = await startGateway({ ca, config: { listeners: [listener(port, "0.0.0.0")] } });
    const client = await dial(port);
    await setup.gateway.reload({ ...setup.config, listeners: [listener(port)] });
    expect(setup.gateway.status().listeners).toEqual([`127.0.0.1:${port}`]);
    await client.open("echo");
    await (await dial(port)).close();
    const impossible = [listener(port, "0.0.0.0"), listener(backEnd.port)];
    await expect(setup.gateway.reload({ ...setup.config, listeners: impossible })).rejects.toMatchObject({ code: "config" });
    expect(setup.gateway.status().listeners).toEqual([`127.0.0.1:${port}`]);
    await (await dial(port)).close();
    await client.close();
  });

  test("that writes the address of a listener in another way takes it over: a name, its number, the port that was any", async () => {
    const port = await freePort();
    await using setup = await startGateway({ ca, config: { listeners: [listener(port, "localhost")] } });
    const { config, gateway } = setup;
    for (const host of ["127.0.0.1", "localhost", "0.0.0.0", "localhost"]) {
      await gateway.reload({ ...config, listeners: [listener(port, host)] });
      await (await dial(port)).close();
    }
    await gateway.reload({ ...config, listeners: [listener(0)] });
    const [any] = gateway.status().listeners;
    const bound = Number(any!.split(":")[1]);
    await gateway.reload({ ...config, listeners: [listener(bound)] });
    await (await dial(bound)).close();
    expect(gateway.status().listeners).toEqual([any]);
  });

  test("takes other trust although our own certificate has expired meanwhile", async () => {
    let shift = 0;
    const short = ca.issue({ role: "gateway", cn: "gateway", dns: ["localhost"], ip: ["127.0.0.1"], notAfter: Date.now() + 60_000 });
    await using setup = await startGateway({
      ca,
      config: { credentials: { certificate: short.certificate, key: short.key } },
      clock: { ...systemClock, wall: () => Date.now() + shift },
    });
    const client = await dial(setup.port);
    await client.open("echo");
    shift = 120_000;
    const trust = trustIn({ ca: [ca.certificate], deny: [alice.fingerprint] });
    expect((await setup.gateway.reload({ ...setup.config, trust })).changes).toEqual(["deny-list"]);
    await expect(client.closed).rejects.toMatchObject({ code: "revoked" });
  });

  test("that fails does not leave a raw listener with what it would have been", async () => {
    const port = await freePort();
    await using setup = await startGateway({
      ca,
      targets: { hash: { kind: "builtin", builtin: "echo" }, more: { kind: "builtin", builtin: "echo" } },
      config: { listeners: [{ ...listener(port, "0.0.0.0"), target: "hash" }] },
    });
    const { config, gateway } = setup;
    await expect(
      gateway.reload({ ...config, listeners: [{ ...listener(port), target: "more" }, listener(backEnd.port)] }),
    ).rejects.toMatchObject({ code: "config" });
    await gateway.reload({ ...config, listeners: [{ ...listener(port, "0.0.0.0"), target: "more" }] });
    const raw = await startRawPump({ port, own: alice, ca: ca.certificate });
    await expect.poll(() => gateway.status().pipes.map(({ target }) => target)).toEqual(["more"]);
    await gateway.close();
    await raw.over;
  });

  test("under way when the gateway is closed leaves no port open", async () => {
    const port = await freePort();
    const setup = await startGateway({ ca, config: { listeners: [listener(port, "0.0.0.0")] } });
    const reload = setup.gateway.reload({ ...setup.config, listeners: [listener(port), listener(backEnd.port)] });
    await Promise.all([setup.gateway.close(), expect(reload).rejects.toMatchObject({ name: "PipegateError" })]);
    await using again = await startGateway({ ca, config: { listeners: [listener(port)] } });
    expect(again.port).toBe(port);
  });

  test("that would have been taken is refused when the gateway is closed meanwhile, and its new port is free again", async () => {
    const port = await freePort();
    const setup = await start();
    const reload = setup.gateway.reload({ ...setup.config, listeners: [...setup.config.listeners, listener(port)] });
    for (let turn = 0; turn < 3; turn++) await Promise.resolve(); // it has begun, and its listener has not
    await Promise.all([setup.gateway.close(), expect(reload).rejects.toMatchObject({ code: "draining" })]);
    expect(setup.gateway.status().version).toBe(1);
    await using again = await startGateway({ ca, config: { listeners: [listener(port)] } });
    expect(again.port).toBe(port);
  });

  test("before it serves, in a drain and after the end is refused and does no harm", async () => {
    const setup = await start();
    const client = await dial(setup.port);
    await client.open("hash");
    const drained = setup.gateway.drain(2_000);
    await expect(setup.gateway.reload(setup.config)).rejects.toMatchObject({ code: "draining" });
    await client.close();
    await drained;
    await expect(setup.gateway.reload(setup.config)).rejects.toMatchObject({ code: "draining" });
  });

  test("30 of them, fast, harm no pump and no new connection", async () => {
    const outcome = await reloadUnderLoad({ reloads: 30, reloadsPerSecond: 15, pumps: 5, connectionsPerSecond: 10 });
    expect(outcome).toMatchObject({ whole: 5, failures: [], refusals: 0, version: 31 });
    expect(outcome.connected).toBeGreaterThan(5);
  });
});
