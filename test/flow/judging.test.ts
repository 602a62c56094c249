import { expect, test, vi } from "vitest";
import type { judgeStanding } from "../../src/identity/judge.ts";
import { connect } from "../../src/mod.ts";
import { startGateway, trustIn } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";

const fault = vi.hoisted(() => ({ times: 0 }));
vi.mock("../../src/identity/judge.ts", async (original) => {
  const real = await original<{ readonly judgeStanding: typeof judgeStanding }>();
  const faulty: typeof judgeStanding = (...words) => {
    if (fault.times-- > 0) throw new Error("a fault of ours");
    return real.judgeStanding(...words);
  };
  return { ...real, judgeStanding: faulty };
});

test("a fault while everyone is judged again is told, and they are judged a second later, by their rules, too", async () => {
  const ca = createTestCa();
  await using setup = await startGateway({
    ca,
    targets: { echo: { kind: "builtin", builtin: "echo" }, more: { kind: "builtin", builtin: "echo" } },
    config: { trust: trustIn({ ca: [ca.certificate], maxStalenessMs: 3_600_000 }) }, // no other look comes
  });
  const { certificate, key } = ca.client("alice");
  const client = await connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate });
  const [ending, staying] = [await client.open("echo"), await client.open("more")];
  fault.times = 2;
  const at = performance.now();
  await setup.gateway.reload({ ...setup.config, rules: [{ clients: ["*"], targets: ["more"], limits: {}, line: 1 }] });
  await expect(ending.closed).rejects.toMatchObject({ code: "forbidden" });
  expect(performance.now() - at).toBeGreaterThan(1_900); // two faults, a second each
  expect(setup.lines("fault of pipegate itself")).toEqual(
    Array.from({ length: 2 }, () => ({ detail: expect.stringContaining("a fault of ours") })),
  );
  await staying.close();
  await client.close();
});
