import { createHash } from "node:crypto";
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { openAudit } from "../../src/audit/audit.ts";
import { fullFiles } from "../../src/audit/file.ts";
import { verifyAudit } from "../../src/audit/verify.ts";

let folder: string;
let file: string;
let bytes: Buffer;
let head: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pipegate-audit-"));
  file = join(folder, "audit.jsonl");
  const audit = await openAudit({ file, maxBytes: 1 << 20, keep: 1, onTrouble: () => {}, onWell: () => {} });
  for (let n = 0; n < 12; n++) audit.record({ event: "pipe open", n, identity: `spiffe://dev/agent/${n}`, note: "é" });
  await audit.close();
  bytes = await readFile(file);
  head = audit.head.hash;
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function isGood(changed: Uint8Array): Promise<boolean> {
  await writeFile(file, changed);
  const { faults, headFound, cut } = await verifyAudit(file, { head });
  return faults.length === 0 && headFound === true && cut === 0;
}

const runs = { numRuns: 150, interruptAfterTimeLimit: 20_000 };

test("the log as it was written is good", async () => {
  expect(await isGood(bytes)).toBe(true);
});

test("any byte that was changed is found", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, by) => {
      const changed = Buffer.from(bytes);
      changed[at] = changed[at]! ^ by;
      expect(await isGood(changed)).toBe(false);
    }),
    runs,
  );
});

test("any line that was removed, doubled, moved or added is found", async () => {
  const lines = bytes.toString().trimEnd().split("\n");
  const place = fc.nat(lines.length - 1);
  await fc.assert(
    fc.asyncProperty(fc.constantFrom("remove", "double", "swap", "add"), place, place, async (act, at, to) => {
      fc.pre(act !== "swap" || at !== to);
      const changed = [...lines];
      if (act === "remove") changed.splice(at, 1);
      if (act === "double") changed.splice(to, 0, lines[at]!);
      if (act === "swap") [changed[at], changed[to]] = [lines[to]!, lines[at]!];
      if (act === "add") changed.splice(at, 0, lines[at]!.replace("pipe open", "pipe shut"));
      // A last line that stands alone at the end can be removed unseen, but for the head that was noted.
      expect(await isGood(Buffer.from(`${changed.join("\n")}\n`))).toBe(false);
    }),
    runs,
  );
});

test("any bytes at all are judged, and none but the log itself are good", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (junk) => {
      expect(await isGood(junk)).toBe(false);
      if (junk.some((byte) => byte !== 10)) expect(await isGood(Buffer.concat([junk, Buffer.from("\n"), bytes]))).toBe(false);
    }),
    runs,
  );
});

test("a fault is told with its file and line", async () => {
  const lines = bytes.toString().trimEnd().split("\n");
  await writeFile(file, `${lines.toSpliced(4, 2).join("\n")}\n`);
  expect((await verifyAudit(file)).faults).toEqual([{ file, line: 5, says: "2 lines are missing before it: number 7 follows 4" }]);
  await writeFile(file, `${lines.with(4, lines[4]!.replace("agent/4", "agent/5")).join("\n")}\n`);
  expect((await verifyAudit(file)).faults).toMatchObject([
    { line: 6, says: "it does not follow from the line before: one of the two was changed" },
  ]);
});

test("lines cut off at the end show by the head that was noted, and only by it", async () => {
  const lines = bytes.toString().trimEnd().split("\n");
  await writeFile(file, `${lines.slice(0, -3).join("\n")}\n`);
  expect((await verifyAudit(file)).faults).toEqual([]);
  expect((await verifyAudit(file, { head })).headFound).toBe(false);
});

test("what stands before a line that a crash cut cannot be made anew", async () => {
  const options = { file: join(folder, "cut.jsonl"), maxBytes: 1 << 20, keep: 1, onTrouble: () => {}, onWell: () => {} };
  const write = async (identity: string): Promise<void> => {
    const audit = await openAudit(options);
    audit.record({ event: "pipe open", identity });
    await audit.close();
  };
  await write("mallory");
  await appendFile(options.file, '{"seq":2,"time":"2026-01-01T00:');
  await write("bob");
  const { faults, cut, head: noted } = await verifyAudit(options.file);
  expect({ faults, cut, seq: noted.seq }).toEqual({ faults: [], cut: 1, seq: 4 });
  // The first line has none before it, so whoever changes it need not know any hash.
  const [first, ...rest] = (await readFile(options.file, "utf8")).split("\n");
  await writeFile(options.file, [first!.replace("mallory", "alice"), ...rest].join("\n"));
  const forged = await verifyAudit(options.file, { head: noted.hash });
  expect(forged.faults).toEqual([
    { file: options.file, line: 3, says: "it does not follow from the line before: one of the two was changed" },
  ]);
});

test("a full file that is missing between two is found", async () => {
  const other = join(folder, "rotated.jsonl");
  const options = { file: other, maxBytes: 2_000, keep: 100, onTrouble: () => {}, onWell: () => {} };
  for (let round = 0; round < 4; round++) {
    const audit = await openAudit(options);
    for (let n = 0; n < 30; n++) audit.record({ event: "pipe open", n });
    await audit.close();
  }
  const full = await fullFiles(other);
  expect(full.length).toBeGreaterThan(1);
  expect(await verifyAudit(full[0]!)).toMatchObject({ lines: 120, faults: [], files: [...full, other] });
  await rm(full[1]!);
  expect((await verifyAudit(other)).faults).toMatchObject([{ line: 1 }]);
});

test("an endless line is refused, not kept", async () => {
  await writeFile(file, bytes);
  await appendFile(file, Buffer.alloc(3 << 20, "x"));
  await appendFile(file, "\n");
  expect((await verifyAudit(file)).faults).toMatchObject([{ line: 13, says: "it is no line of an audit log: it was changed or added" }]);
});

test.each([
  ["empty lines", "\n"],
  ["lines of a letter", "x\n"],
])("of a file of %s no byte is copied or hashed again and again", async (_name, line) => {
  await writeFile(file, line.repeat(50_000));
  const { size } = await stat(file);
  let handled = 0;
  const limit = 6 * size;
  const count = (bytes: number): void => {
    handled += bytes;
    if (handled > limit) throw new Error(`${handled} bytes were handled for a file of ${size}`);
  };
  const { concat } = Buffer;
  const hash = Object.getPrototypeOf(createHash("sha256")) as { update(bytes: Uint8Array): unknown };
  const { update } = hash;
  vi.spyOn(Buffer, "concat").mockImplementation((parts, length) => {
    count(parts.reduce((sum, part) => sum + part.length, 0));
    return concat(parts, length);
  });
  vi.spyOn(hash, "update").mockImplementation(function (this: unknown, bytes) {
    count(bytes.length);
    return Reflect.apply(update, this, [bytes]);
  });
  try {
    expect(await verifyAudit(file)).toMatchObject({ lines: 0, faults: [{ file, line: 1 }] });
  } finally {
    vi.restoreAllMocks();
  }
});
