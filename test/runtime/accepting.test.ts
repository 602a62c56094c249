import { createServer } from "node:net";
import { expect, test } from "vitest";
import { systemClock, type Clock } from "../../src/base/clock.ts";
import { createProbeMemory, shareProbes, watchAccepting } from "../../src/runtime/accepting.ts";
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
