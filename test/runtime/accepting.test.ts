import { createServer } from "node:net";
import { expect, test } from "vitest";
import { systemClock, type Clock } from "../../src/base/clock.ts";
import { watchAccepting } from "../../src/runtime/accepting.ts";
import { bindServer } from "../../src/runtime/bind.ts";
import { facts } from "../../src/runtime/facts.ts";

test("a server that nobody dials is looked after, and what looks after it is known from a client", async () => {
  const hasty: Clock = { ...systemClock, after: (ms, act) => systemClock.after(ms / 30, act) }; // 3 s are 100 ms
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
