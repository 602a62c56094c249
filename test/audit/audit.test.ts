import { execFileSync } from "node:child_process";
import { appendFile, link, lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { openAudit, type Audit, type AuditOptions } from "../../src/audit/audit.ts";
import { fullFiles } from "../../src/audit/file.ts";
import { beginAudit } from "../../src/audit/waiting.ts";
import { verifyAudit } from "../../src/audit/verify.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { startProgram } from "../support/this-runtime.ts";
import { says, tell } from "../support/run-command.ts";

let folder: string;
let file: string;
const opened: Audit[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pipegate-audit-"));
  file = join(folder, "audit.jsonl");
});
afterEach(async () => {
  for (const audit of opened.splice(0)) await audit.close();
  await rm(folder, { recursive: true, force: true });
});

async function open(options: Partial<AuditOptions> = {}): Promise<Audit> {
  const audit = await openAudit({ file, maxBytes: 1 << 20, keep: 10, onTrouble: () => {}, onWell: () => {}, ...options });
  opened.push(audit);
  return audit;
}

/** One more line in the log, which is closed then. */
async function leave(event: string): Promise<void> {
  const audit = await open();
  audit.record({ event });
  await audit.close();
}

const whole = async (): Promise<number> => {
  const { faults, lines } = await verifyAudit(file);
  expect(faults).toEqual([]);
  return lines;
};
const lines = async (): Promise<Record<string, unknown>[]> =>
  (await readFile(file, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test("lines are chained, in order, for the owner alone, and their head is the last", async () => {
  const audit = await open();
  for (let n = 0; n < 5; n++) audit.record({ event: "pipe open", n });
  await audit.close();
  expect((await lines()).map(({ seq, n }) => [seq, n])).toEqual([1, 2, 3, 4, 5].map((seq) => [seq, seq - 1]));
  expect((await lstat(file)).mode & 0o777).toBe(0o600);
  expect((await verifyAudit(file)).head).toEqual({ seq: audit.head.seq, hash: audit.head.hash });
  expect(await whole()).toBe(5);
});

test("texts of peers cannot forge a line or its fields, and a line is bounded", async () => {
  const audit = await open();
  audit.record({ event: "pipe open", identity: 'x"\n{"seq":9}\u202e', seq: 77, prev: "no", ["a\n"]: "b" });
  audit.record({ event: "pipe open", ...Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`f${n}`, "\u0000".repeat(600)])) });
  await audit.close();
  const [first, second] = await lines();
  expect(first).toMatchObject({ seq: 1, identity: 'x"\\u{a}{"seq":9}\\u{202e}' });
  expect(second).toMatchObject({ seq: 2, cut: true });
  expect(await whole()).toBe(2);
});

test("a field that throws is a lost line, told in the chain", async () => {
  const audit = await open();
  const bad = {
    event: "x",
    get y(): string {
      throw new Error("no such field");
    },
  };
  audit.record(bad);
  audit.record({ event: "pipe open" });
  await audit.close();
  expect(audit.lost).toBe(1);
  expect(await lines()).toMatchObject([{ event: "audit gap", lost: 1 }, { event: "pipe open" }]);
});

test("the chain goes on over a restart and over full files, of which so many are kept", async () => {
  for (let round = 0; round < 6; round++) {
    const audit = await open({ maxBytes: 2_000, keep: 3 });
    for (let n = 0; n < 20; n++) audit.record({ event: "pipe open", round, n });
    await audit.close();
  }
  const { faults, firstSeq, head, files } = await verifyAudit(file);
  expect(faults).toEqual([]);
  expect(head.seq).toBe(120);
  expect(firstSeq).toBeGreaterThan(1);
  expect((await fullFiles(file)).length).toBe(3);
  expect(files.length).toBe(4);
});

test("a crash between the rename and the new file loses nothing", async () => {
  await leave("pipe open");
  await rename(file, `${file}.0000000000000001`);
  await leave("pipe close");
  expect(await whole()).toBe(2);
});

test("a line that a power cut left is ended, told, and no forgery", async () => {
  await leave("pipe open");
  await appendFile(file, '{"seq":2,"time":"2026-01-01T00:');
  await (await open()).close();
  const { faults, cut, lines: count, head } = await verifyAudit(file);
  expect({ faults, cut, count, seq: head.seq }).toEqual({ faults: [], cut: 1, count: 2, seq: 3 });
});

test.each([
  ["in its first signs", '{"se'],
  ["in its text", '{"seq":3,"time":"2026-01-01T00:'],
  ["before it began", ""],
  ["and leaves zeros", "\0".repeat(5_000)],
])("a power cut that takes the line that tells of another one, %s, stops no start", async (_where, second) => {
  await leave("pipe open");
  await appendFile(file, '{"seq":2,"time":"2026-01-01T00:\n');
  await appendFile(file, second);
  await leave("pipe close");
  expect(await whole()).toBe(3);
  const text = await readFile(file, "utf8");
  await writeFile(file, text.replace('{"seq":2,"time":"2026', '{"seq":2,"time":"2025'));
  expect((await verifyAudit(file)).faults.length).toBeGreaterThan(0);
});

test("power cuts that take all lines of a new log, one after the other, stop no start", async () => {
  await writeFile(file, '{"seq":1,"time":"20\n{"seq', { mode: 0o600 });
  await (await open()).close();
  expect(await whole()).toBe(1);
});

test("a line that lacks its newline alone is no cut one, also behind a cut one", async () => {
  await leave("pipe open");
  await appendFile(file, '{"seq":2,"ti');
  await (await open()).close();
  await truncate(file, (await lstat(file)).size - 1);
  await (await open()).close();
  expect(await whole()).toBe(3);
});

test("what is no file of ours is refused, and left alone", async () => {
  const other = join(folder, "other");
  await writeFile(other, "");
  const refused = async (): Promise<void> => {
    await expect(open()).rejects.toMatchObject({ code: "config" });
  };
  await symlink(other, file);
  await refused();
  await rm(file);
  await link(other, file);
  await refused();
  await rm(file);
  await mkdir(file);
  await refused();
  await rm(file, { recursive: true });
  execFileSync("mkfifo", [file]);
  await refused();
  await rm(file);
  await writeFile(file, "some other log\n");
  await refused();
  expect(await readFile(file, "utf8")).toBe("some other log\n");
  await writeFile(file, "", { mode: 0o600 });
  execFileSync("chmod", ["666", file]);
  await refused();
});

test("one process a log: the second is told who has it, and a dead one's lock is taken over", async () => {
  const child = startProgram("test/support/programs/audit-writer.ts", [file]);
  await says(child, /written 1000/, "stdout");
  await expect(open()).rejects.toThrow(`already written by process ${child.pid}`);
  const gone = new Promise((resolve) => child.once("close", resolve));
  tell(child, "SIGKILL");
  await gone;
  await (await open()).close();
  expect(await whole()).toBeGreaterThan(0);
});

test("a lock whose process id another process has now is taken over", async () => {
  await writeFile(`${file}.lock`, `${process.pid} 1 someone\n`);
  await (await open()).close();
  await expect(lstat(`${file}.lock`)).rejects.toThrow("ENOENT");
});

test("a lock that somebody removed is put back; one that another process has stops the writing", async () => {
  const audit = await open();
  const lock = `${file}.lock`;
  const text = await readFile(lock, "utf8");
  await rm(lock);
  await vi.waitFor(
    async () => {
      audit.record({ event: "pipe open" });
      expect(await readFile(lock, "utf8")).toBe(text);
    },
    { timeout: 10_000, interval: 100 },
  );
  await writeFile(lock, "1 - another\n");
  await vi.waitFor(
    () => {
      audit.record({ event: "pipe open" });
      expect(audit.failing).toContain("another process");
    },
    { timeout: 10_000, interval: 100 },
  );
  await audit.close();
  expect(await readFile(lock, "utf8")).toBe("1 - another\n");
});

test("kill -9 at any moment leaves a log that goes on and is whole", async () => {
  let seen = 0;
  for (let round = 0; round < 4; round++) {
    const child = startProgram("test/support/programs/audit-writer.ts", [file]);
    await says(child, new RegExp(`written ${round + 1}000`), "stdout");
    const gone = new Promise((resolve) => child.once("close", resolve));
    tell(child, "SIGKILL");
    await gone;
    await (await open()).close();
    const count = await whole();
    expect(count).toBeGreaterThan(seen);
    seen = count;
  }
}, 60_000);

test("a file that was taken away is begun anew, with the chain kept", async () => {
  const audit = await open();
  audit.record({ event: "pipe open" });
  await vi.waitFor(() => expect(audit.head.seq).toBe(1), { timeout: 10_000 });
  await rename(file, `${file}.0000000000000001`);
  await vi.waitFor(
    async () => {
      audit.record({ event: "pipe close" });
      await lstat(file);
    },
    { timeout: 10_000, interval: 100 },
  );
  await audit.close();
  expect(await whole()).toBeGreaterThan(1);
});

test("a folder that is gone stops nothing, is said once, and the log goes on when it is back", async () => {
  const inner = join(folder, "inner");
  await mkdir(inner);
  file = join(inner, "audit.jsonl");
  const troubles: string[] = [];
  let well = 0;
  const audit = await open({ onTrouble: (detail) => troubles.push(detail), onWell: () => well++ });
  await rename(inner, `${inner}-away`);
  await vi.waitFor(
    () => {
      audit.record({ event: "pipe open" });
      expect(audit.failing).toBeDefined();
    },
    { timeout: 10_000, interval: 100 },
  );
  await rename(`${inner}-away`, inner);
  await vi.waitFor(() => expect(well).toBe(1), { timeout: 20_000, interval: 100 });
  expect([audit.failing, troubles.length]).toEqual([undefined, 1]);
  await audit.close();
  expect(await whole()).toBeGreaterThan(0);
}, 40_000);

// A disk of 64 KiB: only root may make one, and not in every container.
function smallDisk(at: string): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", at], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

test("a full disk stops nothing, and when there is room again the chain says what is lost", async () => {
  const disk = join(folder, "disk");
  await mkdir(disk);
  if (!smallDisk(disk)) {
    expect(process.getuid?.(), "root may mount a tmpfs; nobody else is expected to").not.toBe(0);
    return;
  }
  try {
    file = join(disk, "audit.jsonl");
    await writeFile(join(disk, "ballast"), Buffer.alloc(50_000));
    const audit = await open();
    const large = { event: "pipe open", text: "x".repeat(500) };
    for (let n = 0; n < 20_000; n++) audit.record(large);
    await vi.waitFor(() => expect(audit.failing).toBe("the disk is full"), { timeout: 10_000 });
    expect(audit.lost).toBeGreaterThan(0);
    execFileSync("mount", ["-o", "remount,size=64m", disk]);
    await vi.waitFor(() => expect(audit.failing).toBeUndefined(), { timeout: 20_000, interval: 50 });
    await audit.close();
    expect(await whole()).toBe(20_000 - audit.lost + 1);
    const gaps = (await Promise.all((await verifyAudit(file)).files.map((name) => readFile(name, "utf8"))))
      .join("")
      .match(/"audit gap","lost":\d+/g);
    expect(gaps).toEqual([`"audit gap","lost":${audit.lost}`]);
  } finally {
    for (const audit of opened.splice(0)) await audit.close();
    execFileSync("umount", [disk]);
  }
}, 40_000);

test("a disk that is full at the start is waited for where the gateway may go on, and refuses the start where it may not", async () => {
  const disk = join(folder, "full");
  await mkdir(disk);
  if (!smallDisk(disk)) {
    expect(process.getuid?.(), "root may mount a tmpfs; nobody else is expected to").not.toBe(0);
    return;
  }
  try {
    file = join(disk, "audit.jsonl");
    await writeFile(join(disk, "ballast"), Buffer.alloc(64 << 10));
    const clock = new FakeClock(Date.now());
    const said: string[] = [];
    const options = {
      file,
      maxBytes: 1 << 20,
      keep: 1,
      clock,
      onTrouble: (detail: string) => void said.push(detail),
      onWell: () => void said.push("well"),
    };
    await expect(beginAudit(options, { mayWait: false })).rejects.toMatchObject({
      code: "config",
      message: expect.stringMatching(/cannot be opened: the disk is full$/u),
    });
    const audit = await beginAudit(options, { mayWait: true });
    audit.record({ event: "pipe open" });
    expect([audit.failing, audit.lost]).toEqual(["the disk is full", 1]);
    await rm(join(disk, "ballast"));
    clock.advance(5_000);
    await vi.waitFor(() => expect(audit.failing).toBeUndefined(), { timeout: 5_000, interval: 10 });
    audit.record({ event: "pipe close" });
    await audit.close();
    expect(said).toEqual([`${file}: the disk is full`, "well"]);
    expect((await readFile(file, "utf8")).match(/"event":"[^"]*"(?:,"lost":\d+)?/gu)).toEqual([
      '"event":"audit gap","lost":1',
      '"event":"pipe close"',
    ]);
    expect((await readdir(disk)).toSorted((a, b) => a.localeCompare(b))).toEqual(["audit.jsonl"]);
  } finally {
    execFileSync("umount", [disk]);
  }
});

test("a log whose folder is not there, or whose lock is a folder, is refused with a sentence", async () => {
  const options = { maxBytes: 1 << 20, keep: 1, onTrouble: () => {}, onWell: () => {} };
  await expect(beginAudit({ ...options, file: join(folder, "nowhere", "audit.jsonl") }, { mayWait: true })).rejects.toMatchObject({
    code: "config",
    next: expect.stringMatching(/make its folder/u),
  });
  await mkdir(join(folder, "locked.jsonl.lock"));
  await expect(beginAudit({ ...options, file: join(folder, "locked.jsonl") }, { mayWait: true })).rejects.toMatchObject({ code: "config" });
});

test("rotation under load loses nothing", async () => {
  const audit = await open({ maxBytes: 20_000, keep: 1_000 });
  for (let n = 0; n < 20_000; n++) {
    audit.record({ event: "pipe open", n });
    if (n % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await audit.close();
  expect([await whole(), audit.lost]).toEqual([20_000, 0]);
  expect((await fullFiles(file)).length).toBeGreaterThan(5);
});
