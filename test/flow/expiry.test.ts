import { expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { connect, type Client, type Notice } from "../../src/mod.ts";
import { startGateway, trustIn, type TestGateway } from "../support/gateway.ts";
import { createTestCa, type Issued } from "../support/mint.ts";

const ca = createTestCa();
const [minute, hour] = [60_000, 3_600_000];
const dial = (setup: TestGateway, { certificate, key }: Issued, onNotice?: (notice: Notice) => void): Promise<Client> =>
  connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate, ...(onNotice === undefined ? {} : { onNotice }) });

test("a metric carries the soonest expiry: of our own certificate, and of the clients that are connected", async () => {
  const second = (at: number): number => Math.floor(at / 1_000);
  const now = second(Date.now()) * 1_000;
  const own = (notAfter: number): { readonly certificate: string; readonly key: string } => {
    const { certificate, key } = ca.issue({ role: "gateway", dns: "localhost", ip: "127.0.0.1", notAfter });
    return { certificate, key };
  };
  await using setup = await startGateway({ ca, config: { credentials: own(now + 5 * hour) } });
  const ends = async (): Promise<Readonly<Record<string, number>>> => {
    const text = await setup.gateway.metrics();
    const found = text.matchAll(/^pipegate_certificate_not_after_seconds\{whose="(\w+)"\} (\d+)$/gmu);
    return Object.fromEntries(Array.from(found, ([, whose, at]) => [whose as string, Number(at)]));
  };
  const until = (notAfter: number): Issued => ca.issue({ uri: "spiffe://dev/agent/alice", notAfter });
  expect(await ends()).toEqual({ gateway: second(now + 5 * hour) });
  const [later, sooner] = [await dial(setup, until(now + 3 * hour)), await dial(setup, until(now + 2 * hour))];
  expect(await ends()).toEqual({ gateway: second(now + 5 * hour), clients: second(now + 2 * hour) });
  await setup.gateway.reload({ ...setup.config, credentials: own(now + 9 * hour) });
  await sooner.close();
  await expect.poll(ends).toEqual({ gateway: second(now + 9 * hour), clients: second(now + 3 * hour) });
  await later.close();
  await expect.poll(ends).toEqual({ gateway: second(now + 9 * hour) });
});

test("of a CA that is below another the metric carries the end that comes first in the chain", async () => {
  const end = Math.floor(Date.now() / 1_000) + 7_200;
  const middle = ca.intermediate({ notAfter: end * 1_000 });
  await using setup = await startGateway({ ca });
  const leaf = middle.client("alice");
  const client = await dial(setup, { ...leaf, certificate: leaf.certificate + middle.certificate });
  expect(await setup.gateway.metrics()).toContain(`pipegate_certificate_not_after_seconds{whose="clients"} ${end}\n`);
  await client.close();
});

test("it follows when a CA of the chain is renewed while its clients are connected", async () => {
  const end = Math.floor(Date.now() / 1_000) + 1_800;
  await using setup = await startGateway({ ca });
  const client = await dial(setup, ca.client("alice"));
  const renewed = createTestCa({ privateKey: ca.privateKey, notAfter: end * 1_000 });
  await setup.gateway.reload({ ...setup.config, trust: trustIn({ ca: [renewed.certificate] }) });
  expect(setup.gateway.status().identities).toMatchObject([{ identity: "spiffe://dev/agent/alice", notAfter: end * 1_000 }]);
  expect(await setup.gateway.metrics()).toContain(`pipegate_certificate_not_after_seconds{whose="clients"} ${end}\n`);
  await (await client.open("echo")).close();
  await client.close();
});

test("who is connected opens pipes past the end of its CA once that is renewed", async () => {
  let shift = 0;
  const clock = { ...systemClock, wall: () => Date.now() + shift, now: () => performance.now() + shift };
  const ending = createTestCa({ cn: "ending", notAfter: Date.now() + hour });
  const renewed = createTestCa({ cn: "ending", privateKey: ending.privateKey, notAfter: Date.now() + 12 * hour });
  const trusting = ({ certificate }: Issued): { readonly trust: ReturnType<typeof trustIn> } => ({
    trust: trustIn({ ca: [ca.certificate, certificate] }),
  });
  await using setup = await startGateway({ ca, config: trusting(ending), clock });
  const client = await dial(setup, ending.client("alice"));
  await setup.gateway.reload({ ...setup.config, ...trusting(renewed) });
  shift = 2 * hour;
  const pipe = await client.open("echo");
  expect(setup.gateway.status().pipes.length).toBe(1);
  await pipe.close();
  await client.close();
});

test.each([
  ["the list of its CA goes out of date", "revoked"],
  ["an intermediate CA of its chain ends", "cert_expired"],
])("a live pipe ends at the moment at which %s: %s; others' stay", async (_, reason) => {
  const other = createTestCa({ cn: "other" });
  const end = Math.ceil(Date.now() / 1_000) * 1_000 + 2_000;
  const ofList = reason === "revoked";
  const middle = ca.intermediate(ofList ? {} : { notAfter: end });
  const crl = ofList ? [Buffer.from(ca.crl({ nextUpdate: end }).pem)] : [];
  const trust = trustIn({ ca: [ca.certificate, other.certificate], crl, maxStalenessMs: hour }); // no other look comes
  await using setup = await startGateway({ ca, config: { trust } });
  const below = middle.client("below");
  const [ending, free] = await Promise.all([
    dial(setup, { ...below, certificate: below.certificate + middle.certificate }),
    dial(setup, other.client("free")),
  ]);
  const pipe = await ending.open("echo");
  await expect(pipe.closed).rejects.toMatchObject({ code: reason });
  const lateMs = Date.now() - end;
  expect(lateMs > 0 && lateMs < 2_000).toBe(true);
  await (await free.open("echo")).close();
  await free.close();
});

test("a client hears when less than a third of its certificate's life is left, at its coming or later, once", async () => {
  let shift = 0;
  const clock = { ...systemClock, wall: () => Date.now() + shift, now: () => performance.now() + shift };
  await using setup = await startGateway({ ca, config: { trust: trustIn({ ca: [ca.certificate], maxStalenessMs: 100 }) }, clock });
  const notAfter = (Math.floor(Date.now() / 1_000) + 3_600) * 1_000;
  const own = ca.issue({ uri: "spiffe://dev/agent/alice", notBefore: notAfter - 2 * hour, notAfter });
  const heard: { readonly early: number[]; readonly late: number[] } = { early: [], late: [] };
  const early = await dial(setup, own, ({ at }) => void heard.early.push(Number(at)));
  await (await early.open("echo")).close();
  expect(heard.early).toEqual([]); // a half is left
  shift = 30 * minute;
  await expect.poll(() => heard.early, { timeout: 5_000 }).toEqual([notAfter]);
  const late = await dial(setup, own, ({ at }) => void heard.late.push(Number(at)));
  await expect.poll(() => heard.late).toEqual([notAfter]);
  shift = 40 * minute;
  await setup.gateway.reload({ ...setup.config, rules: [{ clients: ["*"], targets: ["echo"], limits: {}, line: 1 }] });
  await (await early.open("echo")).close();
  expect(heard).toEqual({ early: [notAfter], late: [notAfter] });
  await Promise.all([early.close(), late.close()]);
});

test("a CA that expires while it is in force is told once, with its subject and its file", async () => {
  let shift = 0;
  const short = createTestCa({ cn: "short", notAfter: Date.now() + hour });
  const trust = trustIn({
    ca: [ca.certificate, ca.certificate + short.certificate],
    caFiles: ["fleet.pem", "guests.pem"],
    maxStalenessMs: 100,
  });
  await using setup = await startGateway({ ca, config: { trust }, clock: { ...systemClock, wall: () => Date.now() + shift } });
  const told = (): number => setup.lines("CA expired").length;
  expect(told()).toBe(0);
  shift = hour + minute;
  await expect.poll(told).toBe(1);
  expect(setup.lines("CA expired")).toEqual([
    {
      subject: "CN=short",
      file: "guests.pem",
      fingerprint: expect.stringMatching(/^sha256:/u),
      detail: expect.stringMatching(/^it ended on .*: nobody is believed by it any more; renew it, or take it out of trust\.ca$/u),
    },
  ]);
  await setup.gateway.reload({ ...setup.config, maxMessageBytes: 1 << 16 }); // judges everybody again
  expect(told()).toBe(1);
  expect(setup.log.find(({ event }) => event === "CA expired")?.level).toBe("warn");
});

test("a client that comes near its end hears of it at once, however seldom anybody looks", async () => {
  await using setup = await startGateway({ ca, config: { trust: trustIn({ ca: [ca.certificate], maxStalenessMs: hour }) } });
  const notAfter = (Math.floor(Date.now() / 1_000) + 600) * 1_000;
  const heard: number[] = [];
  const client = await dial(
    setup,
    ca.issue({ uri: "spiffe://dev/agent/alice", notBefore: notAfter - hour, notAfter }),
    ({ at }) => void heard.push(Number(at)),
  );
  await expect.poll(() => heard).toEqual([notAfter]);
  await client.close();
});

test("a list that is out of date lets its CA's clients in where the config warns only, and the log says so once an hour", async () => {
  let [shift, looks] = [0, 0];
  const clock = {
    wall: () => Date.now() + shift,
    now: () => performance.now() + shift,
    soon: systemClock.soon,
    after: (ms: number, act: () => void) =>
      systemClock.after(ms, () => {
        looks++;
        act();
      }),
  };
  const [good, gone] = [ca.client("good"), ca.client("gone")];
  const nextUpdate = Date.now() + hour;
  const crl = [Buffer.from(ca.crl({ revoked: [gone.serial], nextUpdate }).pem)];
  const trust = trustIn({ ca: [ca.certificate], crl, onExpired: "warn", maxStalenessMs: 100 });
  await using setup = await startGateway({ ca, config: { trust }, clock });
  const told = (): number => setup.lines("revocation list out of date").length;
  const looked = async (): Promise<void> => {
    const before = looks;
    await expect.poll(() => looks, { timeout: 5_000 }).toBeGreaterThan(before + 2);
  };
  await looked();
  expect(told()).toBe(0);
  const live = await dial(setup, good);
  shift += hour + minute;
  await expect.poll(told).toBe(1);
  expect(setup.lines("revocation list out of date")[0]).toEqual({
    detail: expect.stringMatching(/of CN=test CA went out of date .*: who was revoked since is let in \(trust\.onExpired: warn\)/u),
  });
  await (await dial(setup, good)).close();
  await expect(dial(setup, gone)).rejects.toMatchObject({ code: "revoked" });
  shift += 58 * minute;
  await looked();
  expect(told()).toBe(1);
  shift += 3 * minute;
  await expect.poll(told).toBe(2);
  await looked();
  expect(told()).toBe(2);
  await (await live.open("echo")).close(); // it was never ended
  await live.close();
});
