import { once } from "node:events";
import { connect as connectTls } from "node:tls";
import { describe, expect, test } from "vitest";
import { openDoor, rawClient, type TestDoor } from "../support/door.ts";
import { clientOptions } from "../support/door-options.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { createTestCa } from "../support/mint.ts";

const ca = createTestCa();
const alice = ca.client("alice");

async function greeted(door: TestDoor, host = "127.0.0.1"): Promise<{ destroy(): void }> {
  const socket = connectTls({
    host,
    port: door.port,
    ...clientOptions(ca, alice),
  });
  expect(String((await once(socket, "data"))[0])).toBe("hello\n");
  return socket;
}

describe.each([false, true])("caps (raw listener: %s)", (withoutAlpn) => {
  test("bound the handshakes of one source, and leave the others alone", async () => {
    const door = await openDoor({ ca, options: { withoutAlpn, maxHandshakesPerSource: 8, address: { kind: "tcp", host: "::", port: 0 } } });
    const silent = [];
    for (let n = 0; n < 8; n++) silent.push(await rawClient(door.port));
    const ninth = await rawClient(door.port);
    await ninth.gone;
    expect(await door.refusal()).toMatchObject({
      reason: "too_many_connections",
      detail: expect.stringContaining("8 handshakes of its address"),
      source: { key: "127.0.0.1" },
    });
    (await greeted(door, "::1")).destroy(); // another source
    for (const { socket } of silent) socket.resetAndDestroy();
    for (const _ of silent) expect((await door.refusal()).reason).toBe("session_lost");
    (await greeted(door)).destroy();
    await door.close();
  });

  test("bound handshakes in all, and connections in all, to the one", async () => {
    const door = await openDoor({ ca, options: { withoutAlpn, maxHandshakes: 3, maxConnections: 4 } });
    const first = await greeted(door);
    const silent = [await rawClient(door.port), await rawClient(door.port), await rawClient(door.port)];
    await (
      await rawClient(door.port)
    ).gone;
    expect((await door.refusal()).detail).toContain("4 connections are open");
    silent[0]!.socket.resetAndDestroy();
    expect((await door.refusal()).reason).toBe("session_lost");
    first.destroy();
    await expect.poll(() => door.connections[0]!.below.destroyed).toBe(true);
    const third = await rawClient(door.port);
    await (
      await rawClient(door.port)
    ).gone;
    expect((await door.refusal()).detail).toContain("3 handshakes are under way");
    for (const { socket } of [...silent, third]) socket.destroy();
    await door.close();
  });

  test("hold against a flood of half-open connections; an honest client is served after the deadline", async () => {
    const clock = new FakeClock(Date.now());
    const door = await openDoor({
      ca,
      options: { withoutAlpn, clock, handshakeTimeoutMs: 10_000, maxHandshakes: 100, maxHandshakesPerSource: 50 },
    });
    const flood = await Promise.all(Array.from({ length: 300 }, () => rawClient(door.port, "\x16\x03\x01")));
    await expect.poll(() => door.refusals.length).toBe(250);
    expect(clock.waiting).toBe(50);
    clock.advance(10_000);
    await Promise.all(flood.map(({ gone }) => gone));
    const reasons = door.refusals.map(({ reason }) => reason);
    expect([
      reasons.length,
      reasons.filter((reason) => reason === "too_many_connections").length,
      reasons.filter((reason) => reason === "handshake_timeout").length,
    ]).toEqual([300, 250, 50]);
    (await greeted(door)).destroy();
    expect([clock.waiting, door.refusals.length]).toEqual([0, 300]);
    await door.close();
  });
});

describe("stopping", () => {
  test("takes no more, ends handshakes under way, frees the port at once, and leaves open connections be", async () => {
    const door = await openDoor({ ca });
    const open = await greeted(door);
    const silent = await rawClient(door.port);
    await door.listener.close();
    await silent.gone;
    expect(door.refusals).toEqual([]); // nobody was turned away
    const again = await openDoor({ ca, options: { address: { kind: "tcp", host: "127.0.0.1", port: door.port } } });
    const { socket } = await door.connection();
    socket.write("still here\n");
    expect(String((await once(open as unknown as NodeJS.EventEmitter, "data"))[0])).toBe("still here\n");
    open.destroy();
    await again.close();
    await door.close();
  });
});
