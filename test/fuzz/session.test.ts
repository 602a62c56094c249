import { Buffer } from "node:buffer";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { fuzzSessions } from "../support/frame-fuzz.ts";
import { RawPeer } from "../support/raw-peer.ts";

const corpus = fileURLToPath(new URL("./corpus/session/", import.meta.url));

test("a session survives half a million random and mutated frames, in flat memory, and every one ends under a reason", () => {
  const before = process.memoryUsage().heapUsed;
  const seed = Number(process.env["FUZZ_SEED"] ?? 20_261_121);
  let result;
  try {
    result = fuzzSessions({ frames: 500_000, seed });
  } catch (error) {
    // The input that broke it stays, and is played again by the test below.
    mkdirSync(corpus, { recursive: true });
    writeFileSync(`${corpus}seed-${seed}.hex`, (error as Error).message.split("\n").at(-1) ?? "");
    throw error;
  }
  const grown = (process.memoryUsage().heapUsed - before) / 2 ** 20;
  process.stderr.write(
    `fuzz: ${result.frames} frames in ${result.sessions} sessions, heap ${grown.toFixed(0)} MiB, ends ${JSON.stringify([...result.ends])}\n`,
  );
  expect(result.frames).toBeGreaterThanOrEqual(500_000);
  expect(result.ends.size).toBeGreaterThan(3);
  expect(grown).toBeLessThan(200);
}, 120_000);

test("inputs that once broke a session do so no more", () => {
  for (const name of existsSync(corpus) ? readdirSync(corpus) : []) {
    const peer = new RawPeer({ silent: true });
    peer.send(Buffer.from(readFileSync(`${corpus}${name}`, "utf8").trim(), "hex"));
    peer.session.transportClosed();
    peer.clock.advance(5_000);
    expect([name, peer.closed?.broken?.reason === "internal" && peer.closed.broken.detail !== undefined]).toEqual([name, false]);
  }
});
