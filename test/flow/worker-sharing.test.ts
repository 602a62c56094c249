import { expect, test } from "vitest";
import type { Config, ListenerConfig } from "../../src/config/config.ts";
import { connect } from "../../src/mod.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { freePort, listenerAt } from "../support/listeners.ts";
import { createTestCa } from "../support/mint.ts";
import { startSharer } from "../support/sharer.ts";
import { startWorkers } from "../support/workers.ts";

const ca = createTestCa();
const alice = ca.client("alice");
const joined = new URL("../support/programs/joined-worker", import.meta.url);
const at = (port: number): ListenerConfig => listenerAt({ kind: "tcp", host: "127.0.0.1", port });
const taken = (port: number) => ({ code: "config", message: `127.0.0.1:${port} is already in use` });

test("a gateway of workers does not start where another process joined it between the claim of an address and its use", async () => {
  const [first, second] = [await freePort(), await freePort()];
  await expect(startWorkers({ ca, program: joined, config: { listeners: [at(first), at(second)] } })).rejects.toMatchObject(taken(second));
});

test("a gateway of workers takes no config with an address that another process joined meanwhile", async () => {
  await using setup = await startWorkers({ ca, program: joined });
  const second = await freePort();
  const next: Config = { ...setup.config, listeners: [...setup.config.listeners, at(second)] };
  await expect(setup.gateway.reload(next)).rejects.toMatchObject(taken(second));
  expect((await setup.gateway.status()).listeners).toEqual([`127.0.0.1:${setup.port}`]);
});

test("who joins a gateway of workers later is told once, keeps no config out, and has left when he is gone", async () => {
  const clock = new FakeClock(Date.now());
  await using setup = await startWorkers({ ca, clock });
  const told = async (): Promise<readonly unknown[]> => {
    clock.advance(10_000);
    await setup.gateway.status(); // what workers were asked meanwhile, they have answered before
    return setup.lines("address shared");
  };
  expect(await told()).toEqual([]);
  const sharer = await startSharer({ host: "127.0.0.1", port: setup.port });
  const detail = expect.stringContaining(`listens on 127.0.0.1:${setup.port}, too`);
  expect(await told()).toEqual([{ detail }]);
  expect(await told()).toHaveLength(1);
  const next: Config = { ...setup.config, maxMessageBytes: 2 << 20 };
  expect(await setup.gateway.reload(next)).toMatchObject({ version: 2 });
  await sharer.end();
  expect(await told()).toHaveLength(1);
  const { certificate, key } = alice;
  await (await connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate })).close();
  const again = await startSharer({ host: "127.0.0.1", port: setup.port });
  expect(await told()).toHaveLength(2);
  await again.end();
});
