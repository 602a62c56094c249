import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import type { Config } from "../../src/config/config.ts";
import { fingerprintOf } from "../../src/identity/certificate.ts";
import { connect } from "../../src/mod.ts";
import type { TargetOptions } from "../../src/target/target.ts";
import { type BackEnd, startBackEnd, targetOf } from "../support/back-ends.ts";
import { startGateway, trustIn, type TestGateway } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";
import { hashing, type Pump, startPump, startRawPump } from "../support/pump.ts";
import { expectToldOnce } from "../support/told-once.ts";
import { twin } from "../support/twin.ts";
import { WireClient } from "../support/wire-client.ts";

const [ca, other] = [createTestCa({ cn: "home" }), createTestCa({ cn: "away" })];
const [mallory, guest] = [ca.client("mallory"), other.client("guest")];
const own = ca.gateway();
let backEnd: BackEnd;
let folder: string;
beforeAll(async () => {
  backEnd = await startBackEnd(hashing);
  folder = await mkdtemp(join(tmpdir(), "pipegate-trust-"));
});
afterAll(async () => {
  await backEnd.close();
  await rm(folder, { recursive: true });
});

const hash = (): TargetOptions => targetOf(backEnd);
const everyone = [{ clients: ["spiffe://dev/agent/mallory"] }, { clients: ["*"] }];
const trusted = (changes: Partial<Parameters<typeof trustIn>[0]> = {}): Config["trust"] =>
  trustIn({ ca: [ca.certificate, other.certificate], maxStalenessMs: 1_000, ...changes });
const rules = (clients: readonly string[], targets: readonly string[] = ["*"]): Config["rules"] => [
  { clients, targets, limits: {}, line: 1 },
];

const bystanders = Array.from({ length: 10 }, (_, n) => `spiffe://dev/agent/n${n}`);

let shift = 0;
let audits = 0;
const start = (): Promise<TestGateway> =>
  startGateway({
    ca,
    targets: { hash: hash(), more: { kind: "builtin", builtin: "echo" } },
    rules: everyone,
    config: {
      trust: trusted(),
      credentials: { certificate: own.certificate, key: own.key },
      audit: { file: join(folder, `${++audits}.jsonl`), maxBytes: 1 << 20, keep: 1, onFailure: "continue" },
    },
    clock: { ...systemClock, wall: () => Date.now() + shift },
  });

/** What ends mallory (or guest, of the other CA) and nobody else. */
const endings: readonly (readonly [string, string, typeof mallory, () => Partial<Config>])[] = [
  ["it is revoked", "revoked", mallory, () => ({ trust: trusted({ crl: [Buffer.from(ca.crl({ revoked: [mallory.serial] }).pem)] }) })],
  ["its serial is denied", "revoked", mallory, () => ({ trust: trusted({ deny: [`serial:${mallory.serial}`] }) })],
  ["its fingerprint is denied", "revoked", mallory, () => ({ trust: trusted({ deny: [mallory.fingerprint] }) })],
  [
    "its fingerprint is denied by that of its twin",
    "revoked",
    mallory,
    () => ({ trust: trusted({ deny: [fingerprintOf(twin(mallory))] }) }),
  ],
  ["its name is denied", "revoked", mallory, () => ({ trust: trusted({ deny: ["spiffe://dev/agent/mallory"] }) })],
  ["its CA is removed", "unknown_issuer", guest, () => ({ trust: trusted({ ca: [ca.certificate] }) })],
  [
    "its CA is revoked by itself",
    "revoked",
    guest,
    () => ({ trust: trusted({ crl: [Buffer.from(other.crl({ revoked: [other.serial] }).pem)] }) }),
  ],
  ["its rule is deleted", "forbidden", guest, () => ({ rules: rules(bystanders) })],
  ["its rule no longer names the target", "forbidden", guest, () => ({ rules: [...rules(bystanders), ...rules(["*"], ["more"])] })],
];

describe("a client that sends while others do", () => {
  test.each(endings)("is ended when %s: %s; ten others lose nothing, and nothing is told twice", async (what, reason, victim, change) => {
    const stays = what === "its rule no longer names the target";
    await using setup = await start();
    const options = { port: setup.port, ca: ca.certificate };
    const others: Pump[] = [];
    for (let n = 0; n < 10; n++) others.push(await startPump({ ...options, own: ca.client(`n${n}`) }));
    const pump = await startPump({ ...options, own: victim });
    await expect.poll(pump.sent, { timeout: 5_000 }).toBeGreaterThan(64 << 10);
    const at = performance.now();
    await setup.gateway.reload({ ...setup.config, ...change() });
    expect(await pump.over).toBe(reason);
    expect(performance.now() - at).toBeLessThan(5_000);
    for (const one of others) expect(await one.finish()).toBe("whole");
    const closes = setup.lines("pipe close");
    expect(closes.filter((line) => line["reason"] !== "done").map((line) => [line["reason"], line["fingerprint"]])).toEqual([
      [reason, victim.fingerprint],
    ]);
    expect(closes.length).toBe(11);
    const ended = setup.lines("connection close").filter((line) => line["reason"] !== "done");
    // Where a rule still knows it, its connection stays.
    expect(ended.map((line) => [line["reason"], line["fingerprint"]])).toEqual(stays ? [] : [[reason, victim.fingerprint]]);
    for (const line of ended) expect(line["detail"]).toMatch(/\w/u); // the client is not told it, the log is
    expect(setup.lines("refused")).toEqual([]);
    // Neither may it come again.
    const again = connect({
      gateway: `127.0.0.1:${setup.port}`,
      certificate: victim.certificate,
      key: victim.key,
      ca: ca.certificate,
    }).then((client) => client.open("hash"));
    await expect(again).rejects.toMatchObject({ code: expect.stringMatching(new RegExp(`^(?:${reason}|unknown_issuer)$`, "u")) });
    await expectToldOnce(setup, setup.config.audit!.file);
  });

  test("hears the reason of its end, and nothing of what the log says beside it", async () => {
    await using setup = await start();
    const { certificate, key } = mallory;
    const client = await WireClient.dial({ certificate, key, ca: ca.certificate, port: setup.port });
    await setup.gateway.reload({ ...setup.config, trust: trusted({ deny: [`serial:${mallory.serial}`] }) });
    expect(await client.end()).toBe("revoked");
    const told = Buffer.concat(client.frames.map(({ payload }) => payload)).toString("latin1");
    expect(told).not.toContain(mallory.serial);
    client.destroy();
    const detail = `trust.deny names serial:${mallory.serial}`;
    await expect.poll(() => setup.lines("connection close")).toEqual([expect.objectContaining({ reason: "revoked", detail })]);
  });

  test("is ended when its certificate expires, at that moment, and so is a raw one", async () => {
    // Nothing but the certificate's own end can do it: the next look at the clock is half an hour away.
    await using setup = await startGateway({
      ca,
      targets: { hash: hash() },
      raw: ["hash"],
      config: { trust: trusted({ maxStalenessMs: 3_600_000 }) },
    });
    const notAfter = Math.ceil(Date.now() / 1_000) * 1_000 + 1_000;
    const soon = ca.issue({ uri: "spiffe://dev/agent/soon", notAfter });
    const pump = await startPump({ port: setup.port, ca: ca.certificate, own: soon });
    const raw = await startRawPump({ port: setup.rawPorts[0]!, ca: ca.certificate, own: soon });
    const other = await startPump({ port: setup.port, ca: ca.certificate, own: ca.client("n0") });
    expect(await pump.over).toBe("cert_expired");
    expect(["reset", "ended"]).toContain(await raw.over); // Deno's clients cannot tell one from the other
    expect(Date.now() - notAfter).toBeGreaterThanOrEqual(0);
    expect(Date.now() - notAfter).toBeLessThan(2_000);
    expect(await other.finish()).toBe("whole");
    const closes = setup.lines("pipe close").map((line) => line["reason"]);
    expect(closes).toEqual(["cert_expired", "cert_expired", "done"]);
  });

  test("is ended soon after the clock of the system was set behind its certificate's end", async () => {
    await using setup = await start();
    const pump = await startPump({ port: setup.port, ca: ca.certificate, own: ca.client("n1") });
    shift = 400 * 86_400_000;
    try {
      const at = performance.now();
      expect(await pump.over).toBe("cert_expired");
      expect(performance.now() - at).toBeLessThan(2_000);
    } finally {
      shift = 0;
    }
  });

  test("that stays connected pays for the names that it guesses by the rule of today", async () => {
    await using setup = await startGateway({ ca, targets: { hash: hash() }, rules: [{ clients: ["*"] }] });
    const { certificate, key } = ca.client("alice");
    const client = await connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate });
    const guess = (): Promise<unknown> => client.open("guess").catch(({ code }: { readonly code: string }) => code);
    expect([await guess(), await guess()]).toEqual(["forbidden", "forbidden"]);
    const limits = { opens: { perSecond: 1, burst: 1 } };
    await setup.gateway.reload({ ...setup.config, rules: [{ clients: ["*"], targets: ["*"], limits, line: 1 }] });
    expect([await guess(), await guess()]).toEqual(["forbidden", "rate_limited"]);
    await client.close();
  });

  test("is ended soon after the clock of the system was set before its certificate's beginning", async () => {
    await using setup = await start();
    const pump = await startPump({ port: setup.port, ca: ca.certificate, own: ca.client("n1") });
    shift = -400 * 86_400_000;
    try {
      const at = performance.now();
      expect(await pump.over).toBe("not_yet_valid");
      expect(performance.now() - at).toBeLessThan(2_000);
    } finally {
      shift = 0;
    }
  });

  test("keeps its pipe when its certificate is renewed and its CA too, under the same limits", async () => {
    await using setup = await startGateway({
      ca,
      targets: { hash: hash() },
      rules: [{ clients: ["*"], limits: { opens: { perSecond: 1, burst: 2 } } }],
    });
    const [old, young] = [ca.client("alice"), ca.client("alice")];
    const open = async ({ certificate, key }: typeof old): Promise<unknown> =>
      (await connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate })).open("hash");
    await open(old);
    await open(young);
    await expect(open(young)).rejects.toMatchObject({ code: "rate_limited" }); // one account for both certificates
    const before = setup.gateway.status().pipes.length;
    await setup.gateway.reload({ ...setup.config, trust: trustIn({ ca: [other.certificate, ca.certificate] }) });
    expect(setup.gateway.status().pipes.length).toBe(before);
    expect(setup.gateway.status().identities).toMatchObject([
      { identity: "spiffe://dev/agent/alice", fingerprint: young.fingerprint, serial: young.serial, connections: 3 },
    ]);
  });
});

describe("a reload in which a CA loses its revocation list", () => {
  const gone = other.client("gone");
  const [first, second] = [ca.crl({ revoked: [mallory.serial] }).pem, other.crl({ revoked: [gone.serial] }).pem];
  const lists = (...texts: readonly string[]): Partial<Config["trust"]> => ({ crl: texts.map((text) => Buffer.from(text)) });
  const serving = (): Promise<TestGateway> => startGateway({ ca, config: { trust: trusted(lists(first + second)) } });
  const dialled = (setup: TestGateway, { certificate, key }: typeof gone): Promise<unknown> =>
    connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate }).then((client) => client.close());

  test("is not taken when a file was cut between two lists, and is when it is whole again", async () => {
    await using setup = await serving();
    const reload = (trust: Config["trust"]): Promise<unknown> => setup.gateway.reload({ ...setup.config, trust });
    await expect(reload(trusted(lists(first)))).rejects.toMatchObject({
      code: "config",
      message: "trust.crl holds no revocation list of CN=away any more, and one is in force: was a file cut?",
    });
    await expect(dialled(setup, gone)).rejects.toMatchObject({ code: "revoked" });
    expect(setup.gateway.status().version).toBe(1);
    await reload(trusted(lists(first + other.crl({ revoked: [gone.serial, guest.serial] }).pem)));
    await expect(dialled(setup, guest)).rejects.toMatchObject({ code: "revoked" });
    expect(setup.lines("config")).toEqual([]);
  });

  test("is not taken when another CA of the same name keeps its own", async () => {
    const namesake = createTestCa({ cn: "home" });
    const two = { ca: [ca.certificate, namesake.certificate] };
    await using setup = await startGateway({ ca, config: { trust: trusted({ ...two, ...lists(first + namesake.crl().pem) }) } });
    const reload = (trust: Config["trust"]): Promise<unknown> => setup.gateway.reload({ ...setup.config, trust });
    const both = namesake.crl({ revoked: ["0b"] }).pem;
    for (const cut of [first, both])
      await expect(reload(trusted({ ...two, ...lists(cut) }))).rejects.toThrow(
        "no revocation list of CN=home (of one of its keys) any more",
      );
    await reload(trusted({ ca: [namesake.certificate], ...lists(both) }));
    expect(setup.lines("config")).toEqual([]);
  });

  test.each([
    ["it names fewer files", lists()],
    ["it believes lists of any age", { ...lists(first), onExpired: "warn" as const }],
  ])("is taken when %s, and the log warns", async (_, change) => {
    await using setup = await serving();
    await setup.gateway.reload({ ...setup.config, trust: trusted(change) });
    await dialled(setup, gone);
    expect(setup.lines("config")).toContainEqual({ detail: "trust.crl: no revocation list of CN=away is in force any more" });
  });

  test("is taken when the CA goes with it", async () => {
    await using setup = await serving();
    await setup.gateway.reload({ ...setup.config, trust: trusted({ ca: [ca.certificate], ...lists(first) }) });
    expect(setup.lines("config")).toEqual([]);
  });
});
