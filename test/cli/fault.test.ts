import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { connect } from "../../src/mod.ts";
import { seesEnds } from "../support/ends.ts";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, ended, says } from "../support/run-command.ts";
import { startProgram } from "../support/this-runtime.ts";

const ca = createTestCa();
const alice = ca.client("alice");

test.each([1, 2])("a fault of ours breaks pipes before it ends the gateway of %i threads, so that none looks whole", async (workers) => {
  const place = await createWorkplace(ca.certificate, { gateway: ca.gateway() });
  const backEnd = await seesEnds();
  await writeFile(
    join(place.folder, "pipegate.yaml"),
    `listeners: [{ listen: "127.0.0.1:0" }]
identity: { certificate: gateway.pem, key: gateway-key.pem }
trust: { ca: [ca.pem] }
targets: { db: { tcp: "127.0.0.1:${backEnd.port}" } }
rules: [{ clients: ["*"], targets: ["*"] }]
log: { format: json }
workers: ${workers}
`,
  );
  const child = startProgram("test/support/programs/faulty-gateway.ts", [], { folder: place.folder });
  const end = ended(child);
  const address = /"listen":\["([^"]+)"/u.exec(await says(child, /gateway ready/u))![1]!;
  const client = await connect({ gateway: address, certificate: alice.certificate, key: alice.key, ca: ca.certificate });
  const pipe = await client.open("db");
  await pipe.writable.getWriter().write(new Uint8Array(1_000));
  await vi.waitFor(() => expect(backEnd.received).toBe(1_000), { timeout: 5_000 });
  child.stdin.write("now");
  expect(await end).toMatchObject({ status: 1, err: expect.stringContaining("a fault of the test") });
  await vi.waitFor(() => expect(backEnd.ends).toEqual(["ECONNRESET"]), { timeout: 5_000 });
  await client.close();
  await backEnd.close();
  await place.remove();
});
