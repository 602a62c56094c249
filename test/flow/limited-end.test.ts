import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../src/mod.ts";
import type { TargetOptions } from "../../src/target/target.ts";
import { type BackEnd, type Behaviour, source, sourceBytes, startBackEnd } from "../support/back-ends.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";
import { hashing } from "../support/pump.ts";

// More than one read of a socket, and so much over the limit that the last chunk waits while the end behind it is there already.
const size = 150_000;
const limits = { bytes: { perSecond: 150_000, burst: 1_000 } };
const message = 10_000;

/** Sends `size` bytes as messages with their lengths before them, and closes. */
const telling: Behaviour = (socket) => {
  socket.resume();
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(message);
  const one = Buffer.concat([prefix, sourceBytes(message)]);
  socket.end(Buffer.concat(Array.from({ length: size / message }, () => one)));
};

const ca = createTestCa();
const own = ca.gateway();
const alice = ca.client("alice");
const backEnds = new Map<string, BackEnd>();
let setup: TestGateway;

beforeAll(async () => {
  const tls = { cert: own.certificate, key: own.key };
  backEnds.set("source", await startBackEnd(source(size)));
  backEnds.set("source-tls", await startBackEnd(source(size), { tls }));
  backEnds.set("source-unix", await startBackEnd(source(size), { unix: true }));
  backEnds.set("telling", await startBackEnd(telling));
  backEnds.set("hashing", await startBackEnd(hashing));
  const targetOf = ([name, { host, port, path }]: [string, BackEnd]): [string, TargetOptions] => {
    const common = { framing: "u32", dialTimeoutMs: 5_000 } as const;
    if (path !== "") return [name, { kind: "unix", path, ...common }];
    const addresses = [{ kind: "tcp", host, port }] as const;
    return [
      name,
      name.endsWith("tls") ? { kind: "tls", addresses, ca: [ca.certificate], ...common } : { kind: "tcp", addresses, ...common },
    ];
  };
  setup = await startGateway({
    ca,
    targets: Object.fromEntries(Array.from(backEnds, targetOf)),
    raw: ["source", "hashing"],
    rules: [{ clients: ["*"], limits }],
  });
});
afterAll(async () => {
  await setup.close();
  for (const backEnd of backEnds.values()) await backEnd.close();
});

const dial = (): ReturnType<typeof connect> =>
  connect({ gateway: `127.0.0.1:${setup.port}`, certificate: alice.certificate, key: alice.key, ca: ca.certificate });

/** What a raw client hears after it has sent `content` and ended. */
function raw(port: number, content: Uint8Array): Promise<Buffer> {
  const options = { host: "127.0.0.1", port, cert: alice.certificate, key: alice.key, ca: ca.certificate, allowHalfOpen: true };
  const socket = connectTls(options);
  const heard: Buffer[] = [];
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("data", (chunk: Buffer) => heard.push(chunk));
    socket.on("end", () => resolve(Buffer.concat(heard)));
    socket.once("secureConnect", () => socket.end(content));
  });
}

describe("what a limit holds back arrives before the end", () => {
  test.each(["source", "source-tls", "source-unix"])("from a back end (%s)", async (target) => {
    const client = await dial();
    const pipe = await client.open(target);
    const closed = pipe.writable.close();
    const heard = new Uint8Array(await new Response(pipe.readable).arrayBuffer());
    await Promise.all([closed, pipe.closed]);
    expect(Buffer.from(heard).equals(sourceBytes(size))).toBe(true);
    await client.close();
    expect(setup.lines("pipe close").at(-1)).toMatchObject({ target, bytesOut: size, reason: "done" });
  });

  test("from a back end that sends messages", async () => {
    const client = await dial();
    const pipe = await client.open("telling", { messages: true });
    pipe.closeWrite();
    let whole = 0;
    for await (const one of pipe) if (Buffer.from(one).equals(sourceBytes(message))) whole++;
    await pipe.closed;
    expect(whole).toBe(size / message);
    await client.close();
  });

  test("to a client without frames", async () => {
    expect((await raw(setup.rawPorts[0]!, Buffer.alloc(1))).equals(sourceBytes(size))).toBe(true);
  });

  test("from a client without frames", async () => {
    const heard = await raw(setup.rawPorts[1]!, sourceBytes(size));
    expect(heard.toString()).toBe(createHash("sha256").update(sourceBytes(size)).digest("hex"));
  });

  test("from a client with frames", async () => {
    const client = await dial();
    const pipe = await client.open("hashing");
    const answer = new Response(pipe.readable).text();
    const writer = pipe.writable.getWriter();
    await writer.write(sourceBytes(size));
    await writer.close();
    expect(await answer).toBe(createHash("sha256").update(sourceBytes(size)).digest("hex"));
    await client.close();
  });
});
