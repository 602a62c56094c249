import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openAudit } from "../../src/audit/audit.ts";
import { createWorkplace, type Workplace } from "../support/run-command.ts";

let place: Workplace;
let file: string;
let head: string;

beforeAll(async () => {
  place = await createWorkplace("");
  file = join(place.folder, "audit.jsonl");
  const audit = await openAudit({ file, maxBytes: 1 << 20, keep: 1, onTrouble: () => {}, onWell: () => {} });
  for (let n = 0; n < 3; n++) audit.record({ event: "pipe open", n });
  await audit.close();
  head = audit.head.hash;
});
afterAll(() => place.remove());

test("verify says that the log is whole, with its head, and finds a head that was noted", async () => {
  const { status, out } = await place.run(["audit", "verify", "audit.jsonl", "--head", head]);
  expect([status, out.toString()]).toEqual([0, expect.stringContaining(`whole\nlines: 3 in 1 file\n`)]);
  expect(out.toString()).toContain(`head: 3 ${head}`);
});

test("verify ends with 5 and says where the log is broken, or that the head is not in it", async () => {
  const text = await readFile(file, "utf8");
  const broken = join(place.folder, "broken.jsonl");
  await writeFile(broken, text.replace('"n":1', '"n":7'));
  const changed = await place.run(["audit", "verify", "broken.jsonl"]);
  expect([changed.status, changed.out.toString()]).toEqual([5, expect.stringContaining(`${broken}:3: it does not follow`)]);
  const other = await place.run(["audit", "verify", "audit.jsonl", "--json", "--head", "a".repeat(64)]);
  expect([other.status, JSON.parse(other.out.toString())]).toMatchObject([5, { faults: [], headFound: false, lines: 3 }]);
});

test("verify without a log, or with a head that is none, is wrong usage", async () => {
  expect(await place.run(["audit", "verify", "nothing.jsonl"])).toMatchObject({ status: 2 });
  expect(await place.run(["audit", "verify", "audit.jsonl", "--head", "abc"])).toMatchObject({ status: 2 });
});
