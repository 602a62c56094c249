import { Buffer } from "node:buffer";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { startGateway } from "../support/gateway.ts";
import { fuzzTls, TlsFuzzError, type TlsFuzzResult } from "../support/tls-fuzz.ts";
import { WireClient } from "../support/wire-client.ts";

const corpus = fileURLToPath(new URL("./corpus/tls/", import.meta.url));

test("a gateway survives random and mutated frames over TLS: it serves on, nothing is left, memory is flat, every end has a reason", async () => {
  const frames = Number(process.env["FUZZ_FRAMES"] ?? 20_000);
  const seed = Number(process.env["FUZZ_SEED"] ?? 20_261_121);
  let result: TlsFuzzResult;
  try {
    result = await fuzzTls({ frames, seed });
  } catch (error) {
    mkdirSync(corpus, { recursive: true });
    if (error instanceof TlsFuzzError) writeFileSync(`${corpus}seed-${seed}.hex`, error.input.toString("hex"));
    throw error;
  }
  const { ends, grown, connections } = result;
  const mib = (grown / 2 ** 20).toFixed(1);
  process.stderr.write(
    `fuzz over TLS: seed ${seed}, ${result.frames} frames on ${connections} connections, grown ${mib} MiB, ends ${JSON.stringify([...ends])}\n`,
  );
  expect(result.frames).toBeGreaterThanOrEqual(frames);
  expect([...ends.values()].reduce((sum, count) => sum + count, 0)).toBe(connections);
  expect([...ends.keys()]).toEqual(expect.arrayContaining(["protocol_error", "flow_control", "frame_size"]));
  expect(grown).toBeLessThan(24 << 20);
}, 120_000);

test("inputs that once broke a gateway do so no more", async () => {
  const names = existsSync(corpus) ? readdirSync(corpus) : [];
  const setup = await startGateway();
  const { certificate, key } = setup.ca.client("mallory");
  for (const name of names) {
    const client = await WireClient.dial({ port: setup.port, certificate, key, ca: setup.ca.certificate });
    await client.push(Buffer.from(readFileSync(`${corpus}${name}`, "utf8").trim(), "hex"));
    client.socket.end();
    await client.end();
  }
  await expect.poll(() => setup.gateway.status().connections).toBe(0);
  expect(setup.log.filter(({ fields }) => fields["reason"] === "internal")).toEqual([]);
  await setup.close();
}, 60_000);
