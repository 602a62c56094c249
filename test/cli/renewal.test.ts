import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { expiryText, noticeTeller } from "../../src/cli/connection.ts";
import { RenewedCredentials, renewalText } from "../../src/cli/renewal.ts";
import type { Settings } from "../../src/cli/settings.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { createTestCa } from "../support/mint.ts";

const ca = createTestCa();
let folder: string;
let said: string[];
let stopped: (() => void)[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pipegate-renewal-"));
  said = [];
  stopped = [];
  vi.spyOn(process.stderr, "write").mockImplementation((text) => said.push(String(text)) > 0);
});
afterEach(() => {
  vi.restoreAllMocks();
  for (const stop of stopped) stop();
  rmSync(folder, { recursive: true, force: true });
});

const at = (name: string): string => join(folder, name);

interface Texts {
  readonly certificate: string;
  readonly key: string;
  readonly ca?: string;
}

function write(texts: Texts): void {
  writeFileSync(at("own.pem"), texts.certificate);
  writeFileSync(at("own-key.pem"), texts.key);
  writeFileSync(at("ca.pem"), texts.ca ?? ca.certificate);
}

function setUp(files: Partial<Settings["files"]> = {}): { credentials: RenewedCredentials; clock: FakeClock; first: Texts } {
  const first = ca.client("alice");
  write(first);
  const settings: Settings = {
    connect: { gateway: "gw:1", certificate: first.certificate, key: first.key, ca: ca.certificate },
    files: { certificate: at("own.pem"), key: at("own-key.pem"), ca: at("ca.pem"), ...files },
    places: [],
    warnings: [],
  };
  const clock = new FakeClock(Date.now());
  const credentials = new RenewedCredentials(settings, { clock });
  stopped.push(() => credentials.stop());
  return { credentials, clock, first };
}

describe("credentials that are read again", () => {
  test("are others only when a file says something else", async () => {
    const { credentials, first } = setUp();
    const before = credentials.newest;
    write(first);
    expect(await credentials.refresh()).toBe(false);
    expect(credentials.newest).toBe(before);
    const next = ca.client("alice");
    write(next);
    expect(await credentials.refresh()).toBe(true);
    expect(credentials.newest).toEqual({ certificate: next.certificate, key: next.key, ca: ca.certificate });
    expect(said).toEqual([]);
  });
  test.each([
    [
      "a key of another certificate",
      () => ({ ...ca.client("alice"), key: ca.client("bob").key }),
      /own-key\.pem does not belong to \S+own\.pem/u,
    ],
    ["a certificate that is cut off", () => ({ ...ca.client("alice"), certificate: "-----BEGIN CERT" }), /own\.pem holds no certificate/u],
    ["no CA", () => ({ ...ca.client("alice"), ca: "" }), /ca\.pem holds no certificate/u],
    ["an expired certificate", () => ca.issue({ notBefore: 0, notAfter: Date.UTC(2020, 0, 1) }), /own\.pem expired 2020-01-01T00:00Z/u],
  ])("are kept, and the fault is said once: %s", async (_, texts, fault) => {
    const { credentials } = setUp();
    const before = credentials.newest;
    write(texts());
    expect(await credentials.refresh()).toBe(false);
    expect(await credentials.refresh()).toBe(false);
    expect(credentials.newest).toBe(before);
    expect(said).toEqual([expect.stringMatching(fault)]);
    expect(said[0]).toMatch(/; the old certificate stays in use\n$/u);
    rmSync(at("own-key.pem"));
    expect(await credentials.refresh()).toBe(false);
    expect(said[1]).toMatch(/own-key\.pem \(read again\) does not exist; the old/u);
    write(ca.client("alice"));
    expect(await credentials.refresh()).toBe(true);
    expect(said).toHaveLength(2);
  });
  test("are noticed by their files, also what changed before the watch began", async () => {
    const { credentials, clock } = setUp();
    write(ca.client("alice"));
    await new Promise<void>((resolve) => credentials.watch(resolve));
    const renewed = new Promise<void>((resolve) => {
      credentials.stop();
      credentials.watch(resolve);
    });
    while (clock.waiting === 0) await new Promise((resolve) => void setImmediate(resolve));
    const next = ca.client("alice");
    write(next);
    const over = renewed.then(() => true);
    const turn = (): Promise<false> => new Promise((resolve) => void setTimeout(() => resolve(false), 1));
    while (!(await Promise.race([over, turn()]))) clock.advance(1_000);
    expect(credentials.newest.certificate).toBe(next.certificate);
  });
  test("are not read twice when the shell handed one over as a pipe", () => {
    const { credentials, clock } = setUp({ key: "/dev/fd/63" });
    credentials.watch(() => {});
    expect(clock.waiting).toBe(0);
  });
});

describe("what a person is told", () => {
  const now = Date.UTC(2026, 10, 21, 12);
  test.each([
    [3 * 86_400_000, "in 3 d (2026-11-24T12:00Z)"],
    [2 * 86_400_000 - 1, "in 47 h (2026-11-23T11:59Z)"],
    [7 * 3_600_000, "in 7 h (2026-11-21T19:00Z)"],
    [119 * 60_000, "in 119 min (2026-11-21T13:59Z)"],
    [119_000, "in 119 s (2026-11-21T12:01Z)"],
    [500, "in 0 s (2026-11-21T12:00Z)"],
  ])("of a certificate that expires, %i ms before", (left, text) => {
    expect(expiryText(new Date(now + left), now)).toBe(`your certificate expires ${text}`);
  });
  test("of one that has expired", () => {
    expect(expiryText(new Date(now), now)).toBe("your certificate expired (2026-11-21T12:00Z)");
  });
  test("of each moment once", () => {
    const tell = noticeTeller();
    for (const day of [1, 1, 1, 2, 2]) tell({ kind: "certificate_expires", at: new Date(Date.UTC(2020, 0, day)) });
    expect(said).toEqual([1, 2].map((day) => `pipegate: your certificate expired (2020-01-0${day}T00:00Z); renew it\n`));
  });
  test("of a renewal: until when, or that only the rest changed", () => {
    const one = ca.issue({ notAfter: Date.UTC(2030, 1, 3, 4, 5) });
    const before = { ...ca.client("alice"), ca: ca.certificate };
    expect(renewalText({ ...one, ca: ca.certificate }, before)).toBe("pipegate: the certificate was renewed: until 2030-02-03T04:05Z");
    expect(renewalText({ ...before, ca: createTestCa().certificate }, before)).toBe("pipegate: the key or the CAs were read again");
  });
});
