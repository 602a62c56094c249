import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { connect as connectTcp, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { GatewayStatus } from "../../src/gateway.ts";
import { connect } from "../../src/mod.ts";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, ended, says, tell, type Ended, type Workplace } from "../support/run-command.ts";
import { runtimeWords, startProgram } from "../support/this-runtime.ts";

/** Ticks that a process was busy, user and system. Linux has 100 a second. */
function ticksOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const ca = createTestCa();
const alice = ca.client("alice");
let place: Workplace;
let back: Server;
let pid: number;
let port: number;
let end: Promise<Ended>;
let said = "";
let isOver = false;

beforeAll(async () => {
  place = await createWorkplace(ca.certificate, { gateway: ca.gateway() });
  back = createServer((socket) => void socket.on("error", () => {}).pipe(socket));
  await new Promise<void>((resolve) => back.listen(0, "127.0.0.1", resolve));
  const config = `listeners: [{ listen: "127.0.0.1:0" }]
identity: { certificate: gateway.pem, key: gateway-key.pem }
trust: { ca: [ca.pem] }
targets: { echo: { builtin: echo }, tcp: { tcp: ["127.0.0.1:${(back.address() as AddressInfo).port}"] } }
rules: [{ clients: ["*"], targets: ["*"] }]
admin: { listen: "unix:admin.sock" }
log: { format: json }
`;
  await writeFile(join(place.folder, "pipegate.yaml"), config);
  const child = startProgram("src/cli/main.ts", ["gateway"], {
    words: ["/bin/sh", "-c", `ulimit -n 128; exec "$0" "$@"`, ...runtimeWords],
    folder: place.folder,
    timeoutMs: 100_000,
  });
  pid = child.pid!;
  child.stderr.on("data", (chunk: Buffer) => void (said += chunk.toString()));
  end = ended(child);
  void end.then(() => (isOver = true));
  const text = await says(child, /gateway ready.*\n/u);
  port = Number(/"listen":\["127\.0\.0\.1:([0-9]+)"\]/u.exec(text)![1]);
}, 30_000);
afterAll(async () => {
  if (!isOver) process.kill(pid, "SIGTERM");
  await end;
  back.close();
  await place.remove();
});

async function status(): Promise<GatewayStatus> {
  const { out, err } = await place.run(["status", "--admin", `unix:${join(place.folder, "admin.sock")}`, "--json"]);
  expect(err).toBe("");
  return JSON.parse(out.toString()) as GatewayStatus;
}

const dial = () => connect({ gateway: `127.0.0.1:${port}`, certificate: alice.certificate, key: alice.key, ca: ca.certificate });

async function serves(): Promise<boolean> {
  try {
    await using client = await dial();
    const pipe = await client.open("echo");
    await pipe.writable.getWriter().write(new TextEncoder().encode("still here"));
    return new TextDecoder().decode((await pipe.readable.getReader().read()).value) === "still here";
  } catch {
    return false;
  }
}

/** Silent connections that are dialled again when they are cut. */
function hog(count: number): () => void {
  let isOver = false;
  const sockets = new Set<Socket>();
  const open = (): void => {
    if (isOver) return;
    const socket = connectTcp({ host: "127.0.0.1", port }).on("error", () => {});
    sockets.add(socket);
    socket.resume().on("close", () => {
      sockets.delete(socket);
      setTimeout(open, 500);
    });
  };
  for (let n = 0; n < count; n++) open();
  return () => {
    isOver = true;
    for (const socket of sockets) socket.destroy();
  };
}

describe("a gateway with 128 descriptors", () => {
  test("and 200 connections is not busy, says so once a second, answers `status`, and serves once they are gone", async () => {
    const release = hog(200);
    try {
      await sleep(1_000);
      const [ticks, at, lines] = [ticksOf(pid), performance.now(), said.split("\n").length];
      await sleep(4_000);
      const seconds = (performance.now() - at) / 1_000;
      expect((ticksOf(pid) - ticks) / (100 * seconds)).toBeLessThan(0.2);
      expect(said.split("\n").length - lines).toBeLessThanOrEqual(Math.ceil(seconds) + 1);
      expect((await status()).state).toBe("ready");
      await expect
        .poll(() => said, { timeout: 5_000 })
        .toMatch(/"reason":"too_many_connections","detail":"the process has no descriptors left for connections"/u);
    } finally {
      release();
    }
    const released = performance.now();
    await expect.poll(serves, { timeout: 30_000, interval: 50 }).toBe(true);
    expect(performance.now() - released).toBeLessThan(2_000);
  }, 60_000);

  test("and a client that opens more pipes than there are descriptors refuses those, and answers `status` and others", async () => {
    const client = await dial();
    const opened = await Promise.allSettled(Array.from({ length: 120 }, () => client.open("tcp")));
    const refused = opened.filter((one) => one.status === "rejected").map(({ reason }) => (reason as { code: string }).code);
    expect(new Set(refused)).toEqual(new Set(["target_unavailable"]));
    expect(120 - refused.length).toBeGreaterThan(30);
    expect((await status()).pipes.length).toBe(120 - refused.length);
    await client.close();
    await expect.poll(serves, { timeout: 30_000 }).toBe(true);
    const again = await dial();
    await (await again.open("tcp")).writable.close();
    await again.close();
  }, 60_000);

  test("has lost nothing by that: it drains and ends with 0", async () => {
    tell({ pid } as Parameters<typeof tell>[0], "SIGTERM");
    expect((await end).status).toBe(0);
    expect(said).not.toMatch(/fault of pipegate|EMFILE/u);
  });
});
