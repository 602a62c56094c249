import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readBounded } from "../../src/base/files.ts";
import { runtimeWords } from "../support/this-runtime.ts";

const folder = mkdtempSync(join(tmpdir(), "pipegate-files-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const largest = 1 << 20;

test("a pipe that the shell hands over is read, no other, and nobody waits for one", async () => {
  const path = join(folder, "pipe");
  execFileSync("mkfifo", [path]);
  for (const byHand of [false, true])
    expect(await readBounded(path, { largest, byHand })).toEqual({ ok: false, says: "is not a regular file", missing: false });
  const program = `
    const { readBounded } = await import(${JSON.stringify(new URL("../../src/base/files.ts", import.meta.url).href)});
    const read = await readBounded(process.argv.at(-1), { largest: 1 << 20, byHand: true });
    console.log(read.ok ? read.bytes.toString() : read.says);`;
  const file = join(folder, "read.mjs");
  writeFileSync(file, `import process from "node:process";${program}`);
  const said = (from: string): string =>
    execFileSync("bash", ["-c", `exec "$@" <(${from})`, "bash", ...runtimeWords, file], {
      timeout: 20_000,
      killSignal: "SIGKILL",
    }).toString();
  expect(said("printf certificate")).toBe("certificate\n");
  expect(said("head -c 2000000 /dev/zero")).toMatch(/^is larger than 1 MiB/u);
}, 40_000);

test("a device is not read", async () => {
  expect(await readBounded("/dev/zero", { largest, byHand: true })).toMatchObject({ ok: false, says: "is not a regular file" });
});

test("who may change a file is the config's matter, not that of who names it by hand", async () => {
  const path = join(folder, "open");
  writeFileSync(path, "x");
  chmodSync(path, 0o666);
  expect(await readBounded(path, { largest })).toMatchObject({ ok: false, says: expect.stringMatching(/may be changed by everyone/u) });
  expect(await readBounded(path, { largest, byHand: true })).toMatchObject({ ok: true });
  expect(await readBounded(join(folder, "none"), { largest })).toEqual({ ok: false, says: "does not exist", missing: true });
});
