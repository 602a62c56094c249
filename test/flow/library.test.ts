import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, createGateway, PipegateError } from "../../src/mod.ts";
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
  await client.close();
  await gateway.drain();
  expect(gateway.status().state).toBe("closed");
});

test("a config that is wrong is refused before anything is opened, with its place", async () => {
  const wrong = createGateway({ ...config, targets: { echo: { builtin: "echoo" } } }, { folder });
  await expect(wrong).rejects.toBeInstanceOf(PipegateError);
  await expect(wrong).rejects.toMatchObject({ code: "config" });
});
