import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, type Ended, type Workplace } from "../support/run-command.ts";

const ca = createTestCa({ cn: "fleet CA" });
const alice = ca.client("alice");
const revoked = ca.client("mallory");
let place: Workplace;

const config = `listeners:
  - listen: 127.0.0.1:8443
  - listen: unix:raw.sock
    target: echo
identity: { certificate: gateway.pem, key: gateway-key.pem }
trust: { ca: [ca.pem], crl: [crl.pem] }
targets:
  echo: { builtin: echo }
  db: { tcp: [10.0.0.5:5432, "[::1]:5432"] }
rules:
  - clients: ["dns:*.ci.example"]
    targets: ["*"]
  - clients: ["spiffe://dev/agent/*"]
    targets: [ec*]
    limits: { opens: 5/s burst 9, bytes: 1MiB/s, pipes: 3, connections: 2 }
`;

beforeAll(async () => {
  place = await createWorkplace(ca.certificate, {
    gateway: ca.gateway(),
    alice,
    mallory: revoked,
    stranger: createTestCa().client("alice"),
  });
  await write("crl.pem", ca.crl({ revoked: [revoked.serial] }).pem);
  await write("pipegate.yaml", config);
  await mkdir(join(place.folder, "sub"));
});
afterAll(() => place.remove());

async function write(name: string, text: string): Promise<void> {
  await writeFile(join(place.folder, name), text);
}
function textOf({ out }: Ended): string {
  return out.toString("utf8");
}
function jsonOf(ended: Ended): Record<string, unknown> {
  return JSON.parse(textOf(ended)) as Record<string, unknown>;
}

describe("pipegate check", () => {
  test("says on stdout what the gateway would do, and exits with 0", async () => {
    const ended = await place.run(["check"]);
    expect(textOf(ended).replace(/until \S+/, "until DATE")).toBe(`pipegate.yaml is good: 5 files read, no warnings
  listens on 127.0.0.1:8443 for pipegate/1
             unix:raw.sock for pipegate/1, and raw clients of echo
  shows      a certificate that holds until DATE
  trusts     CN=fleet CA
  refuses    1 revoked certificate of 1 list
  targets    echo: builtin echo
             db: tcp 10.0.0.5:5432, [::1]:5432
  rules      2
`);
    expect({ status: ended.status, err: ended.err }).toEqual({ status: 0, err: "" });
  });
  test("takes another file, whose names start at its own folder, and tells what is odd on stderr", async () => {
    const odd = config.replaceAll(/(gateway|gateway-key|ca|crl)\.pem/g, "../$1.pem").replace("ec*", "ec*, db-*");
    await write("sub/other.yaml", odd);
    const ended = await place.run(["check", "-c", "sub/other.yaml"]);
    expect(textOf(ended).split("\n")[0]).toBe("sub/other.yaml is good: 5 files read, 1 warning");
    expect(ended.err).toBe("warning: sub/other.yaml:14:20 rules[1].targets[1]: no target fits db-*\n");
    expect(ended.status).toBe(0);
  });
  test("with one error says it in one line with place and mend, and exits with 2", async () => {
    await write("one.yaml", config.replace("opens: 5/s burst 9", "opens: 5"));
    const ended = await place.run(["check", "-c", "one.yaml"]);
    expect(ended.err).toBe(
      "pipegate: one.yaml:15:22 rules[1].limits.opens: expected a rate such as 50/s burst 100, got 5; did you mean 5/s.\n",
    );
    expect({ status: ended.status, out: textOf(ended) }).toEqual({ status: 2, out: "" });
  });
  test("with several errors says each in its line", async () => {
    await write("two.yaml", config.replace("opens: 5/s burst 9", "opens: 5").replace("targets: [ec*]", "targets: [eco]"));
    const ended = await place.run(["check", "-c", "two.yaml"]);
    const lines = ended.err.trimEnd().split("\n");
    expect(lines).toHaveLength(3);
    expect(lines).toContain('two.yaml:14:15 rules[1].targets[0]: there is no target "eco"; did you mean echo');
    expect(lines).toContain("two.yaml:15:22 rules[1].limits.opens: expected a rate such as 50/s burst 100, got 5; did you mean 5/s");
    expect(ended.status).toBe(2);
  });
  test("refuses an intermediate CA without its root, as the gateway does", async () => {
    await write("middle.pem", ca.intermediate().certificate);
    await write("middle.yaml", config.replace("{ ca: [ca.pem], crl: [crl.pem] }", "{ ca: [middle.pem] }"));
    for (const command of ["check", "gateway"]) {
      const { status, out, err } = await place.run([command, "-c", "middle.yaml"]);
      expect({ status, out: out.toString() }).toEqual({ status: 2, out: "" });
      expect(err).toMatch(/^pipegate: middle\.yaml:6:15 trust\.ca\[0\]: middle\.pem holds a CA of which no client would be believed, /);
    }
  });
  test("answers in JSON, good or bad", async () => {
    const good = await place.run(["check", "--json"]);
    expect(jsonOf(good)).toMatchObject({
      file: "pipegate.yaml",
      ok: true,
      rules: 2,
      warnings: [],
      targets: { echo: "builtin echo" },
      trust: { revocationLists: 1, revoked: 1 },
    });
    await write("one.yaml", config.replace("opens: 5/s burst 9", "opens: 5"));
    const bad = await place.run(["check", "--json", "-c", "one.yaml"]);
    const problem = "expected a rate such as 50/s burst 100, got 5; did you mean 5/s";
    expect(jsonOf(bad)).toEqual({
      file: "one.yaml",
      ok: false,
      problems: [{ line: 15, column: 22, path: "rules[1].limits.opens", problem }],
    });
    expect(bad.status).toBe(2);
  });
  test.each([
    [[], "sub/none.yaml", /^pipegate: sub\/none\.yaml: the config does not exist; name another with -c FILE/],
    [[], "sub", /^pipegate: sub: the config is a folder, not a file/],
    [["--jsn"], "pipegate.yaml", /^pipegate: unknown option '--jsn'\n\(Did you mean --json\?\)/],
  ])("%j with %s exits with 2", async (words, file, says) => {
    const ended = await place.run(["check", "-c", file, ...words]);
    expect(ended.err).toMatch(says);
    expect({ status: ended.status, out: textOf(ended) }).toEqual({ status: 2, out: "" });
  });
});

describe("pipegate explain", () => {
  const explain = (cert: string, target: string, ...more: string[]): Promise<Ended> =>
    place.run(["explain", "--cert", `${cert}.pem`, "--target", target, ...more]);
  const passed = "rule 1 (pipegate.yaml:11): passed over; not this client: dns:*.ci.example";

  test("names the rule that answers, its line, what the ones before lacked, and the limits", async () => {
    const ended = await explain("alice", "echo");
    expect(textOf(ended).replace(/until \S+/, "until DATE"))
      .toBe(`alice.pem: spiffe://dev/agent/alice (${alice.fingerprint}), issued by CN=fleet CA, until DATE
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
    expect(textOf(ended).split("\n").slice(1)).toEqual([
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
    await write("few.yaml", config.replace("spiffe://dev/agent/*", "spiffe://dev/agent/bob"));
    const ended = await explain("alice", "echo", "-c", "few.yaml");
    expect(textOf(ended)).toContain(
      "\nno rule knows spiffe://dev/agent/alice: it is turned away at the door, whatever it asks for\nrefused: forbidden; ",
    );
  });
  test("names the rule of the connection's limits where it is another", async () => {
    await write(
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
    await rm(join(place.folder, "gateway-key.pem"));
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
});
