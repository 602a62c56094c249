import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { expect, test, vi } from "vitest";
import { bindServer } from "../../src/runtime/bind.ts";
import { processDescriptors } from "../../src/runtime/descriptors.ts";
import { facts } from "../../src/runtime/facts.ts";

test("a server that cannot have its address may try again and again, and nothing of a try stays", async () => {
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  const address = { kind: "tcp", host: "127.0.0.1", port: (holder.address() as AddressInfo).port } as const;
  const server = createServer();
  const listeners = (): number => server.listenerCount("listening") + server.listenerCount("error");
  const before = listeners();
  for (let turn = 0; turn < 12; turn++) await expect(bindServer(server, address)).rejects.toMatchObject({ code: "config" });
  expect(listeners()).toBe(before);
  holder.close();
  await once(holder, "close");
  expect(await bindServer(server, address)).toEqual(address);
  expect(listeners()).toBe(before);
  server.close();
});

test("thousands of clients who come at once can wait to be accepted; where a runtime takes all of them at once, as many as there are descriptors for", async () => {
  const server = createServer();
  const listen = vi.spyOn(server, "listen");
  await bindServer(server, { kind: "tcp", host: "127.0.0.1", port: 0 });
  server.close();
  expect(listen.mock.calls[0]?.[0]).toMatchObject({ backlog: facts.keepsAccepting ? 4_096 : processDescriptors().burst });
});
