import { createServer, type Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { systemClock, type Clock } from "../../src/base/clock.ts";
import { createProbeMemory, shareProbes, watchAccepting, type AcceptWatch } from "../../src/runtime/accepting.ts";
import { bindServer } from "../../src/runtime/bind.ts";
import { facts } from "../../src/runtime/facts.ts";

const hasty: Clock = { ...systemClock, after: (ms, act) => systemClock.after(ms / 30, act) }; // 3 s are 100 ms

test("a server that nobody dials is looked after, and what looks after it is known from a client", async () => {
  const server = createServer();
  const address = await bindServer(server, { kind: "tcp", host: "127.0.0.1", port: 0 });
  let [own, others] = [0, 0];
  server.on("connection", (socket) => {
    if (watch.isOwn(socket)) own++;
    else others++;
    socket.destroy();
  });
  const troubles: Error[] = [];
  const watch = watchAccepting(server, { address, clock: hasty, troubled: (error) => void troubles.push(error) });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  watch.stop();
  server.close();
  expect(own > 1).toBe(!facts.keepsAccepting);
  expect({ others, troubles }).toEqual({ others: 0, troubles: [] });
});

test("servers that share a port know each other's, and none of them listens anew because the other was dialled", async () => {
  shareProbes(createProbeMemory());
  const address = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  const troubles: Error[] = [];
  let [own, others] = [0, 0];
  const open = async (port: number) => {
    const server = createServer();
    const bound = await bindServer(server, { ...address, port }, { shared: true });
    const watch = watchAccepting(server, { address: bound, clock: hasty, shared: true, troubled: (error) => void troubles.push(error) });
    server.on("connection", (socket) => {
      if (watch.isOwn(socket)) own++;
      else others++;
      socket.destroy();
    });
    return { server, watch, port: bound.kind === "tcp" ? bound.port : 0 };
  };
  const first = await open(0);
  const second = await open(first.port);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  for (const { server, watch } of [first, second]) {
    watch.stop();
    server.close();
  }
  expect(own > 1).toBe(!facts.keepsAccepting);
  expect({ others, troubles }).toEqual({ others: 0, troubles: [] });
});

describe("a server that stopped accepting listens anew", () => {
  /** The milliseconds for which the watch waited in all, until it was told. Undefined: never told. */
  async function waited(act: (watch: AcceptWatch) => void): Promise<number | undefined> {
    const server = createServer();
    const address = await bindServer(server, { kind: "tcp", host: "127.0.0.1", port: 0 });
    const emit = server.emit.bind(server);
    server.emit = (name: string, ...rest: unknown[]): boolean => {
      if (name !== "connection") return emit(name, ...rest);
      (rest[0] as Socket).destroy();
      return true; // nobody hears of it, as if it had not been accepted
    };
    let asked = 0;
    const clock: Clock = {
      ...systemClock,
      after: (ms, carryOut) =>
        hasty.after(ms, () => {
          asked += ms;
          carryOut();
        }),
    };
    let watch!: AcceptWatch;
    const told = new Promise<number>((resolve) => {
      watch = watchAccepting(server, { address, clock, troubled: () => resolve(asked) });
    });
    act(watch);
    const result = await Promise.race([told, new Promise<undefined>((resolve) => setTimeout(resolve, 1_500))]);
    watch.stop();
    server.close();
    return result;
  }

  test("after some seconds when nothing was amiss", async () => {
    expect(await waited(() => {})).toBe(facts.keepsAccepting ? undefined : 7_000);
  });

  test("within 0.9 s while descriptors are scarce: before a client that was not heard dials the second time", async () => {
    const ms = await waited((watch) => watch.scarce());
    if (facts.keepsAccepting) expect(ms).toBe(undefined);
    else expect(ms).toBeLessThanOrEqual(900);
  });
});
