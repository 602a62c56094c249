import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../../src/mod.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
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
