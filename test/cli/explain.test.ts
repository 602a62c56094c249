import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serveAdmin } from "../../src/admin.ts";
import { loadPolicy } from "../../src/config/load.ts";
import type { ExplainGround } from "../../src/explain.ts";
import { createDenyList } from "../../src/policy/deny.ts";
import { createPolicy } from "../../src/policy/policy.ts";
import { alice, ca, type CheckedPlace, config, createCheckedPlace, jsonOf, textOf } from "../support/checked-config.ts";
import { startGateway } from "../support/gateway.ts";
import type { Ended } from "../support/run-command.ts";
import { standInAdmin } from "../support/stand-in-admin.ts";

let place: CheckedPlace;

beforeAll(async () => {
  place = await createCheckedPlace();
});
afterAll(() => place.remove());

describe("pipegate explain", () => {
  const explain = (cert: string, target: string, ...more: string[]): Promise<Ended> =>
    place.run(["explain", "--cert", `${cert}.pem`, "--target", target, ...more]);
  const passed = "rule 1 (pipegate.yaml:11): passed over; not this client: dns:*.ci.example";

  test("names the rule that answers, its line, what the ones before lacked, and the limits", async () => {
    const ended = await explain("alice", "echo");
    expect(
      textOf(ended)
        .replace(/until [0-9T:.-]+Z/g, "until DATE")
        .replace(/from [0-9T:.-]+Z/g, "from DATE")
        .replace(/\d+ bytes/, "N bytes"),
    ).toBe(`alice.pem: spiffe://dev/agent/alice (${alice.fingerprint}), issued by CN=fleet CA, until DATE
  ok readable: N bytes
  ok version: X.509 v3
  ok key: P-256
  ok usage: clientAuth
  ok names: spiffe://dev/agent/alice
  ok validity: from DATE until DATE
  ok issuer: CN=fleet CA (until DATE)
  ok revocation: not on the list of CN=fleet CA, valid until DATE; CN=fleet CA: not on the list of CN=fleet CA, valid until DATE
  ok deny-list: no entry of trust.deny names it
${passed}
rule 2 (pipegate.yaml:13): answers; spiffe://dev/agent/* is spiffe://dev/agent/alice, ec* is echo
allowed by rule 2 (pipegate.yaml:13)
  its pipes: opens 5/s burst 9, bytes 1MiB/s each way, at most 3 pipes
  its connections: at most 2 connections
`);
    expect({ status: ended.status, err: ended.err }).toEqual({ status: 0, err: "" });
  });
  test("says why no rule answers, and exits with 4", async () => {
    const ended = await explain("alice", "db");
    expect(textOf(ended).split("\n").slice(10)).toEqual([
      passed,
      "rule 2 (pipegate.yaml:13): passed over; not db: ec*",
      "no rule lets spiffe://dev/agent/alice reach db",
      "refused: forbidden; to let it, add a rule that names both",
      "",
    ]);
    expect(ended.status).toBe(4);
  });
  test("says that there is no such target", async () => {
    const ended = await explain("alice", "ecko");
    expect(textOf(ended)).toContain("\nthere is no target ecko; did you mean echo\nrefused: unknown_target; check its name\n");
    expect(ended.status).toBe(4);
  });
  test.each([
    [
      "stranger",
      "unknown_issuer",
      /^stranger\.pem: not believed: issued by CN=test CA, which is not trusted here \(sha256:[0-9a-f]{64}\)\n/,
    ],
    ["mallory", "revoked", /^mallory\.pem: not believed: serial [0-9a-f]{32} \(sha256:[0-9a-f]{64}\)\n/],
    ["gateway", "wrong_usage", /^gateway\.pem: not believed: extended key usage without clientAuth/],
  ])("says what the guard thinks of %s: %s", async (cert, reason, says) => {
    const ended = await explain(cert, "echo");
    expect(textOf(ended)).toMatch(says);
    expect(textOf(ended)).toContain(`\nrefused: ${reason}; `);
    expect(ended.status).toBe(4);
  });
  test("says when no rule knows the client at all", async () => {
    await place.write("few.yaml", config.replace("spiffe://dev/agent/*", "spiffe://dev/agent/bob"));
    const ended = await explain("alice", "echo", "-c", "few.yaml");
    expect(textOf(ended)).toContain(
      "\nno rule knows spiffe://dev/agent/alice: it is turned away at the door, whatever it asks for\nrefused: forbidden; ",
    );
  });
  test("names the rule of the connection's limits where it is another", async () => {
    await place.write(
      "more.yaml",
      config.replace('"dns:*.ci.example"]\n    targets: ["*"]', '"spiffe://dev/**"]\n    targets: [db]\n    limits: { connects: 7/s }'),
    );
    const ended = await explain("alice", "echo", "-c", "more.yaml");
    expect(textOf(ended)).toContain("  its connections: connects 7/s, by rule 1 (more.yaml:11), the first that knows the client\n");
  });
  test("answers in JSON", async () => {
    expect(jsonOf(await explain("alice", "echo", "--json"))).toMatchObject({
      certificate: { ok: true, identity: { principal: "spiffe://dev/agent/alice" } },
      target: "echo",
      config: "pipegate.yaml",
      allowed: true,
      rules: [
        { rule: 1, line: 11, verdict: "lacks", lacks: ["client"] },
        { rule: 2, line: 13, verdict: "decides", lacks: [], client: "spiffe://dev/agent/*", target: "ec*" },
      ],
      limits: { opens: { perSecond: 5, burst: 9 }, connections: 2 },
    });
    const refused = await explain("mallory", "echo", "--json");
    expect(jsonOf(refused)).toMatchObject({ certificate: { ok: false, reason: "revoked" }, allowed: false, reason: "revoked" });
    expect(refused.status).toBe(4);
  });
  test("works without our key, and takes DER", async () => {
    await rm(join(place.folder, "gateway-key.pem"), { force: true });
    await writeFile(join(place.folder, "der.pem"), alice.der);
    expect((await explain("der", "echo")).status).toBe(0);
  });
  test.each([
    [["--cert", "none.pem", "--target", "echo"], /^pipegate: none\.pem \(--cert\) does not exist\. Name the client's certificate\.\n$/],
    [["--cert", "pipegate.yaml", "--target", "echo"], /^pipegate: pipegate\.yaml \(--cert\) holds no certificate\. /],
    [["--target", "echo"], /^pipegate: required option '--cert <file>' not specified/],
  ])("%j exits with 2", async (words, says) => {
    const ended = await place.run(["explain", ...words]);
    expect(ended.err).toMatch(says);
    expect({ status: ended.status, out: textOf(ended) }).toEqual({ status: 2, out: "" });
  });

  test("goes on behind the first fault of a certificate, and marks each", async () => {
    const text = textOf(await explain("mallory", "echo"));
    expect(text).toMatch(/\n {2}NO revocation: serial [0-9a-f]{32} is on the list of CN=fleet CA of \S+\n {2}- {2}deny-list: /);
    expect(textOf(await explain("stranger", "echo"))).toMatch(/\n {2}ok names: .*\n(?:.*\n)* {2}NO issuer: /);
  });
  test("says that the deny-list turns it away", async () => {
    await place.write("deny.yaml", config.replace("crl: [crl.pem]", `crl: [crl.pem], deny: ["serial:${alice.serial}"]`));
    const ended = await explain("alice", "echo", "-c", "deny.yaml");
    expect(textOf(ended)).toContain(`\n  NO deny-list: trust.deny names serial:${alice.serial}\n`);
    expect(textOf(ended)).toContain("\nrefused: revoked; ");
    expect(ended.status).toBe(4);
  });
  test("lists shadow rules with what they would do, and lets them decide nothing", async () => {
    const shadow = (clients: string): string =>
      config.replace("rules:\n", `rules:\n  - { clients: [${clients}], targets: ["*"], shadow: true }\n`);
    await place.write("shadow.yaml", shadow('"spiffe://dev/**"'));
    const ended = await explain("alice", "echo", "-c", "shadow.yaml");
    expect(textOf(ended)).toContain(
      "\nrule 1 (shadow.yaml:11): shadow, decides nothing, would answer; spiffe://dev/** is spiffe://dev/agent/alice, * is echo\n",
    );
    expect(textOf(ended)).toContain("\nallowed by rule 3 (shadow.yaml:14)\n");
    const { rules } = jsonOf(await explain("alice", "echo", "-c", "shadow.yaml", "--json")) as { readonly rules: readonly object[] };
    expect(rules).toMatchObject([{ verdict: "shadow", lacks: [] }, { verdict: "lacks" }, { verdict: "decides" }]);
    await place.write("shadow.yaml", shadow("cn:x"));
    expect(textOf(await explain("alice", "echo", "-c", "shadow.yaml"))).toContain(
      "\nrule 1 (shadow.yaml:11): shadow, decides nothing, and would be passed over; not this client: cn:x\n",
    );
  });
});

describe("pipegate explain against a running gateway", () => {
  let admin: { close(): void };
  let socket: string;
  let ground: ExplainGround;
  const explain = (cert: string, ...more: string[]): Promise<Ended> =>
    place.run(["explain", "--cert", `${cert}.pem`, "--target", "echo", ...more]);

  beforeAll(async () => {
    const file = join(place.folder, "pipegate.yaml");
    const now = Date.now();
    const { trust, rules, targets } = await loadPolicy(file, { now });
    ground = {
      trust: trust.built,
      deny: createDenyList([]),
      policy: createPolicy(rules),
      targets,
      file: "pipegate.yaml",
      now,
    };
    socket = join(place.folder, "admin.sock");
    admin = await standInAdmin(socket, { ground: () => ground });
    await place.write("live.yaml", `${config}admin: { listen: "unix:admin.sock" }\n`);
  });
  afterAll(() => admin.close());

  test.each([
    ["alice", []],
    ["mallory", []],
    ["stranger", []],
    ["alice", ["--json"]],
  ])("says the same of %s as offline when the same is in force, with %j", async (cert, flags) => {
    const [live, offline] = [await explain(cert, "--admin", `unix:${socket}`, ...flags), await explain(cert, ...flags)];
    expect(live).toEqual(offline);
    expect(textOf(live)).toContain(cert === "alice" ? "spiffe://dev/agent/alice" : "not believed");
  });
  test("goes by what is in force, not by the file; finds the socket as status does", async () => {
    const before = ground;
    ground = { ...before, deny: createDenyList(["spiffe://dev/agent/alice"]) };
    const live = await explain("alice", "--live", "-c", "live.yaml");
    ground = before;
    expect(live).toMatchObject({ status: 4, err: "" });
    expect(textOf(live)).toContain("\n  NO deny-list: trust.deny names spiffe://dev/agent/alice\n");
    expect((await explain("alice", "-c", "live.yaml")).status).toBe(0);
  });
  test("is answered by a gateway, after a reload by its new rules", async () => {
    const running = await startGateway({ ca, targets: { echo: { kind: "builtin", builtin: "echo" } } });
    const path = join(place.folder, "real.sock");
    const served = await serveAdmin(running.gateway, `unix:${path}`);
    try {
      const open = await explain("alice", "--admin", `unix:${path}`);
      expect(open).toMatchObject({ status: 0, err: "" });
      expect(textOf(open)).toContain("\nallowed by rule 1 (line 1)\n");
      await running.gateway.reload({ ...running.config, rules: [{ clients: ["cn:other"], targets: ["*"], limits: {}, line: 7 }] });
      const closed = await explain("alice", "--admin", `unix:${path}`);
      expect(closed.status).toBe(4);
      expect(textOf(closed)).toContain("\nrule 1 (line 7): passed over; not this client: cn:other\n");
    } finally {
      served.close();
      await running.close();
    }
  });
  test("ends with 3 when no gateway is there", async () => {
    const gone = await explain("alice", "--admin", "unix:/tmp/no-such.sock");
    expect(gone).toMatchObject({ status: 3, err: expect.stringMatching(/no gateway listens on/u) });
  });
});
