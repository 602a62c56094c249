import { appendFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, ended, says, tell, type Workplace } from "../support/run-command.ts";

let place: Workplace;
const ca = createTestCa();
const config = `listeners: [{ listen: "127.0.0.1:0" }]
identity: { certificate: gateway.pem, key: gateway-key.pem }
trust: { ca: [ca.pem] }
targets: { echo: { builtin: echo } }
rules: [{ clients: ["spiffe://dev/agent/*"], targets: ["*"] }]
admin: { listen: unix:admin.sock }
log: { format: json }
workers: 2
`;
beforeAll(async () => {
  place = await createWorkplace(ca.certificate, { alice: ca.client("alice"), gateway: ca.gateway() });
  await writeFile(join(place.folder, "pipegate.yaml"), config);
});
afterAll(() => place.remove());

const settings = (listen: string): Readonly<Record<string, string>> => ({
  PIPEGATE_GATEWAY: listen,
  PIPEGATE_CERT: "alice.pem",
  PIPEGATE_CA: "ca.pem",
});

describe("pipegate gateway with workers", () => {
  test("serves, tells of each worker, reloads at SIGHUP and ends with 0 after SIGTERM, with a log of whole lines", async () => {
    const child = place.start(["gateway"]);
    const end = ended(child);
    const reloaded = says(child, /config reloaded/u);
    const ready = (await says(child, /gateway ready/u)).split("\n").find((line) => line.includes("gateway ready"))!;
    const { listen } = JSON.parse(ready) as { readonly listen: readonly string[] };
    for (let n = 0; n < 6; n++) {
      expect(await place.run(["pipe", "echo"], "hi", settings(listen[0]!))).toEqual({ status: 0, out: Buffer.from("hi"), err: "" });
    }
    const { out } = await place.run(["status"]);
    expect(out.toString()).toMatch(
      /^connections: 0 now, 6 in all; pipes: 0 now\n  worker 1: 0 now, \d in all; .*\n  worker 2: 0 now, \d in all; /mu,
    );
    const asked = await place.run(["explain", "--live", "--cert", "alice.pem", "--target", "echo"]);
    expect(asked).toMatchObject({ status: 0, err: "" });
    await appendFile(join(place.folder, "pipegate.yaml"), "maxMessage: 2MiB\n");
    tell(child, "SIGHUP");
    expect(await reloaded).toMatch(/"version":2,"changes":\["maxMessage"\]/u);
    tell(child, "SIGTERM");
    const { status, err } = await end;
    expect(status).toBe(0);
    const lines = err
      .trimEnd()
      .split("\n")
      .filter((line) => !line.startsWith("pipegate: "))
      .map((line) => (JSON.parse(line) as { readonly event: string }).event);
    expect(lines.filter((event) => event === "pipe close")).toHaveLength(6);
    expect(lines.filter((event) => event === "config reloaded")).toHaveLength(1);
  });

  test("is told by check", async () => {
    const { out } = await place.run(["check"]);
    expect(out.toString()).toContain("  workers    2 threads, all limits together\n");
  });
});
