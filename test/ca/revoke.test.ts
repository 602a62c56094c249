import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { initAuthority } from "../../src/ca/authority.ts";
import { issue, type IssueResult } from "../../src/ca/issue.ts";
import { readLedger, standings } from "../../src/ca/ledger.ts";
import { parseNames } from "../../src/ca/names.ts";
import { revoke, writeList } from "../../src/ca/revoke.ts";
import { createTestCa } from "../support/mint.ts";
import { withOpenssl } from "../support/openssl-judge.ts";

const { folder: base, run: openssl } = withOpenssl();
const day = 86_400_000;
const now = Math.floor(Date.now() / 1000) * 1000;

async function newCa(): Promise<string> {
  const folder = mkdtempSync(join(base, "ca-"));
  await initAuthority(folder, { keyType: "p256", lifeMs: 365 * day, replace: false, now });
  return folder;
}
const client = (folder: string, name: string, out = name): Promise<IssueResult> => {
  const names = parseNames([`spiffe://dev/agent/${name}`], { role: "client" });
  return issue(folder, { names, role: "client", keyType: "p256", lifeMs: day, replace: false, now, out });
};
const take = (folder: string, ...what: string[]) => revoke(folder, { what, reason: "unspecified", now });
const list = (folder: string, lifeMs = 30 * day) => writeList(folder, { now, lifeMs });
const refused = (code: string, message: RegExp) => expect.objectContaining({ code, message: expect.stringMatching(message) });

function shown(folder: string): { text: string; serials: string[]; number: number } {
  const text = openssl("crl", "-noout", "-text", "-CAfile", join(folder, "ca.pem"), "-in", join(folder, "crl.pem"));
  expect(text).toMatch(/verify OK/u);
  const serials = [...text.matchAll(/Serial Number: ([0-9A-F]+)/gu)].map(([, serial]) => serial!.toLowerCase());
  return { text, serials, number: Number.parseInt(/CRL Number:\s+(\S+)/u.exec(text)![1]!) };
}

describe("a revocation", () => {
  test("is by name, by the name of files, by serial, or by file, and openssl refuses those then and no others", async () => {
    const folder = await newCa();
    const [a, b, c, d, e] = [
      await client(folder, "a"),
      await client(folder, "b"),
      await client(folder, "c"),
      await client(folder, "d"),
      await client(folder, "e"),
    ];
    const spaced = c.serial.toUpperCase().replace(/..(?=.)/gu, "$&:");
    const found = await take(folder, "spiffe://dev/agent/a", "b", spaced, d.certificate);
    expect(found.map(({ serial, earlier }) => ({ serial, earlier }))).toEqual(
      [a, b, c, d].map(({ serial }) => ({ serial, earlier: undefined })),
    );
    await list(folder);
    expect(shown(folder).serials).toEqual([a, b, c, d].map(({ serial }) => serial));
    const judged = (path: string): string =>
      openssl("verify", "-crl_check", "-CAfile", join(folder, "ca.pem"), "-CRLfile", join(folder, "crl.pem"), path);
    for (const { certificate } of [a, b, c, d]) expect(() => judged(certificate)).toThrow(/certificate revoked/u);
    expect(judged(e.certificate)).toMatch(/: OK/u);
  });

  test("of a name takes all that stand for it, and once is enough", async () => {
    const folder = await newCa();
    const [one, two] = [await client(folder, "a", "one"), await client(folder, "a", "two")];
    expect((await take(folder, "spiffe://dev/agent/a")).map(({ serial }) => serial)).toEqual([one.serial, two.serial]);
    expect((await take(folder, one.serial))[0]!.earlier).toMatchObject({ at: now });
    expect((await take(folder, "two"))[0]!.earlier).toMatchObject({ at: now });
    await list(folder);
    expect(shown(folder).serials).toEqual([one.serial, two.serial]);
  });

  test("gives its reason and its date in the list", async () => {
    const folder = await newCa();
    await client(folder, "a");
    await revoke(folder, { what: ["a"], reason: "keyCompromise", now: now - 3600_000 });
    await list(folder);
    expect(shown(folder).text).toMatch(/Key Compromise/u);
    expect(standings(await readLedger(folder))[0]!.revoked).toMatchObject({ reason: "keyCompromise", at: now - 3600_000 });
  });

  test("of something unknown, foreign, or the CA itself revokes nothing at all", async () => {
    const folder = await newCa();
    const { certificate, key } = await client(folder, "a");
    const foreign = join(folder, "foreign.pem");
    writeFileSync(foreign, createTestCa().client("a").certificate);
    await expect(take(folder, "a", "nobody")).rejects.toEqual(refused("usage", /called "nobody"/u));
    await expect(take(folder, "a", foreign)).rejects.toEqual(refused("usage", /not issued by this CA/u));
    await expect(take(folder, "a", join(folder, "ca.pem"))).rejects.toEqual(refused("usage", /the CA itself/u));
    await expect(take(folder, "a", key)).rejects.toEqual(refused("usage", /no certificate that can be read/u));
    expect(standings(await readLedger(folder)).map(({ revoked }) => revoked)).toEqual([undefined]);
    rmSync(join(folder, "issued.jsonl")); // the file is proof enough
    expect(await take(folder, certificate)).toHaveLength(1);
  });
});

describe("a revocation list", () => {
  test("is one that openssl believes, also when it is empty, with the times that were asked for", async () => {
    const folder = await newCa();
    expect(await list(folder, 7 * day)).toMatchObject({ number: 1, revoked: 0, nextUpdate: now + 7 * day });
    expect(readFileSync(join(folder, "crl.pem"), "utf8")).toMatch(/^-----BEGIN X509 CRL-----\n[\s\S]*\n-----END X509 CRL-----\n$/u);
    const utc = (at: number): string =>
      new Date(at)
        .toUTCString()
        .replace(
          /^\w+, (\d+) (\w+) (\d+) (\S+) GMT$/u,
          (_, d: string, m: string, y: string, t: string) => `${m} ${String(Number(d)).padStart(2)} ${t} ${y} GMT`,
        );
    expect(shown(folder).text).toContain(`Next Update: ${utc(now + 7 * day)}`);
    expect(shown(folder).text).toContain(`Last Update: ${utc(now)}`);
    expect(await list(folder, 800 * day)).toMatchObject({ number: 2, nextUpdate: now + 365 * day });
  });

  test.each(["ed25519", "rsa2048"] as const)("of a CA with a %s key verifies", async (keyType) => {
    const folder = mkdtempSync(join(base, "ca-"));
    await initAuthority(folder, { keyType, lifeMs: 365 * day, replace: false, now });
    const { serial } = await client(folder, "a");
    await take(folder, "a");
    await list(folder);
    expect(shown(folder).serials).toEqual([serial]);
  });

  test("written by many at once is in the end the newest, and has every revocation", async () => {
    const folder = await newCa();
    const issued = await Promise.all(Array.from({ length: 12 }, (_, at) => client(folder, `a${at}`)));
    const numbers = await Promise.all(
      issued.map(async ({ serial }) => {
        await take(folder, serial);
        return (await list(folder)).number;
      }),
    );
    const { serials, number } = shown(folder);
    expect(serials.sort()).toEqual(issued.map(({ serial }) => serial).sort());
    expect(number).toBe(12);
    expect(Math.max(...numbers)).toBe(12);
    expect((await list(folder)).number).toBe(13);
  });

  test("of a new CA in the folder does not have what the old one revoked", async () => {
    const folder = await newCa();
    await client(folder, "a");
    await take(folder, "a");
    await initAuthority(folder, { keyType: "p256", lifeMs: 365 * day, replace: true, now });
    expect(await list(folder)).toMatchObject({ number: 1, revoked: 0 });
    await expect(take(folder, "a")).rejects.toEqual(refused("usage", /called "a"/u));
    await expect(take(folder, "a.pem")).rejects.toEqual(refused("usage", /not issued by this CA/u));
  });
});

describe("the ledger", () => {
  test("knows every certificate that many issued at once", async () => {
    const folder = await newCa();
    const issued = await Promise.all(Array.from({ length: 30 }, (_, at) => client(folder, `a${at}`)));
    expect(
      standings(await readLedger(folder))
        .map(({ serial }) => serial)
        .sort(),
    ).toEqual(issued.map(({ serial }) => serial).sort());
  });

  test("cut anywhere by a killed writer keeps every whole line and takes new ones", async () => {
    const folder = await newCa();
    const [a, b] = [await client(folder, "a"), await client(folder, "b")];
    const path = join(folder, "issued.jsonl");
    const text = readFileSync(path);
    const first = text.indexOf("\n") + 1;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: first, max: text.length }), async (length) => {
        writeFileSync(path, text);
        truncateSync(path, length);
        const kept = length === text.length ? [a.serial, b.serial] : [a.serial];
        const serials = async (): Promise<string[]> => standings(await readLedger(folder)).map(({ serial }) => serial);
        expect(await serials()).toEqual(kept);
        await take(folder, a.serial);
        expect(await serials()).toEqual(kept);
        expect(standings(await readLedger(folder))[0]!.revoked).toBeDefined();
      }),
      { numRuns: 40 },
    );
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("damaged in any other way is refused with the line, as it may hide a revocation", async () => {
    const folder = await newCa();
    await client(folder, "a");
    for (const junk of [
      "{}",
      "junk",
      '{"event":"revoked"}',
      "[]",
      "null",
      '{"event":"revoked","at":"x","ca":"00","serial":"00","reason":"unspecified"}',
    ]) {
      const path = join(folder, "issued.jsonl");
      const before = readFileSync(path);
      appendFileSync(path, `${junk}\n`);
      await expect(take(folder, "a")).rejects.toEqual(refused("config", /issued\.jsonl:2 is damaged/u));
      await expect(list(folder)).rejects.toEqual(refused("config", /issued\.jsonl:2 is damaged/u));
      writeFileSync(path, before);
    }
  });
});
