import { configDefaults } from "../../src/config/config.ts";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { connect as connectNet } from "node:net";
import { join } from "node:path";
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import type { PipegateError } from "../../src/base/error.ts";
import { connect } from "../../src/client.ts";
import type { Client, Pipe } from "../../src/client/types.ts";
import { answering, type BackEnd, echo, sourceBytes, startBackEnd } from "../support/back-ends.ts";
import { type GatewaySetup, startGateway, trustIn, type TestGateway } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, ended, says, tell } from "../support/run-command.ts";

const MiB = 1 << 20;
const ca = createTestCa();
const { certificate, key } = ca.client("alice");
const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function gateway(setup: GatewaySetup = {}): Promise<TestGateway> {
  const made = await startGateway({ ca, ...setup });
  open.push(made);
  return made;
}

async function backEnd(behaviour: Parameters<typeof startBackEnd>[0]): Promise<BackEnd> {
  const made = await startBackEnd(behaviour);
  open.push(made);
  return made;
}

async function dial(port: number): Promise<Client> {
  const client = await connect({ gateway: `127.0.0.1:${port}`, certificate, key, ca: ca.certificate });
  client.closed.catch(() => {});
  open.push(client);
  return client;
}

async function dialRaw(port: number): Promise<TLSSocket> {
  const socket = connectTls({
    host: "127.0.0.1",
    port,
    cert: certificate,
    key,
    ca: ca.certificate,
    allowHalfOpen: true,
  } as ConnectionOptions);
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  return socket;
}

const tcp = ({ host, port }: BackEnd) =>
  ({ kind: "tcp", addresses: [{ kind: "tcp", host, port }], framing: "u32", dialTimeoutMs: 3_000 }) as const;
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "none",
    (error: PipegateError) => error.code,
  );

async function readAll(pipe: Pipe): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of pipe.readable as unknown as AsyncIterable<Uint8Array>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function refused(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectNet({ host: "127.0.0.1", port });
    socket.on("connect", () => (socket.destroy(), resolve(false)));
    socket.on("error", () => resolve(true));
  });
}

describe("drain", () => {
  test("lets 8 MiB under way arrive whole, refuses new pipes with draining, and then closes", async () => {
    const setup = await gateway({ targets: { echo: { kind: "builtin", builtin: "echo" } } });
    const client = await dial(setup.port);
    const pipe = await client.open("echo");
    const sent = Buffer.from(sourceBytes(8 * MiB));
    const reading = readAll(pipe);
    const writer = pipe.writable.getWriter();
    await writer.write(sent.subarray(0, MiB));
    const drained = setup.gateway.drain(20_000);
    expect(setup.gateway.status().state).toBe("draining");
    expect(await refused(setup.port)).toBe(true);
    expect(await codeOf(client.open("echo"))).toBe("draining");
    for (let at = MiB; at < sent.length; at += 64 << 10) await writer.write(sent.subarray(at, at + (64 << 10)));
    await writer.close();
    expect((await reading).equals(sent)).toBe(true);
    await pipe.closed;
    await drained;
    expect(await codeOf(client.closed)).toBe("none"); // it ended in order
    expect(setup.gateway.status()).toMatchObject({ state: "closed", connections: 0, pipes: [] });
    expect(setup.lines("pipe close").map(({ reason }) => reason)).toEqual(["done"]);
  });

  test("an answer that the back end still writes arrives whole", async () => {
    const setup = await gateway({ targets: { slow: tcp(await backEnd(answering(8 * MiB))) } });
    const pipe = await (await dial(setup.port)).open("slow");
    const writer = pipe.writable.getWriter();
    await writer.write(Buffer.from("question"));
    const drained = setup.gateway.drain(20_000);
    await writer.close();
    expect((await readAll(pipe)).equals(sourceBytes(8 * MiB))).toBe(true);
    await drained;
  });

  test("at the deadline cuts what is left, with the reason draining and never a clean end", async () => {
    const setup = await gateway();
    const client = await dial(setup.port);
    const pipe = await client.open("echo");
    const started = performance.now();
    const drained = setup.gateway.drain(300);
    expect(await codeOf(readAll(pipe))).toBe("draining");
    expect(await codeOf(pipe.closed)).toBe("draining");
    expect(await codeOf(client.closed)).toBe("draining");
    await drained;
    const took = performance.now() - started;
    expect(took).toBeGreaterThan(250);
    expect(took).toBeLessThan(3_000);
    expect(setup.lines("pipe close").map(({ reason }) => reason)).toEqual(["draining"]);
    expect(setup.gateway.status()).toMatchObject({ state: "closed", connections: 0, pipes: [] });
  });

  test("called twice is one drain, and close() in the middle of it ends it at once", async () => {
    const setup = await gateway();
    const pipe = await (await dial(setup.port)).open("echo");
    const first = setup.gateway.drain(20_000);
    expect(setup.gateway.drain(1)).toBe(first);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(setup.gateway.status()).toMatchObject({ state: "draining", connections: 1 });
    const started = performance.now();
    await setup.gateway.close();
    await first;
    expect(performance.now() - started).toBeLessThan(3_000);
    expect(await codeOf(pipe.closed)).toBe("draining");
  });

  test("before listen() and without anybody connected is over at once, and such a gateway opens nothing any more", async () => {
    const setup = await gateway();
    const started = performance.now();
    await setup.gateway.drain(20_000);
    expect(performance.now() - started).toBeLessThan(1_000);
    await expect(setup.gateway.listen()).rejects.toMatchObject({ code: "usage" });
    const { Gateway } = await import("../../src/gateway.ts");
    const own = ca.gateway();
    const never = new Gateway({
      listeners: [{ listen: { kind: "tcp", host: "127.0.0.1", port: 0 }, serverNames: new Map(), alpn: [] }],
      credentials: { certificate: own.certificate, key: own.key },
      trust: trustIn({ ca: [ca.certificate] }),
      targets: new Map(),
      rules: [],
      admin: undefined,
      log: { level: "info", format: "json" },
      selfTest: "skip",
      penalties: configDefaults.penalties,
      audit: undefined,
      maxMessageBytes: MiB,
      warnings: [],
      workers: 1,
    });
    await never.drain(20_000);
    await expect(never.listen()).rejects.toMatchObject({ code: "usage" });
    expect(never.status()).toMatchObject({ state: "closed", listeners: [] });
  });

  test("a raw pipe under way ends by itself, or is cut at the deadline", async () => {
    const setup = await gateway({ raw: ["echo"], targets: { echo: tcp(await backEnd(echo)) } });
    const port = setup.rawPorts[0] as number;
    const [ending, staying] = [await dialRaw(port), await dialRaw(port)];
    for (const socket of [ending, staying]) {
      socket.write("x");
      await once(socket, "data");
    }
    const drained = setup.gateway.drain(500);
    expect(await refused(port)).toBe(true);
    const chunks: Buffer[] = [];
    ending.on("data", (chunk: Buffer) => void chunks.push(chunk));
    ending.end(Buffer.alloc(MiB, "y"));
    await once(ending, "end");
    expect(Buffer.concat(chunks).length).toBe(MiB);
    staying.resume();
    // Deno shows a RST as an end; `once` would reject with it on Node.
    const closed = new Promise<void>((resolve) => void staying.once("close", () => resolve()).once("end", () => resolve()));
    await drained;
    await closed;
    expect(setup.lines("pipe close").map(({ reason }) => reason)).toEqual(["done", "draining"]);
    expect(setup.gateway.status()).toMatchObject({ connections: 0, pipes: [] });
  });

  test("a client that does not even close its side is cut", async () => {
    const setup = await gateway();
    const client = connectTls({
      host: "127.0.0.1",
      port: setup.port,
      cert: certificate,
      key,
      ca: ca.certificate,
      ALPNProtocols: ["pipegate/1"],
    });
    client.on("error", () => {});
    await once(client, "secureConnect"); // and never a HELLO
    await expect.poll(() => setup.gateway.status().connections).toBe(1);
    const started = performance.now();
    const gone = new Promise<void>((resolve) => void client.once("close", () => resolve()));
    client.resume();
    await setup.gateway.drain(200);
    expect(performance.now() - started).toBeLessThan(4_000);
    expect(setup.gateway.status().connections).toBe(0);
    client.end();
    await gone;
  });
});

describe("a gateway that is told to stop", () => {
  const config = `listeners:
  - listen: 127.0.0.1:0
identity: { certificate: gateway.pem, key: gateway-key.pem }
trust: { ca: [ca.pem] }
targets: { echo: { builtin: echo } }
rules: [{ clients: ["spiffe://dev/agent/*"], targets: [echo] }]
`;

  test("by SIGTERM lets a transfer arrive whole and ends with 0; a second signal ends it at once", async () => {
    const place = await createWorkplace(ca.certificate, { gateway: ca.gateway() });
    open.push({ close: () => place.remove() });
    await writeFile(join(place.folder, "pipegate.yaml"), config);
    for (const impatient of [false, true]) {
      const child = place.start(["gateway", "-c", "pipegate.yaml"]);
      const end = ended(child);
      const ready = await says(child, /gateway ready/u);
      const [listen] = (JSON.parse(ready.split("\n").find((line) => line.includes("gateway ready"))!) as { listen: string[] }).listen;
      const client = await dial(Number(listen!.split(":").at(-1)));
      const pipe = await client.open("echo");
      const writer = pipe.writable.getWriter();
      writer.closed.catch(() => {});
      const reading = readAll(pipe);
      const read = codeOf(reading);
      reading.catch(() => {});
      await writer.write(Buffer.alloc(MiB));
      const draining = says(child, /draining/u);
      tell(child, "SIGTERM");
      await draining;
      if (impatient) {
        tell(child, "SIGTERM");
        expect(await read).toBe("draining");
      } else {
        for (let n = 1; n < 8; n++) await writer.write(Buffer.alloc(MiB));
        await writer.close();
        expect((await reading).length).toBe(8 * MiB);
      }
      const { status, err } = await end;
      expect([status, /pipe close.*"reason":"(\w+)"/u.exec(err)?.[1]]).toEqual([0, impatient ? "draining" : "done"]);
    }
  }, 40_000);
});
