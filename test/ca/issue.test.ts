import { createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import * as tls from "node:tls";
import { describe, expect, test } from "vitest";
import { initAuthority, type InitOptions } from "../../src/ca/authority.ts";
import { devCertificates } from "../../src/ca/dev.ts";
import { issue, type IssueOptions } from "../../src/ca/issue.ts";
import { type KeyType, keyTypes } from "../../src/ca/keys.ts";
import { readLedger, standings } from "../../src/ca/ledger.ts";
import { parseNames } from "../../src/ca/names.ts";
import { parseCertificate } from "../../src/identity/certificate.ts";
import { identityOf } from "../../src/identity/names.ts";
import { createTestCa } from "../support/mint.ts";
import { withOpenssl } from "../support/openssl-judge.ts";

const { folder: base, run: openssl } = withOpenssl();
const day = 86_400_000;
const now = Math.floor(Date.now() / 1000) * 1000;

const newFolder = (): string => mkdtempSync(join(base, "ca-"));
const init = (folder: string, options: Partial<InitOptions> = {}) =>
  initAuthority(folder, { keyType: "p256", lifeMs: 365 * day, replace: false, now, ...options });
const names = (...words: string[]) => parseNames(words, { role: "client" });
const client = (folder: string, options: Partial<IssueOptions> = {}) =>
  issue(folder, {
    names: names("spiffe://dev/agent/alice"),
    role: "client",
    keyType: "p256",
    lifeMs: day,
    replace: false,
    now,
    ...options,
  });
const read = (folder: string, file: string): string => readFileSync(join(folder, file), "utf8");
const parsed = (path: string) => parseCertificate(Buffer.from(new X509Certificate(readFileSync(path)).raw));
const mode = (path: string): number => statSync(path).mode & 0o777;
const refused = (code: string, message: RegExp) => expect.objectContaining({ code, message: expect.stringMatching(message) });

describe("a CA", () => {
  test.each<KeyType>(keyTypes.filter((type) => type !== "rsa4096"))(
    "with a %s key signs leaves that openssl verifies by the book",
    async (keyType) => {
      const folder = newFolder();
      expect(await init(folder, { keyType })).toMatchObject({ outcome: "made", notAfter: now + 365 * day });
      const { certificate } = await client(folder, { keyType });
      const ca = join(folder, "ca.pem");
      expect(openssl("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca, certificate)).toMatch(/: OK/u);
      const text = openssl("x509", "-noout", "-text", "-in", ca);
      expect(text).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/u);
      expect(text).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign\n/u);
      expect(text).toMatch(/Subject: CN = pipegate CA [0-9a-f]{8}\n/u);
    },
  );

  test("that is there is kept, and replaced only when that is asked for", async () => {
    const folder = newFolder();
    await init(folder, { name: "first, of its #name" });
    const [certificate, key] = [read(folder, "ca.pem"), read(folder, "ca-key.pem")];
    expect(openssl("x509", "-noout", "-subject", "-nameopt", "utf8", "-in", join(folder, "ca.pem"))).toMatch(
      /CN\s*=\s*first\\?, of its #name/u,
    );
    expect(await init(folder)).toMatchObject({ outcome: "kept" });
    expect([read(folder, "ca.pem"), read(folder, "ca-key.pem")]).toEqual([certificate, key]);
    expect(await init(folder, { replace: true })).toMatchObject({ outcome: "replaced" });
    expect(read(folder, "ca-key.pem")).not.toBe(key);
    await client(folder);
  });

  test("made by many at once is one CA", async () => {
    const folder = newFolder();
    const outcomes = (await Promise.all(Array.from({ length: 8 }, () => init(folder)))).map(({ outcome }) => outcome);
    expect(outcomes.filter((outcome) => outcome === "made")).toHaveLength(1);
    await client(folder);
    expect(readdirSync(folder).filter((name) => name.endsWith(".new"))).toEqual([]);
  });

  test("whose maker was killed after the key is completed with that key", async () => {
    const folder = newFolder();
    await init(folder);
    const { certificate } = await client(folder);
    rmSync(join(folder, "ca.pem"));
    await expect(client(folder, { replace: true })).rejects.toEqual(refused("config", /no CA/u));
    expect(await init(folder)).toMatchObject({ outcome: "completed" });
    expect(openssl("verify", "-CAfile", join(folder, "ca.pem"), certificate)).toMatch(/: OK/u);
  });

  test("without its key, with a foreign one, or with one that others can read signs nothing", async () => {
    const folder = newFolder();
    await init(folder);
    const key = join(folder, "ca-key.pem");
    chmodSync(key, 0o640);
    await expect(client(folder)).rejects.toEqual(refused("config", /can be read by other users/u));
    rmSync(key);
    await expect(client(folder)).rejects.toEqual(refused("config", /ca-key\.pem is missing/u));
    await expect(init(folder)).rejects.toEqual(refused("config", /ca-key\.pem is missing/u));
    writeFileSync(key, createTestCa().key, { mode: 0o600 });
    await expect(client(folder)).rejects.toEqual(refused("config", /not the key of the CA/u));
    writeFileSync(key, "junk", { mode: 0o600 });
    await expect(client(folder)).rejects.toEqual(refused("config", /no private key/u));
    writeFileSync(join(folder, "ca.pem"), createTestCa().client("x").certificate);
    await expect(client(folder)).rejects.toEqual(refused("config", /not the certificate of a CA/u));
  });

  test("that has expired signs nothing", async () => {
    const folder = newFolder();
    await init(folder);
    await expect(client(folder, { now: now + 366 * day })).rejects.toEqual(refused("config", /expired on/u));
  });
});

describe("a certificate", () => {
  test("says what was asked for, to the gateway's own judge", async () => {
    const folder = newFolder();
    await init(folder);
    const made = await client(folder, { names: names("spiffe://dev/agent/alice", "dns:a.example", "cn:Alice, #1") });
    const leaf = parsed(made.certificate);
    expect(identityOf(leaf, leaf.notAfter)).toMatchObject({
      principal: "spiffe://dev/agent/alice",
      dns: ["a.example"],
      cn: "Alice, #1",
      serial: made.serial,
      notBefore: now - 60_000,
      notAfter: now + day,
    });
    expect(leaf).toMatchObject({ version: 3, ca: false, extendedKeyUsage: ["1.3.6.1.5.5.7.3.2"], keyUsage: 0x8000, unknownCritical: [] });
  });

  test("of a gateway is for servers only, of an agent for clients only", async () => {
    const folder = newFolder();
    await init(folder);
    const gateway = await client(folder, { role: "gateway", names: parseNames(["gw.example", "::1"], { role: "gateway" }) });
    const agent = await client(folder, { role: "agent" });
    expect(parsed(gateway.certificate).extendedKeyUsage).toEqual(["1.3.6.1.5.5.7.3.1"]);
    expect(parsed(agent.certificate).extendedKeyUsage).toEqual(["1.3.6.1.5.5.7.3.2"]);
    expect(openssl("x509", "-noout", "-ext", "subjectAltName", "-in", gateway.certificate)).toMatch(
      /DNS:gw\.example, IP Address:0:0:0:0:0:0:0:1/u,
    );
  });

  test("never outlives its CA, and never starts before it", async () => {
    const folder = newFolder();
    await init(folder, { lifeMs: 2 * day });
    const made = await client(folder, { lifeMs: 30 * day });
    expect(made).toMatchObject({ notAfter: now + 2 * day, cut: true });
    expect(parsed(made.certificate).notAfter).toBe(now + 2 * day);
    expect(await client(folder, { replace: true })).toMatchObject({ cut: false });
    const early = await client(folder, { replace: true, now: now - 30_000 });
    expect(parsed(early.certificate).notBefore).toBe(now - 60_000);
  });

  test("has a serial of 128 bits, positive, whole, never twice", async () => {
    const folder = newFolder();
    await init(folder);
    const serials = new Set<string>();
    for (let at = 0; at < 50; at++) {
      const { serial, certificate } = await client(folder, { replace: true });
      expect(serial).toMatch(/^(?!00)[0-7][0-9a-f]{31}$/u);
      expect(parsed(certificate).serial).toBe(serial);
      serials.add(serial);
    }
    expect(serials.size).toBe(50);
  });

  test("has a key that is 0600 whatever the umask, and nothing overwrites its files unbidden", async () => {
    const folder = newFolder();
    const before = process.umask(0);
    try {
      await init(folder);
      const made = await client(folder, { pkcs12: {} });
      expect([mode(made.key), mode(made.pkcs12!.path), mode(join(folder, "ca-key.pem")), mode(join(folder, "issued.jsonl"))]).toEqual(
        Array<number>(4).fill(0o600),
      );
      expect(mode(made.certificate)).toBe(0o644);
    } finally {
      process.umask(before);
    }
    const key = read(folder, "alice-key.pem");
    await expect(client(folder)).rejects.toEqual(refused("usage", /alice\.pem exists already/u));
    rmSync(join(folder, "alice.pem"));
    await expect(client(folder)).rejects.toEqual(refused("usage", /alice-key\.pem exists already/u));
    expect(read(folder, "alice-key.pem")).toBe(key);
    const six = await Promise.allSettled(Array.from({ length: 6 }, () => client(folder, { out: "one" })));
    expect(six.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(new X509Certificate(read(folder, "one.pem")).checkPrivateKey(createPrivateKey(read(folder, "one-key.pem")))).toBe(true);
  });

  test.each(["ca", "CA", "crl", "x-key", "../", "..", ".hidden", "-rf", "a b", "a\nb", "x/ca", ""])("is not written as %j", async (out) => {
    const folder = newFolder();
    await init(folder);
    const before = readdirSync(folder);
    await expect(client(folder, { out, replace: true })).rejects.toEqual(refused("usage", /./u));
    expect(readdirSync(folder)).toEqual(before);
  });

  test("goes where it is told, and a missing folder or a folder in its place is named", async () => {
    const folder = newFolder();
    await init(folder);
    const elsewhere = newFolder();
    expect(await client(folder, { out: join(elsewhere, "alice.pem") })).toMatchObject({ certificate: join(elsewhere, "alice.pem") });
    expect(standings(await readLedger(folder))[0]!.file).toBe(join(elsewhere, "alice.pem"));
    await expect(client(folder, { out: join(folder, "none", "alice") })).rejects.toEqual(refused("config", /folder of .* does not exist/u));
  });
});

describe("a PKCS#12", () => {
  test.each<KeyType>(["p256", "rsa2048"])("with a %s key is opened by openssl with its password and no other", async (keyType) => {
    const folder = newFolder();
    await init(folder);
    const { pkcs12, certificate } = await client(folder, { keyType, pkcs12: {} });
    expect(pkcs12!.password).toMatch(/^[\w-]{20}$/u);
    const shown = openssl("pkcs12", "-in", pkcs12!.path, "-passin", `pass:${pkcs12!.password}`, "-nodes", "-info");
    expect(shown).toContain(read(folder, "alice.pem").trim());
    expect(shown).toContain(read(folder, "alice-key.pem").trim());
    expect(shown).toMatch(/friendlyName: spiffe:\/\/dev\/agent\/alice[\s\S]*PBES2, PBKDF2, AES-256-CBC/u);
    expect(shown).toMatch(/MAC: sha256/u);
    expect(() => openssl("pkcs12", "-in", pkcs12!.path, "-passin", "pass:wrong", "-nodes")).toThrow(/invalid password/u);
    const context = tls.createSecureContext({ pfx: readFileSync(pkcs12!.path), passphrase: pkcs12!.password });
    expect(context).toBeDefined();
    expect(existsSync(certificate)).toBe(true);
  });

  test("is not made with an Ed25519 key or a password that is none, and then nothing else is either", async () => {
    const folder = newFolder();
    await init(folder);
    await expect(client(folder, { keyType: "ed25519", pkcs12: {} })).rejects.toEqual(refused("usage", /Ed25519/u));
    await expect(client(folder, { pkcs12: { password: "short" } })).rejects.toEqual(refused("usage", /8 to 128/u));
    expect(readdirSync(folder).sort()).toEqual(["ca-key.pem", "ca.pem"]);
  });
});

describe("development certificates", () => {
  test("meet over TLS, each knowing the other", async () => {
    const folder = newFolder();
    const started = performance.now();
    const paths = await devCertificates(folder);
    expect(performance.now() - started).toBeLessThan(3000); // 0.2 s on a machine that does nothing else
    expect(paths.made).toEqual(["ca", "gateway", "client", "stranger"].map((name) => join(folder, `${name}.pem`)));
    const ca = read(folder, "ca.pem");
    const pair = (of: { certificate: string; key: string }) => ({ cert: readFileSync(of.certificate), key: readFileSync(of.key) });
    const server = tls.createServer(
      { ...pair(paths.gateway), ca, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3" },
      (socket) => {
        const leaf = parseCertificate(Buffer.from(socket.getPeerCertificate().raw));
        socket.end((identityOf(leaf, 0) as { principal: string }).principal);
      },
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      for (const [of, principal] of [
        [paths.client, "spiffe://dev/agent/alice"],
        [paths.stranger, "spiffe://dev/stranger"],
      ] as const) {
        const socket = tls.connect({
          port: (server.address() as AddressInfo).port,
          host: "127.0.0.1",
          ...pair(of),
          ca,
          servername: "localhost",
        });
        const [said] = (await once(socket, "data")) as [Buffer];
        expect(said.toString()).toBe(principal);
        socket.destroy();
      }
    } finally {
      server.close();
    }
  });

  test("are kept while they are good, and made anew when they are missing, half there, or nearly expired", async () => {
    const folder = newFolder();
    await devCertificates(folder, { now });
    expect((await devCertificates(folder, { now: now + 20 * day })).made).toEqual([]);
    rmSync(join(folder, "client.pem"));
    expect((await devCertificates(folder, { now })).made).toEqual([join(folder, "client.pem")]);
    expect((await devCertificates(folder, { now: now + 29.99 * day })).made).toHaveLength(3);
    const key = read(folder, "ca-key.pem");
    expect((await devCertificates(folder, { now: now + 3650 * day })).made).toHaveLength(4);
    expect(read(folder, "ca-key.pem")).not.toBe(key);
  });

  test("never replace what somebody else put there", async () => {
    const folder = newFolder();
    const foreign = createTestCa().gateway();
    writeFileSync(join(folder, "gateway.pem"), foreign.certificate);
    writeFileSync(join(folder, "gateway-key.pem"), foreign.key, { mode: 0o600 });
    await expect(devCertificates(folder)).rejects.toEqual(refused("config", /gateway\.pem is not from this CA/u));
    expect(read(folder, "gateway.pem")).toBe(foreign.certificate);
    const other = newFolder();
    await init(other);
    await client(other, { out: "client", names: names("spiffe://prod/agent/bob") });
    await expect(devCertificates(other)).rejects.toEqual(refused("config", /client\.pem does not name spiffe:\/\/dev\/agent\/alice/u));
  });
});
