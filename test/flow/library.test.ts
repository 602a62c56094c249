import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, createGateway, PipegateError, readConfig } from "../../src/mod.ts";
import { createTestCa } from "../support/mint.ts";

const ca = createTestCa();
const alice = ca.client("alice");
const folder = mkdtempSync(join(tmpdir(), "pipegate-library-"));
const config = {
  listeners: [{ listen: "127.0.0.1:0" }],
  identity: { certificate: "gateway.pem", key: "gateway-key.pem" },
  trust: { ca: ["ca.pem"] },
  targets: { echo: { builtin: "echo" } },
  rules: [{ clients: ["spiffe://dev/agent/*"], targets: ["echo"] }],
};

beforeAll(() => {
  const { certificate, key } = ca.gateway();
  writeFileSync(join(folder, "ca.pem"), ca.certificate);
  writeFileSync(join(folder, "gateway.pem"), certificate);
  writeFileSync(join(folder, "gateway-key.pem"), key, { mode: 0o600 });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a gateway in a program's thread takes no workers", async () => {
  await expect(createGateway({ ...config, workers: 2 }, { folder })).rejects.toMatchObject({
    code: "config",
    message: "workers: 2: a gateway in a program's own thread is one",
  });
});

test("a program runs a gateway and a client in a few lines", async () => {
  const gateway = await createGateway(config, { folder });
  const [address] = await gateway.listen();
  const client = await connect({
    gateway: `127.0.0.1:${address?.kind === "tcp" ? address.port : 0}`,
    certificate: alice.certificate,
    key: alice.key,
    ca: ca.certificate,
  });
  const calls = await client.open("echo", { messages: true });
  await calls.send(new TextEncoder().encode("hi"));
  expect(new TextDecoder().decode(await calls.receive())).toBe("hi");
  await expect(client.open("other")).rejects.toMatchObject({ name: "PipegateError", code: "forbidden" });
  expect(gateway.status()).toMatchObject({ state: "ready", connections: 1, pipes: [{ target: "echo", mode: "messages", messagesIn: 1 }] });
  expect(await gateway.metrics()).toContain('pipegate_pipes{target="echo"} 1');
  const more = { ...config, targets: { ...config.targets, other: { builtin: "echo" } }, rules: [{ clients: ["*"], targets: ["*"] }] };
  expect(await gateway.reload(await readConfig(more, { folder, inForce: gateway.inForce }))).toEqual({
    version: 2,
    changes: ["rules", "target other"],
  });
  await client.open("other");
  await client.close();
  await gateway.drain();
  expect(gateway.status().state).toBe("closed");
});

test("a config for a gateway that runs may name our certificate that has expired there, one for a start may not", async () => {
  await using gateway = await createGateway(config, { folder });
  const past = { notBefore: Date.now() - 7_200_000, notAfter: Date.now() - 3_600_000 };
  const { certificate, key } = ca.issue({ role: "gateway", dns: ["localhost"], ...past });
  const next = { ...config, identity: { certificate, key } };
  await expect(readConfig(next, { folder, inForce: gateway.inForce })).rejects.toThrow(/expired on/u);
  const inForce = { ...gateway.inForce, credentials: { certificate, key } };
  expect((await readConfig(next, { folder, inForce })).credentials).toEqual({ certificate, key });
});

test("messages over 1 MiB go both ways when both ends say so, and only then", async () => {
  await using gateway = await createGateway({ ...config, maxMessage: "4MiB" }, { folder });
  const [address] = await gateway.listen();
  const own = { certificate: alice.certificate, key: alice.key, ca: ca.certificate };
  const at = `127.0.0.1:${address?.kind === "tcp" ? address.port : 0}`;
  const message = new Uint8Array(2 << 20).fill(7);
  const large = await connect({ gateway: at, ...own, maxMessageBytes: 4 << 20 });
  const calls = await large.open("echo", { messages: true });
  expect(calls.maxMessageBytes).toBe(4 << 20);
  await calls.send(message);
  expect((await calls.receive())?.length).toBe(message.length);
  await large.close();
  const small = await connect({ gateway: at, ...own });
  const cut = await small.open("echo", { messages: true });
  cut.send(message).catch(() => {}); // it may still wait for room when the answer is found too large
  await expect(cut.receive()).rejects.toMatchObject({ code: "message_too_large" });
  await small.close();
  await expect(connect({ gateway: at, ...own, maxMessageBytes: 0 })).rejects.toMatchObject({ code: "usage" });
});

test("a gateway that is closed while it opens leaves nothing open, and is started once only", async () => {
  const gateway = await createGateway({ ...config, listeners: [{ listen: "127.0.0.1:0" }, { listen: "127.0.0.2:0" }] }, { folder });
  const opening = gateway.listen();
  await expect(gateway.listen()).rejects.toMatchObject({ code: "usage" });
  await gateway.close();
  await expect(opening).rejects.toMatchObject({ code: "cancelled" });
  expect(gateway.status().state).toBe("closed");
  await expect(gateway.listen()).rejects.toMatchObject({ code: "usage" });
});

test("a name that no target can have is refused here, and the session lives on", async () => {
  await using gateway = await createGateway(config, { folder });
  const [address] = await gateway.listen();
  const own = { certificate: alice.certificate, key: alice.key, ca: ca.certificate };
  const client = await connect({ gateway: `127.0.0.1:${address?.kind === "tcp" ? address.port : 0}`, ...own });
  for (const name of ["", "x".repeat(256), "a\nb", "\u0085"]) await expect(client.open(name)).rejects.toMatchObject({ code: "usage" });
  await (await client.open("echo")).close();
  await client.close();
});

test("a program's logger that throws ends nothing", async () => {
  const fail = (): never => {
    throw new Error("the logger is broken");
  };
  await using gateway = await createGateway(config, { folder, logger: { debug: fail, info: fail, warn: fail, error: fail } });
  const [address] = await gateway.listen();
  const own = { certificate: alice.certificate, key: alice.key, ca: ca.certificate };
  const client = await connect({ gateway: `127.0.0.1:${address?.kind === "tcp" ? address.port : 0}`, ...own });
  const calls = await client.open("echo", { messages: true });
  await calls.send(new Uint8Array([1]));
  expect(await calls.receive()).toEqual(new Uint8Array([1]));
  await client.close();
});

test("a config that is wrong is refused before anything is opened, with its place", async () => {
  const wrong = createGateway({ ...config, targets: { echo: { builtin: "echoo" } } }, { folder });
  await expect(wrong).rejects.toBeInstanceOf(PipegateError);
  await expect(wrong).rejects.toMatchObject({ code: "config" });
});
