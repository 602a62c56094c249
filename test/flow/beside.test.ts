import { Buffer } from "node:buffer";
import { createHash, randomBytes } from "node:crypto";
import { expect, onTestFinished, test } from "vitest";
import { connect } from "../../src/client.ts";
import type { Client } from "../../src/client/types.ts";
import { type Behaviour, echo, startBackEnd } from "../support/back-ends.ts";
import { startGateway } from "../support/gateway.ts";
import { hashing } from "../support/pump.ts";

const TOTAL = 32 << 20;
const CHUNK = 64 << 10;

/** A session of a gateway that has the target `echo`, and `bulk` as `behaviour` is. */
async function session(behaviour: Behaviour): Promise<Client> {
  const [bulk, echoing] = [await startBackEnd(behaviour), await startBackEnd(echo)];
  const tcp = ({ host, port }: { readonly host: string; readonly port: number }) =>
    ({ kind: "tcp", addresses: [{ kind: "tcp", host, port }], framing: "u32", dialTimeoutMs: 5_000 }) as const;
  const gateway = await startGateway({ targets: { bulk: tcp(bulk), echo: tcp(echoing) } });
  const { certificate, key } = gateway.ca.client("worker");
  const client = await connect({ gateway: `127.0.0.1:${gateway.port}`, certificate, key, ca: gateway.ca.certificate });
  onTestFinished(async () => {
    await client.close();
    await gateway.close();
    for (const one of [bulk, echoing]) await one.close();
  });
  return client;
}

/** Round trips of a few bytes until `done`; how many there were. */
async function echoesUntil(client: Client, done: Promise<unknown>): Promise<number> {
  const pipe = await client.open("echo");
  const [writer, reader] = [pipe.writable.getWriter(), pipe.readable.getReader()];
  let running = true;
  void done.finally(() => (running = false));
  let count = 0;
  for (; running; count++) {
    const word = `word ${count}`;
    await writer.write(Buffer.from(word));
    let back = "";
    while (back.length < word.length) back += Buffer.from((await reader.read()).value ?? []).toString();
    expect(back).toBe(word);
  }
  await writer.close();
  return count;
}

test("a bulk pipe up and small words on the same session all arrive whole, and the words do not wait for its end", async () => {
  const client = await session(hashing);
  const pipe = await client.open("bulk");
  const hash = createHash("sha256");
  const sending = (async () => {
    const writer = pipe.writable.getWriter();
    for (let sent = 0; sent < TOTAL; sent += CHUNK) {
      const chunk = Buffer.alloc(CHUNK, sent >>> 16);
      hash.update(chunk);
      await writer.write(chunk);
    }
    await writer.close();
    return new Response(pipe.readable).text();
  })();
  expect(await echoesUntil(client, sending)).toBeGreaterThan(5);
  expect(await sending).toBe(hash.digest("hex"));
});

test("a bulk pipe down and small words on the same session all arrive whole, and the words do not wait for its end", async () => {
  const content = randomBytes(TOTAL);
  const client = await session((socket) => void socket.end(content));
  const pipe = await client.open("bulk");
  const reading = new Response(pipe.readable).bytes();
  expect(await echoesUntil(client, reading)).toBeGreaterThan(5);
  expect(Buffer.from(await reading).equals(content)).toBe(true);
});
