import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { takeLock } from "../../src/audit/lock.ts";

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pipegate-lock-"));
  file = join(folder, "audit.jsonl");
});
afterAll(() => rm(folder, { recursive: true }));

/** Of a process that is none. */
const dead = "4194305 1 dead\n";

test("a dead one's lock is taken over by one of those who want it at the same time", async () => {
  for (let round = 0; round < 100; round++) {
    await writeFile(`${file}.lock`, dead);
    const late = (n: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, n % 3));
    const wanted = Array.from({ length: 8 }, (_, n) => late(n).then(() => takeLock(file)));
    const had = (await Promise.allSettled(wanted)).filter((one) => one.status === "fulfilled");
    expect(had.length).toBe(1);
    await had[0]!.value.release();
  }
  expect(await readdir(folder)).toEqual([]);
});

test("so is one whose taking over was cut off by another death", async () => {
  const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 12);
  const clearing = `${file}.lock.${digest(dead)}`;
  await writeFile(`${file}.lock`, dead);
  await writeFile(clearing, `${dead}again`);
  await writeFile(`${clearing}.${digest(`${dead}again`)}`, `${dead}and again`);
  await (await takeLock(file)).release();
  expect(await readdir(folder)).toEqual([]);
});
