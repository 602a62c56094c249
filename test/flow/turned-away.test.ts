import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { connect } from "../../src/mod.ts";
import { startGateway, trustIn, type TestGateway } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";

const ca = createTestCa();
let setup: TestGateway;

beforeAll(async () => void (setup = await startGateway({ ca, rules: [{ clients: ["spiffe://dev/agent/alice"] }] })));
afterAll(() => setup.close());

test("a client that no rule knows is turned away at the door, and the log names it", async () => {
  const { certificate, key } = ca.client("mallory");
  const dialled = connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate });
  await expect(dialled).rejects.toMatchObject({ code: "forbidden" });
  expect(setup.lines("refused")).toEqual([
    expect.objectContaining({
      reason: "forbidden",
      identity: "spiffe://dev/agent/mallory",
      fingerprint: expect.stringMatching(/^sha256:/u),
    }),
  ]);
});

test("a certificate that expires while its connection lives opens no more pipes", async () => {
  let wall = Date.now();
  await using gateway = await startGateway({ ca, clock: { ...systemClock, wall: () => wall } });
  const { certificate, key } = ca.client("alice");
  const client = await connect({ gateway: `127.0.0.1:${gateway.port}`, certificate, key, ca: ca.certificate });
  await client.open("echo");
  wall += 400 * 86_400_000;
  await expect(client.open("echo")).rejects.toMatchObject({ code: "cert_expired" });
  expect(gateway.lines("refused").at(-1)).toMatchObject({ reason: "cert_expired", identity: "spiffe://dev/agent/alice" });
  await client.close();
});

test("a client that is revoked, or whose CA has no list of today, hears the same; only the log says which", async () => {
  const [gone, good] = [ca.client("gone"), ca.client("alice")];
  let wall = Date.now();
  const crl = [Buffer.from(ca.crl({ revoked: [gone.serial], nextUpdate: wall + 3_600_000 }).pem)];
  await using gateway = await startGateway({
    ca,
    config: { trust: trustIn({ ca: [ca.certificate], crl }) },
    clock: { ...systemClock, wall: () => wall },
  });
  const turnedAway = async ({ certificate, key }: typeof gone): Promise<unknown> =>
    connect({ gateway: `127.0.0.1:${gateway.port}`, certificate, key, ca: ca.certificate }).then(
      () => "let in",
      ({ code, message, next }: { code: string; message: string; next: string }) => ({ code, message, next }),
    );
  const heard = await turnedAway(gone);
  wall += 2 * 3_600_000;
  expect(await turnedAway(good)).toEqual(heard);
  expect(heard).toEqual({
    code: "revoked",
    message: "the certificate is revoked, or its CA's revocation list is out of date",
    next: expect.stringContaining("gateway's log"),
  });
  expect(gateway.lines("refused").map(({ reason, detail }) => [reason, detail])).toEqual([
    ["revoked", `serial ${gone.serial}`],
    ["revoked", "the revocation list of its CA is out of date"],
  ]);
});

test("a shadow rule lets nobody in, and the log says whom it would have", async () => {
  await using gateway = await startGateway({
    ca,
    targets: { echo: { kind: "builtin", builtin: "echo" }, other: { kind: "builtin", builtin: "echo" } },
    rules: [
      { clients: ["spiffe://dev/agent/alice"], targets: ["other"], shadow: true, line: 3 },
      { clients: ["*"], targets: ["echo"], line: 5 },
    ],
  });
  const { certificate, key } = ca.client("alice");
  const client = await connect({ gateway: `127.0.0.1:${gateway.port}`, certificate, key, ca: ca.certificate });
  await client.open("echo");
  await expect(client.open("other")).rejects.toMatchObject({ code: "forbidden" });
  expect(gateway.lines("shadow rule")).toEqual([
    expect.objectContaining({ rule: 3, would: "allow", did: "refuse", identity: "spiffe://dev/agent/alice", target: "other" }),
  ]);
  await client.close();
});

test("shadow rules without lines, as programs make them, are each told", async () => {
  await using gateway = await startGateway({
    ca,
    rules: [
      { clients: ["spiffe://dev/agent/alice"], shadow: true, line: 0 },
      { clients: ["spiffe://dev/agent/*"], shadow: true, line: 0 },
    ],
  });
  const { certificate, key } = ca.client("alice");
  const refused = connect({ gateway: `127.0.0.1:${gateway.port}`, certificate, key, ca: ca.certificate });
  await expect(refused).rejects.toMatchObject({ code: "forbidden" });
  expect(gateway.lines("shadow rule").length).toBe(2);
});
