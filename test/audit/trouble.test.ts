/** What an audit log does while it cannot be written, by a clock that is moved. */
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { openAudit, type Audit } from "../../src/audit/audit.ts";
import { fullName } from "../../src/audit/file.ts";
import { verifyAudit } from "../../src/audit/verify.ts";
import { FakeClock } from "../support/fake-clock.ts";

let root: string;
let file: string;
let clock: FakeClock;
let troubles: string[];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "pipegate-audit-"));
  await mkdir(join(root, "log"));
  file = join(root, "log", "audit.jsonl");
  clock = new FakeClock(Date.now());
  troubles = [];
});
afterEach(() => rm(root, { recursive: true, force: true }));

const open = (maxBytes = 1 << 20): Promise<Audit> =>
  openAudit({ file, maxBytes, keep: 9, clock, onTrouble: (detail) => void troubles.push(detail), onWell: () => {} });
/** A try is over, and the next one waits for its time. */
const tried = (): Promise<void> => vi.waitFor(() => expect(clock.waiting).toBe(1), { timeout: 5_000, interval: 1 });

test("a write that takes longer than five seconds is one that fails, until it is done", async () => {
  const audit = await open();
  audit.record({ event: "pipe open" });
  clock.advance(20); // the write is under way, and is not done before we wait for it
  clock.advance(5_000);
  expect(audit.failing).toBeUndefined();
  clock.advance(1);
  expect(audit.failing).toBe("the disk does not answer");
  await vi.waitFor(() => expect(audit.failing).toBeUndefined());
  await audit.close();
});

test("it is tried again more and more slowly, said once a minute, and what waits at the end is counted as lost", async () => {
  const audit = await open();
  await rename(join(root, "log"), join(root, "away"));
  clock.advance(1_000); // it looks where its file is
  audit.record({ event: "pipe open" });
  clock.advance(20);
  await tried();
  for (const ms of [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]) {
    clock.advance(ms - 1);
    expect(clock.waiting).toBe(1);
    clock.advance(1);
    expect(clock.waiting).toBe(0);
    await tried();
  }
  expect(troubles).toEqual(["its folder is gone"]);
  for (let minute = 0; minute < 2; minute++) {
    clock.advance(10_000);
    await tried();
  }
  expect(troubles.length).toBe(2);
  expect(audit.lost).toBe(0);
  await audit.close();
  expect(audit.lost).toBe(1);
});

test("a file that lies where a full one goes is not written over, and nothing is lost", async () => {
  const audit = await open(200);
  const other = fullName(file, 1);
  await writeFile(other, "somebody's");
  audit.record({ event: "pipe open", text: "x".repeat(200) });
  clock.advance(20);
  await vi.waitFor(() => expect(audit.head.seq).toBe(1));
  audit.record({ event: "pipe close" });
  clock.advance(20);
  await vi.waitFor(() => expect(audit.failing).toContain("is in the way of the full file"));
  expect(await readFile(other, "utf8")).toBe("somebody's");
  await rm(other);
  await tried();
  clock.advance(250);
  await vi.waitFor(() => expect(audit.failing).toBeUndefined());
  await audit.close();
  expect(await verifyAudit(file)).toMatchObject({ faults: [], lines: 2, files: [other, file] });
});
