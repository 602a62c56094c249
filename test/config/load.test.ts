import { execFileSync } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { configDefaults, type Config, type InForce } from "../../src/config/config.ts";
import { configFrom, loadConfig, loadPolicy } from "../../src/config/load.ts";
import { staleLists } from "../../src/identity/trust.ts";
import { createTestCa } from "../support/mint.ts";
import { configText, problemsOfLoading } from "./problems.ts";

const ca = createTestCa();
const own = ca.gateway();
const day = 24 * 3600 * 1000;
const asRoot = process.getuid?.() === 0;

let root: string;
let folder: string;
let config: string;
let count = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "config-"));
});
afterAll(() => rm(root, { recursive: true }));
beforeEach(async () => {
  folder = join(root, String(count++));
  await mkdir(folder);
  config = await put("c.yaml", configText());
  await put("gateway.pem", own.certificate);
  await put("gateway-key.pem", own.key, 0o600);
  await put("ca.pem", ca.certificate);
});

async function put(name: string, content: string | Uint8Array, mode = 0o644): Promise<string> {
  const path = join(folder, name);
  await rm(path, { force: true });
  await writeFile(path, content, { mode });
  await chmod(path, mode);
  return path;
}

const inForceOf = ({ trust, credentials, targets }: Config): InForce => ({ trust: trust.built, credentials, targets });

/** Without the folder, which is another each time. */
async function problems(now?: number): Promise<readonly string[]> {
  const lines = await problemsOfLoading(loadConfig(config, now === undefined ? {} : { now }));
  return lines.map((line) => line.replaceAll(`${folder}/`, ""));
}

describe("a config file", () => {
  test("with all that it names becomes a Config", async () => {
    await put("crl.pem", ca.crl().pem);
    await put(
      "c.yaml",
      configText({
        listeners:
          "listeners: [{ listen: '[::1]:0' }, { listen: 'unix:in.sock', target: echo, serverNames: { A.Example: api }, alpn: [x] }]",
        trust: "trust: { ca: [ca.pem], crl: crl.pem }",
        targets:
          "targets: { echo: { builtin: echo }, api: { tls: a.example:1, ca: ca.pem, dialTimeout: 1s }, db: { unix: db.sock, framing: lines } }",
        rules: 'rules:\n  - { clients: ["*"], targets: ["*"], limits: { messages: 5/s } }',
        admin: "admin: { listen: unix:admin.sock }",
      }),
    );
    const loaded = await loadConfig(config);
    expect(loaded).toEqual({
      file: config,
      files: [config, ...["gateway.pem", "gateway-key.pem", "ca.pem", "crl.pem"].map((name) => join(folder, name))],
      listeners: [
        { listen: { kind: "tcp", host: "::1", port: 0 }, serverNames: new Map(), alpn: [] },
        {
          listen: { kind: "unix", path: join(folder, "in.sock") },
          target: "echo",
          serverNames: new Map([["a.example", "api"]]),
          alpn: ["x"],
        },
      ],
      credentials: { certificate: own.certificate, key: own.key },
      trust: {
        ca: [ca.certificate],
        caFiles: [join(folder, "ca.pem")],
        crl: [expect.any(Uint8Array)],
        built: expect.objectContaining({ anchors: [expect.anything()], files: [expect.anything()], onExpired: "refuse" }),
        maxStalenessMs: 5_000,
        onExpired: "refuse",
        deny: [],
      },
      targets: new Map<string, unknown>([
        ["echo", { kind: "builtin", builtin: "echo" }],
        [
          "api",
          {
            kind: "tls",
            addresses: [{ kind: "tcp", host: "a.example", port: 1 }],
            ca: [ca.certificate],
            framing: "u32",
            dialTimeoutMs: 1000,
          },
        ],
        ["db", { kind: "unix", path: join(folder, "db.sock"), framing: "lines", dialTimeoutMs: 5000 }],
      ]),
      rules: [{ clients: ["*"], targets: ["*"], limits: { messages: { perSecond: 5, burst: 5 } }, line: 6, shadow: false }],
      admin: { listen: `unix:${join(folder, "admin.sock")}` },
      log: { level: "info", format: "auto" },
      maxMessageBytes: 1 << 20,
      selfTest: "required",
      penalties: configDefaults.penalties,
      audit: undefined,
      workers: 1,
      warnings: [],
    });
  });
  test("has as many workers as it says, and with auto one for each processor", async () => {
    const workersOf = async (text: string): Promise<number> => {
      await put("c.yaml", configText({ workers: text }));
      return (await loadConfig(config)).workers;
    };
    expect(await workersOf("workers: 3")).toBe(3);
    expect(await workersOf("workers: auto")).toBe(availableParallelism());
  });
  test("may begin with a byte-order mark and end its lines as Windows does", async () => {
    await put("c.yaml", `\ufeff${configText().replaceAll("\n", "\r\n")}`);
    expect(await problems()).toEqual([]);
  });
  test("may name files by links", async () => {
    await rm(join(folder, "gateway.pem"));
    await put("real.pem", own.certificate);
    await symlink("real.pem", join(folder, "gateway.pem"));
    expect(await problems()).toEqual([]);
  });
  test.each<readonly [what: string, prepare: () => Promise<unknown>, problem: string]>([
    [
      "that does not exist",
      () => rm(config),
      "c.yaml: the config does not exist; name another with -c FILE, or let pipegate demo write one",
    ],
    ["that is a folder", () => rm(config).then(() => mkdir(config)), "c.yaml: the config is a folder, not a file; name a file in it"],
    ["that is a ring of links", () => rm(config).then(() => symlink(config, config)), "c.yaml: the config is a ring of links"],
    ["that is empty", () => put("c.yaml", ""), "c.yaml:1:1: the config is empty; pipegate demo writes one to start from"],
    [
      "that is huge",
      () => put("c.yaml", "#".repeat((1 << 20) + 1)),
      "c.yaml: the config is larger than 1 MiB; look whether it is the right file",
    ],
    [
      "in UTF-16",
      () => put("c.yaml", Buffer.from(`\ufeff${configText()}`, "utf16le")),
      "c.yaml: the config is not UTF-8 text; save it as UTF-8",
    ],
    ["of random bytes", () => put("c.yaml", Uint8Array.of(0xc3, 0x28, 0xff)), "c.yaml: the config is not UTF-8 text; save it as UTF-8"],
    [
      "that anybody may change",
      () => put("c.yaml", configText(), 0o646),
      "c.yaml: the config may be changed by everyone on this host (mode 646); chmod o-w c.yaml",
    ],
  ])("%s is refused", async (_, prepare, problem) => {
    await prepare();
    expect(await problems()).toEqual([problem]);
  });
  test("that is a pipe nobody writes to is refused at once", async () => {
    await rm(config);
    execFileSync("mkfifo", [config], { timeout: 5000 });
    expect(await problems()).toEqual(["c.yaml: the config is not a regular file"]);
  });
});

describe("a file that a config names", () => {
  const other = createTestCa({ cn: "another CA" });
  const iso = (at: number): string => new Date(Math.floor(at / 1000) * 1000).toISOString();
  const past = Date.now() - day;
  const certificate = "c.yaml:2:26 identity.certificate: gateway.pem";
  const key = "c.yaml:2:44 identity.key: gateway-key.pem";
  const authority = "c.yaml:3:14 trust.ca: ca.pem";
  test.each<readonly [what: string, prepare: () => Promise<unknown>, ...problems: string[]]>([
    ["is not there", () => rm(join(folder, "gateway.pem")), `${certificate} does not exist`],
    [
      "is a folder",
      () => rm(join(folder, "ca.pem")).then(() => mkdir(join(folder, "ca.pem"))),
      `${authority} is a folder, not a file; name a file in it`,
    ],
    ["is huge", () => put("ca.pem", "x".repeat((1 << 20) + 1)), `${authority} is larger than 1 MiB; look whether it is the right file`],
    [
      "is a key that others may read",
      () => chmod(join(folder, "gateway-key.pem"), 0o644),
      `${key} may be read or changed by others on this host (mode 644); chmod 600 gateway-key.pem`,
    ],
    [
      "is a key that the group may read",
      () => chmod(join(folder, "gateway-key.pem"), 0o640),
      `${key} may be read or changed by others on this host (mode 640); chmod 600 gateway-key.pem`,
    ],
    [
      "is a CA that anybody may change",
      () => chmod(join(folder, "ca.pem"), 0o666),
      `${authority} may be changed by everyone on this host (mode 666); chmod o-w ca.pem`,
    ],
    [
      "is a key of another certificate",
      () => put("gateway-key.pem", ca.gateway().key, 0o600),
      `${key} is not the key of the certificate; name the one that it was made for`,
    ],
    [
      "is a key of another kind",
      () => put("gateway-key.pem", ca.issue({ keyType: "ed25519" }).key, 0o600),
      `${key} is not the key of the certificate; name the one that it was made for`,
    ],
    [
      "is no key",
      () => put("gateway-key.pem", "hello", 0o600),
      `${key} holds no private key in PEM; name one that begins with -----BEGIN PRIVATE KEY-----`,
    ],
    [
      "is a damaged key",
      () => put("gateway-key.pem", own.key.replace(/\n[^-]{20}/, "\n"), 0o600),
      `${key} holds a private key that cannot be read; copy it again`,
    ],
    [
      "is an encrypted key",
      () => put("gateway-key.pem", own.key.replaceAll("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), 0o600),
      `${key} is encrypted; decrypt it first: openssl pkey -in FILE -out FILE.pem`,
    ],
    [
      "is certificate where the key should be, and the other way round",
      async () => {
        await put("gateway.pem", own.key, 0o600);
        await put("gateway-key.pem", own.certificate, 0o600);
      },
      `${certificate} holds a key and no certificate; see whether the two are exchanged`,
      `${key} holds a certificate and no key; see whether the two are exchanged`,
    ],
    [
      "is no certificate",
      () => put("gateway.pem", "hello"),
      `${certificate} holds no certificate in PEM; name one that begins with -----BEGIN CERTIFICATE-----`,
    ],
    [
      "is half a certificate",
      () => put("gateway.pem", own.certificate.slice(0, 200)),
      `${certificate} is cut off or damaged; copy it again`,
    ],
    [
      "is a client's certificate",
      () => present({ role: "client", dns: "localhost" }),
      `${certificate} is not for a server (serverAuth); issue one: pipegate ca issue --role gateway`,
    ],
    [
      "is a CA's certificate instead of ours",
      () => put("gateway.pem", ca.certificate),
      `${certificate} is a CA's instead of one that it issued for us; issue one: pipegate ca issue --role gateway`,
    ],
    [
      "is a chain in the wrong order",
      () => put("gateway.pem", ca.certificate + own.certificate),
      `${certificate} begins with a CA's certificate; put our own first, then each one's issuer`,
    ],
    [
      "is no chain",
      () => put("gateway.pem", own.certificate + other.certificate),
      `${certificate} is no chain: certificate 2 did not issue the one before it; put our own first, then each one's issuer`,
    ],
    [
      "is of a weak key",
      () => present({ role: "gateway", dns: "localhost", keyType: "rsa1024" }),
      `${certificate} has a key that is too weak, RSA of 1024 bits; use P-256, Ed25519, or RSA of 2048 bits and more`,
    ],
    [
      "is expired",
      () => present({ role: "gateway", dns: "localhost", notBefore: past - day, notAfter: past }),
      `${certificate} expired on ${iso(past)}; issue one: pipegate ca issue --role gateway`,
    ],
    [
      "is not yet valid",
      () => present({ role: "gateway", dns: "localhost", notBefore: past + 2 * day, notAfter: past + 3 * day }),
      `${certificate} is valid from ${iso(past + 2 * day)} only; check the clock`,
    ],
    [
      "is an expired CA",
      () => put("ca.pem", createTestCa({ notBefore: past - day, notAfter: past }).certificate),
      `${authority} is refused: the CA expired on ${iso(past)}; renew it: pipegate ca init --force makes a new one`,
    ],
    [
      "is no CA",
      () => put("ca.pem", own.certificate),
      `${authority} holds a certificate that is not a CA's; give the certificate of the CA, not one that it issued`,
    ],
    [
      "is an empty CA",
      () => put("ca.pem", ""),
      `${authority} holds no certificate in PEM; give the CA's certificate, which begins with -----BEGIN CERTIFICATE-----`,
    ],
  ])("is refused when it %s", async (_, prepare, ...expected) => {
    await (prepare as () => Promise<unknown>)();
    expect(await problems()).toEqual(expected);
  });

  async function present(options: Parameters<typeof ca.issue>[0]): Promise<void> {
    const issued = ca.issue(options);
    await put("gateway.pem", issued.certificate);
    await put("gateway-key.pem", issued.key, 0o600);
  }

  test.runIf(asRoot)("is refused when it is a key of another user", async () => {
    await chown(join(folder, "gateway-key.pem"), 12_345, 12_345);
    expect(await problems()).toEqual([`${key} belongs to another user (uid 12345); make it ours: chown 0 gateway-key.pem`]);
  });
  test("is judged at the time that is given", async () => {
    expect((await problems(Date.now() + 2 * day)).map((line) => line.split(" expired")[0])).toEqual([
      certificate,
      `${authority} is refused: the CA`,
    ]);
  });
  test("is judged also when the text is wrong elsewhere, and all is told", async () => {
    await put("c.yaml", configText({ trust: "trust: { ca: [ca.pem, nope.pem], crl: crl.pem }", maxMessage: "maxMessage: 5" }));
    await rm(join(folder, "gateway-key.pem"));
    await put("crl.pem", other.crl().pem);
    expect(await problems()).toEqual([
      "c.yaml:2:44 identity.key: gateway-key.pem does not exist",
      "c.yaml:3:23 trust.ca[1]: nope.pem does not exist",
      "c.yaml:6:13 maxMessage: expected a size with its unit, such as 1MiB, got 5; did you mean 5B",
    ]);
  });
  test.each([
    ["another CA's list", other.crl().pem, "holds a revocation list of a CA that trust.ca does not name; add that CA, or remove the list"],
    [
      "a forged list",
      ca.crl({ signer: other.privateKey }).pem,
      "holds a revocation list whose signature is not its CA's; make it again: pipegate ca crl",
    ],
    ["no list", "revoked: nobody", "holds a revocation list that cannot be read"],
    [
      "a list and more",
      `${ca.crl().pem}${ca.certificate}`,
      "holds what is no whole revocation list; write it anew, with nothing but lists: pipegate ca crl makes one",
    ],
    [
      "a list of yesterday",
      ca.crl({ thisUpdate: past - day, nextUpdate: past }).pem,
      `is refused: the revocation list went out of date on ${iso(past)}; make a new one: pipegate ca crl`,
    ],
  ])("is refused when it is %s", async (_, crl, says) => {
    await put("crl.pem", crl);
    await put("c.yaml", configText({ trust: "trust: { ca: ca.pem, crl: [crl.pem] }" }));
    const [line, ...more] = await problems();
    expect(line!.slice(0, `c.yaml:3:28 trust.crl[0]: crl.pem ${says}`.length)).toBe(`c.yaml:3:28 trust.crl[0]: crl.pem ${says}`);
    expect(more).toEqual([]);
  });
  test("are lists that are wrong, and each of them is told", async () => {
    await put("foreign.pem", other.crl().pem);
    await put("good.pem", ca.crl().pem);
    await put("junk.pem", "-----BEGIN X509 CRL-----\n");
    await put("c.yaml", configText({ trust: "trust: { ca: ca.pem, crl: [foreign.pem, good.pem, junk.pem] }" }));
    expect((await problems()).map((line) => line.split(" holds ")[0])).toEqual([
      "c.yaml:3:28 trust.crl[0]: foreign.pem",
      "c.yaml:3:51 trust.crl[2]: junk.pem",
    ]);
  });
  test("may be a list of yesterday where the config warns only", async () => {
    await put("crl.pem", ca.crl({ thisUpdate: past - day, nextUpdate: past }).pem);
    await put("c.yaml", configText({ trust: "trust: { ca: ca.pem, crl: crl.pem, onExpired: warn }" }));
    const { trust } = await loadConfig(config);
    expect(staleLists(trust.built, Date.now())).toEqual([expect.stringContaining(`CN=test CA went out of date on ${iso(past)}`)]);
  });
  test("that has expired since it came into force keeps no revocation out: ours, a CA, what a back end is shown and believed by", async () => {
    const targets = "targets: { echo: { builtin: echo }, db: { tls: db.example:1, ca: ca.pem, certificate: db.pem, key: db-key.pem } }";
    const shown = ca.client("us");
    await put("db.pem", shown.certificate);
    await put("db-key.pem", shown.key, 0o600);
    await put("c.yaml", configText({ targets }));
    const inForce = inForceOf(await loadConfig(config));
    const now = Date.now() + 2 * day;
    await put("crl.pem", ca.crl({ revoked: ["0b"], thisUpdate: now - day, nextUpdate: now + day }).pem);
    await put("c.yaml", configText({ targets, trust: 'trust: { ca: ca.pem, crl: crl.pem, deny: ["serial:0c"] }' }));
    const { trust } = await loadConfig(config, { now, inForce });
    expect([...trust.built.crls.values()].flat().map(({ revoked }) => [...revoked])).toEqual([["0b"]]);
    expect((await problems(now)).length).toBe(4);
    await put("ca.pem", createTestCa({ cn: "late", notBefore: past - day, notAfter: past }).certificate);
    const expired = expect.stringContaining("the CA expired") as string; // this one was never in force
    await expect(loadConfig(config, { now, inForce })).rejects.toMatchObject({ details: [expired, expired] });
  });
  test("give the very same trust again for as long as all of them are the same", async () => {
    await put("crl.pem", ca.crl().pem);
    await put("c.yaml", configText({ trust: "trust: { ca: ca.pem, crl: crl.pem }" }));
    const inForce = inForceOf(await loadConfig(config));
    const known = inForce.trust;
    const again = async () => (await loadConfig(config, { inForce })).trust.built;
    expect(await again()).toBe(known);
    expect((await loadPolicy(config, { inForce })).trust.built).toBe(known);
    await put("crl.pem", ca.crl({ revoked: ["0b"] }).pem);
    expect(await again()).not.toBe(known);
    expect((await loadConfig(config)).trust.built).not.toBe(known);
  });
  test("that has expired since it came into force keeps no revocation out; what is new is judged as ever", async () => {
    const lasting = createTestCa({ cn: "lasting", notAfter: Date.now() + 9 * day });
    const passing = createTestCa({ cn: "passing", notAfter: Date.now() + day });
    const client = passing.client("gateway");
    await put("lasting.pem", lasting.certificate);
    await put("passing.pem", passing.certificate + passing.intermediate({ notAfter: Date.now() + 9 * day }).certificate);
    await put("client.pem", client.certificate);
    await put("client-key.pem", client.key, 0o600);
    const text = (trusted: string): string =>
      configText({
        trust: `trust: { ca: [${trusted}], crl: crl.pem }`,
        targets: "targets: { echo: { tls: a:1, ca: passing.pem, certificate: client.pem, key: client-key.pem } }",
      });
    await put("c.yaml", text("lasting.pem, passing.pem"));
    await put("crl.pem", lasting.crl({ nextUpdate: Date.now() + 9 * day }).pem);
    const { trust, credentials, targets } = await loadConfig(config);
    const later = { now: Date.now() + 2 * day, inForce: { trust: trust.built, credentials, targets } };
    await put("crl.pem", lasting.crl({ revoked: ["0b"], nextUpdate: Date.now() + 9 * day }).pem);
    const next = await loadConfig(config, later);
    expect([...next.trust.built.crls.values()].flat().map(({ revoked }) => [...revoked])).toEqual([["0b"]]);
    expect(next.trust.built.anchors.length).toBe(3);
    expect((await problems(later.now)).filter((line) => line.includes("expired on")).length).toBe(4); // at a start nothing was in force
    await put("another.pem", createTestCa().certificate);
    await put("c.yaml", text("lasting.pem, passing.pem, another.pem"));
    await expect(loadConfig(config, later)).rejects.toThrow(/another\.pem.*the CA expired on/u);
  });
  test("that is an intermediate CA needs its root beside it, in whichever file", async () => {
    const middle = ca.intermediate();
    await put("middle.pem", middle.certificate);
    await put("bundle.pem", ca.certificate + middle.certificate);
    await put("crl.pem", middle.crl().pem);
    const says =
      "holds a CA of which no client would be believed, CN=test intermediate: issued by CN=test CA, which is not trusted here; " +
      "add the certificates above it, up to the root, which is its own issuer";
    await put("c.yaml", configText({ trust: "trust: { ca: middle.pem, crl: crl.pem }" }));
    expect(await problems()).toEqual([`c.yaml:3:14 trust.ca: middle.pem ${says}`]);
    await put("other.pem", other.certificate);
    await put("c.yaml", configText({ trust: "trust:\n  ca:\n    - other.pem\n    - middle.pem\n" }));
    expect(await problems()).toEqual([`c.yaml:6:7 trust.ca[1]: middle.pem ${says}`]);
    for (const ca of ["[middle.pem, ca.pem]", "[ca.pem, middle.pem]", "bundle.pem"]) {
      await put("c.yaml", configText({ trust: `trust: { ca: ${ca}, crl: crl.pem }` }));
      expect({ ca, problems: await problems() }).toEqual({ ca, problems: [] });
    }
  });
  test("of a TLS back end is judged under its target", async () => {
    await put(
      "c.yaml",
      configText({ targets: "targets: { echo: { tls: a:1, ca: gateway.pem, certificate: gateway.pem, key: gateway-key.pem } }" }),
    );
    expect(await problems()).toEqual([
      "c.yaml:4:34 targets.echo.ca: gateway.pem holds a certificate that is not a CA's; give the certificate of the CA, not one that it issued",
      "c.yaml:4:60 targets.echo.certificate: gateway.pem is not for a client (clientAuth); issue one: pipegate ca issue --role client",
    ]);
  });
  test("cannot stand in the config itself", async () => {
    await put("c.yaml", configText({ trust: `trust: { ca: ${JSON.stringify(ca.certificate)} }` }));
    expect(await problems()).toEqual(["c.yaml:3:14 trust.ca: expected the path of a file, got its text; write it into a file"]);
  });
  test("that is odd is a warning", async () => {
    await present({ role: "gateway", cn: "gateway", notBefore: Date.now() - 9 * day, notAfter: Date.now() + day });
    expect((await loadConfig(config)).warnings).toEqual([
      expect.stringMatching(/c\.yaml:2:26 identity\.certificate: .*gateway\.pem expires soon, on /),
      expect.stringMatching(/c\.yaml:2:26 identity\.certificate: .*gateway\.pem names no host and no address/),
    ]);
  });
  test("that is a socket in a deep folder may get too long a path", async () => {
    await put("c.yaml", configText({ admin: `admin: { listen: "unix:${"x".repeat(100)}" }` }));
    expect((await problems())[0]).toMatch(/^c\.yaml:6:18 admin\.listen: unix:x+: a socket's path ends at 107 bytes; choose a shorter one$/);
  });
});

describe("a policy alone", () => {
  test("is read without our key", async () => {
    await rm(join(folder, "gateway-key.pem"));
    const { rules, targets, trust } = await loadPolicy(config);
    expect({ rules: rules.length, targets, trust }).toMatchObject({
      rules: 1,
      targets: ["echo"],
      trust: { ca: [ca.certificate], crl: [] },
    });
    expect(trust.built.anchors.length).toBe(1);
  });
  test("is judged all the same", async () => {
    await rm(join(folder, "ca.pem"));
    await put("c.yaml", configText({ maxMessage: "maxMessage: 5" }));
    const lines = await problemsOfLoading(loadPolicy(config));
    expect(lines.map((line) => line.replaceAll(`${folder}/`, "").split(": ")[0])).toEqual([
      "c.yaml:3:14 trust.ca",
      "c.yaml:6:13 maxMessage",
    ]);
  });
});

describe("a program's object", () => {
  const object = (): Record<string, unknown> => ({
    listeners: [{ listen: "127.0.0.1:0" }],
    identity: { certificate: "gateway.pem", key: "gateway-key.pem" },
    trust: { ca: ["ca.pem"] },
    targets: { echo: { builtin: "echo" } },
    rules: [{ clients: ["*"], targets: ["echo"], limits: { opens: "5/s" } }],
    admin: undefined,
  });
  test("of the shape of the file gives the same Config, but for lines", async () => {
    const { file: _, files: __, ...loaded } = await loadConfig(config);
    const rules = [{ clients: ["*"], targets: ["echo"], limits: { opens: { perSecond: 5, burst: 5 } }, line: 0, shadow: false }];
    expect(await configFrom(object(), { folder })).toEqual({ ...loaded, rules });
  });
  test("may hold PEM texts instead of paths", async () => {
    const inline = { ...object(), identity: { certificate: own.certificate, key: own.key }, trust: { ca: ca.certificate } };
    expect((await configFrom(inline)).credentials).toEqual({ certificate: own.certificate, key: own.key });
    const wrong = { ...inline, identity: { certificate: own.certificate, key: ca.key } };
    expect(await problemsOfLoading(configFrom(wrong))).toEqual([
      "config identity.key: identity.key is not the key of the certificate; name the one that it was made for",
    ]);
  });
  test("gets the same errors, without places", async () => {
    const wrong = { ...object(), lisners: [], rules: [{ clients: ["*"], targets: ["eco"] }], maxMessage: 5, log: new Map() };
    expect(await problemsOfLoading(configFrom(wrong, { folder }))).toEqual([
      "config log: expected a plain object",
      "config lisners: unknown key; did you mean listeners",
      "config maxMessage: expected a size with its unit, such as 1MiB, got 5; did you mean 5B",
      'config rules[0].targets[0]: there is no target "eco"; did you mean echo',
    ]);
  });
  test.each<readonly [string, unknown]>([
    ["nothing", undefined],
    ["null", null],
    ["a list", []],
    ["a function", () => 1],
    ["a symbol", Symbol("x")],
    [
      "a ring",
      ((): unknown => {
        const ring: Record<string, unknown> = {};
        ring["listeners"] = [ring];
        return ring;
      })(),
    ],
    ["keys of Object.prototype", JSON.parse('{ "__proto__": { "listeners": [] }, "constructor": 1 }')],
  ])("that is %s is refused", async (_, value) => {
    expect((await problemsOfLoading(configFrom(value))).length).toBeGreaterThan(0);
  });
});
