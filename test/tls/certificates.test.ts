import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Reason } from "../../src/base/reason.ts";
import { createTrust } from "../../src/identity/judge.ts";
import { facts } from "../../src/runtime/facts.ts";
import { certificateCases } from "../support/certificate-cases.ts";
import { openDoor, type TestDoor } from "../support/door.ts";
import { doorOptions } from "../support/door-options.ts";
import { createTestCa, type Issued } from "../support/mint.ts";
import { opensslClient } from "../support/openssl-client.ts";
import { ended, type Ended } from "../support/run-command.ts";

const ca = createTestCa();
const { cases, revoked } = certificateCases(ca);
const folder = mkdtempSync(join(tmpdir(), "pipegate-chains-"));
let door: TestDoor;

beforeAll(async () => {
  const trust = createTrust({ ca: [ca.certificate], crl: [Buffer.from(ca.crl({ revoked: [revoked.serial] }).pem)], now: Date.now() });
  door = await openDoor({ ca, options: { trust } });
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await door.close();
});

/** The stranger's openssl presents the chain, and takes any key and signature of its own for strong enough. */
async function present(chain: readonly Issued[], words: readonly string[] = []): Promise<Ended> {
  const [leaf, ...others] = chain as [Issued, ...Issued[]];
  const client = opensslClient(ca.certificate, leaf);
  const file = join(folder, "chain.pem");
  writeFileSync(file, others.map(({ certificate }) => certificate).join(""));
  const above = others.length === 0 ? [] : ["-cert_chain", file];
  const result = await client.run(door.port, "", ["-alpn", "pipegate/1", "-cipher", "DEFAULT:@SECLEVEL=0", ...above, ...words]);
  client.remove();
  return result;
}

/** It is let in; where Node hides what OpenSSL has proven, it may be refused instead, with the mend. */
async function expectIn(issued: Issued): Promise<void> {
  if (!facts.showsChains) {
    const hidden = (): boolean => door.refusals.at(-1)?.detail.includes("is not shown here") === true;
    await expect.poll(() => hidden() || door.connections.at(-1)?.identity.fingerprint === issued.fingerprint).toBe(true);
    if (hidden()) return void (await door.refusal());
  }
  expect((await door.connection()).identity.fingerprint).toBe(issued.fingerprint);
}

/** OpenSSL says UNSPECIFIED to some; Deno nearly always the same; and a client that cannot sign as Deno wants shows no certificate. */
const coarse: readonly Reason[] = facts.tellsCertificateFaults ? ["unknown_issuer", "wrong_usage"] : ["unknown_issuer", "no_certificate"];

describe("a listener, asked by openssl", () => {
  test.each(cases)("says $verdict to $name", async ({ verdict, chain, issued }) => {
    const before = [door.connections.length, door.refusals.length] as const;
    await present(chain);
    if (verdict === "in" && chain.length > 1) await expectIn(issued);
    else if (verdict === "in") {
      const { identity } = await door.connection();
      expect(identity).toMatchObject({ fingerprint: issued.fingerprint, serial: issued.serial });
    } else {
      const refusal = await door.refusal();
      // Refused by the TLS stack, before our judge could look: then the reason is as fine as what the stack says.
      const stack = refusal.fingerprint === undefined;
      expect(stack ? [verdict, ...coarse] : [verdict]).toContain(refusal.reason);
      expect(refusal.detail).toMatch(/^[\x20-\x7e]+$/);
      refusal.connection?.socket.destroy();
    }
    expect(door.connections.length + door.refusals.length).toBe(before[0] + before[1] + 1);
  });

  test("tells on Node, also where OpenSSL refuses, what is wrong with an ordinary certificate", async () => {
    const told = cases.filter(({ name }) => ["a foreign CA's", "an expired one", "one of tomorrow", "a gateway's"].includes(name));
    expect(told.length).toBe(4);
    for (const { chain, verdict } of told) {
      await present(chain);
      expect((await door.refusal()).reason).toBe(facts.tellsCertificateFaults ? verdict : "unknown_issuer");
    }
  });

  test("takes one below two intermediates, or is told what hides them", async () => {
    const upper = ca.intermediate({ pathLength: 1 });
    const lower = upper.intermediate();
    const issued = lower.issue({ uri: "spiffe://dev/agent/deep" });
    const before = door.connections.length + door.refusals.length;
    await present([issued, lower, upper]);
    await expectIn(issued);
    expect(door.connections.length + door.refusals.length).toBe(before + 1);
  });

  test("refuses who shows another's certificate without its key", async () => {
    const alice = ca.client("alice");
    const mallory = ca.client("mallory");
    // A key file whose private half is Mallory's and whose public half says Alice: openssl's client does not look closer.
    const point = (key: string): Buffer => createPublicKey(createPrivateKey(key)).export({ type: "spki", format: "der" }).subarray(-65);
    const der = createPrivateKey(mallory.key).export({ type: "sec1", format: "der" });
    const at = der.indexOf(point(mallory.key));
    expect(at).toBeGreaterThan(0);
    point(alice.key).copy(der, at);
    const key = `-----BEGIN EC PRIVATE KEY-----\n${der.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END EC PRIVATE KEY-----\n`;
    const before = door.connections.length;
    await present([{ ...alice, key }]);
    expect((await door.refusal()).reason).toBe(facts.tellsCertificateFaults ? "protocol_error" : "unknown_issuer");
    expect(door.connections.length).toBe(before);
  });

  test("refuses sixty certificates of one name soon", async () => {
    const impostors = Array.from({ length: 60 }, () => createTestCa({ cn: "test CA" }));
    const [before, started] = [door.connections.length + door.refusals.length, performance.now()];
    await present([ca.client("x"), ...impostors]);
    await expect.poll(() => door.connections.length + door.refusals.length, { interval: 5, timeout: 5_000 }).toBe(before + 1);
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

/** Tickets of this listener, of another that trusts another CA, and after a certificate was revoked. */
describe("a resumed session", () => {
  const session = join(folder, "session.pem");

  async function save(from: TestDoor, who: Issued): Promise<void> {
    rmSync(session, { force: true });
    const client = opensslClient(ca.certificate, who);
    const child = client.start(from.port, ["-alpn", "pipegate/1", "-sess_out", session]);
    const over = ended(child);
    child.stdout.once("data", () => setTimeout(() => child.stdin.end(), 50)); // tickets come behind the handshake
    await over;
    client.remove();
    expect(existsSync(session)).toBe(true); // Node's has nothing behind it, but an attempt can be made with it
  }

  test("is a new one on Node, and on Deno judged whole like a new one", async () => {
    const alice = ca.client("alice");
    const fresh = await openDoor({ ca });
    await save(fresh, alice);
    expect((await fresh.connection()).resumed).toBe(false);
    const client = opensslClient(ca.certificate, alice);
    await client.run(fresh.port, "", ["-alpn", "pipegate/1", "-sess_in", session]);
    client.remove();
    const { identity, resumed } = await fresh.connection();
    expect([identity.fingerprint, resumed]).toEqual([alice.fingerprint, !facts.endsTickets]);
    await fresh.close();
  });

  test("does not bring a revoked, expired or foreign certificate in", async () => {
    const who = ca.issue({ uri: "spiffe://dev/agent/gone" });
    const other = createTestCa({ cn: "another CA" });
    const now = Date.now();
    const settings = {
      revoked: { trust: createTrust({ ca: [ca.certificate], crl: [Buffer.from(ca.crl({ revoked: [who.serial] }).pem)], now }) },
      unknown_issuer: { trust: createTrust({ ca: [other.certificate], crl: [], now }) },
      cert_expired: { clock: { wall: () => now + 47 * 3_600_000, now: () => 0, after: () => ({ cancel: () => {} }), soon: () => {} } },
    } as const;
    for (const [reason, options] of Object.entries(settings)) {
      const credentials = ca.issue({ role: "gateway", dns: "localhost", notAfter: now + 90 * 24 * 3_600_000 });
      const later = await openDoor({ ca, options: { ...options, credentials } });
      const first = await openDoor({ ca });
      await save(first, who);
      await first.close();
      const client = opensslClient(ca.certificate, who);
      await client.run(later.port, "", ["-alpn", "pipegate/1", "-sess_in", session]);
      client.remove();
      expect([(await later.refusal()).reason, later.connections.length]).toEqual([reason, 0]);
      await later.close();
    }
  });

  test("of the very listener does not bring anyone in whose CA was removed meanwhile, with a certificate or without", async () => {
    const who = ca.client("alice");
    const other = createTestCa({ cn: "another CA" });
    const door = await openDoor({ ca });
    await save(door, who);
    await door.connection();
    const served = { ...doorOptions(ca), trust: createTrust({ ca: [other.certificate], crl: [], now: Date.now() }) };
    door.listener.prepare(served)();
    for (const shown of [who, undefined]) {
      const client = opensslClient(ca.certificate, shown);
      await client.run(door.port, "", ["-alpn", "pipegate/1", "-sess_in", session]);
      client.remove();
      const reason = shown === undefined && facts.endsTickets ? "no_certificate" : "unknown_issuer";
      expect([(await door.refusal()).reason, door.connections.length]).toEqual([reason, 1]);
    }
    await door.close();
  });

  test("needs a certificate, or on Deno the proof that was given when its secret was agreed", async () => {
    const first = await openDoor({ ca });
    await save(first, ca.client("alice"));
    const nobody = opensslClient(ca.certificate);
    await first.connection();
    await nobody.run(first.port, "", ["-alpn", "pipegate/1", "-sess_in", session]);
    nobody.remove();
    if (facts.endsTickets) expect((await first.refusal()).reason).toBe("no_certificate");
    else expect((await first.connection()).identity.principal).toBe("spiffe://dev/agent/alice");
    await first.close();
  });
});
