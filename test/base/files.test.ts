import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readBounded } from "../../src/base/files.ts";

const folder = mkdtempSync(join(tmpdir(), "pipegate-files-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const largest = 1 << 20;

test("a pipe that the user of a command names is read, one that a config names is not", async () => {
  const path = join(folder, "pipe");
  execFileSync("mkfifo", [path]);
  expect(await readBounded(path, { largest })).toEqual({ ok: false, says: "is not a regular file", missing: false });
  const writer = spawn("sh", ["-c", `printf certificate > ${path}`], { timeout: 5_000, killSignal: "SIGKILL" });
  const read = await readBounded(path, { largest, byHand: true });
  expect(read.ok && read.bytes.toString()).toBe("certificate");
  writer.kill("SIGKILL");
});

test("neither device nor endless pipe is read beyond its bound", async () => {
  expect(await readBounded("/dev/zero", { largest, byHand: true })).toMatchObject({ ok: false, says: "is not a regular file" });
  const path = join(folder, "endless");
  execFileSync("mkfifo", [path]);
  const writer = spawn("sh", ["-c", `cat /dev/zero > ${path}`], { timeout: 5_000, killSignal: "SIGKILL" });
  expect(await readBounded(path, { largest, byHand: true })).toMatchObject({
    ok: false,
    says: expect.stringMatching(/^is larger than 1 MiB/u),
  });
  writer.kill("SIGKILL");
});

test("who may change a file is the config's matter, not that of who names it by hand", async () => {
  const path = join(folder, "open");
  writeFileSync(path, "x");
  chmodSync(path, 0o666);
  expect(await readBounded(path, { largest })).toMatchObject({ ok: false, says: expect.stringMatching(/may be changed by everyone/u) });
  expect(await readBounded(path, { largest, byHand: true })).toMatchObject({ ok: true });
  expect(await readBounded(join(folder, "none"), { largest })).toEqual({ ok: false, says: "does not exist", missing: true });
});
