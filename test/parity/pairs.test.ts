import { createHash, randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { connect } from "../../src/client.ts";
import type { Client } from "../../src/client/types.ts";
import { Random } from "../support/frame-fuzz.ts";
import { ended } from "../support/run-command.ts";
import { pairRuntimes, startProgram } from "../support/this-runtime.ts";

const here = "Deno" in globalThis ? "deno" : "node";
const noise = randomBytes(1 << 20);

interface Serving {
  readonly port: number;
  readonly certificate: string;
  readonly key: string;
  readonly ca: string;
}

async function serve(words: readonly string[]) {
  const child = startProgram("test/parity/gateway-program.ts", [], { words, timeoutMs: 120_000 });
  const end = ended(child);
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
    void end.then(({ err }) => reject(new Error(err)));
  });
  return {
    serving: JSON.parse(line) as Serving,
    stop: async () => {
      child.stdin.end();
      return JSON.parse((await end).err) as { open: number; closes: number };
    },
  };
}

const sha = (parts: Iterable<Uint8Array>): string => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};

/** Bytes through a pipe and back, the end given by a half-close; their hashes must be equal. */
async function echoBytes(client: Client, { target, size }: { readonly target: string; readonly size: number }): Promise<void> {
  const pipe = await client.open(target);
  const sent = noise.subarray(0, size);
  const writer = pipe.writable.getWriter();
  const writing = (async () => {
    if (target === "bytes") await writer.write(new Uint8Array([0x65]));
    for (let at = 0; at < size; at += 50_000) await writer.write(sent.subarray(at, Math.min(size, at + 50_000)));
    await writer.close();
  })();
  const hash = createHash("sha256");
  let first = target === "bytes";
  for await (const chunk of pipe.readable as unknown as AsyncIterable<Uint8Array>) {
    hash.update(first ? chunk.subarray(1) : chunk);
    first = false;
  }
  await writing;
  expect(hash.digest("hex")).toBe(sha([sent]));
  await pipe.closed;
}

async function echoMessages(
  client: Client,
  { target, sizes }: { readonly target: string; readonly sizes: readonly number[] },
): Promise<void> {
  const pipe = await client.open(target, { messages: true });
  const sending = (async () => {
    for (const size of sizes) await pipe.send(noise.subarray(0, size));
    pipe.closeWrite();
  })();
  const back: number[] = [];
  for await (const message of pipe) {
    back.push(message.length);
    expect(sha([message])).toBe(sha([noise.subarray(0, message.length)]));
  }
  await sending;
  expect(back).toEqual(sizes);
}

/** The back end resets in the middle: an error, never an end. */
async function resetByTarget(client: Client): Promise<void> {
  const pipe = await client.open("bytes");
  const writer = pipe.writable.getWriter();
  void (async () => {
    await writer.write(new Uint8Array([0x78]));
    for (let n = 0; n < 20; n++) await writer.write(noise.subarray(0, 16_000));
  })().catch(() => {});
  const reading = (async () => {
    for await (const _ of pipe.readable as unknown as AsyncIterable<Uint8Array>);
  })();
  await expect(reading).rejects.toMatchObject({ code: "target_reset" });
  await expect(pipe.closed).rejects.toMatchObject({ code: "target_reset" });
}

async function abortByUs(client: Client, size: number): Promise<void> {
  const pipe = await client.open("bytes");
  void pipe.writable
    .getWriter()
    .write(noise.subarray(0, size))
    .catch(() => {});
  pipe.abort();
  await expect(pipe.closed).rejects.toMatchObject({ code: "cancelled" });
}

describe.each(pairRuntimes)(`a client on ${here} and a gateway on $name`, ({ words }) => {
  test("carry 1,000 pipes of random sizes with equal hashes, half-closes and resets among them", async () => {
    const { serving, stop } = await serve(words);
    const clients = await Promise.all(
      Array.from({ length: 4 }, () =>
        connect({ gateway: `127.0.0.1:${serving.port}`, certificate: serving.certificate, key: serving.key, ca: serving.ca }),
      ),
    );
    const random = new Random(7);
    let left = 1000;
    const lane = async (client: Client): Promise<void> => {
      while (left-- > 0) {
        const kind = random.next(10);
        const size = random.next(random.next(5) === 0 ? 1 << 20 : 40_000);
        if (kind < 3) await echoBytes(client, { target: "bytes", size });
        else if (kind < 5) await echoBytes(client, { target: "echo", size });
        else if (kind < 8) await echoMessages(client, { target: kind === 7 ? "echo" : "bytes", sizes: [0, random.next(100), size, 1] });
        else if (kind === 8) await resetByTarget(client);
        else await abortByUs(client, size);
      }
    };
    await Promise.all(clients.flatMap((client) => Array.from({ length: 8 }, () => lane(client))));
    await Promise.all(clients.map((client) => client.close()));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await stop()).toEqual({ open: 0, closes: expect.any(Number) });
  }, 110_000);
});
