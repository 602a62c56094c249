import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ca, type CheckedPlace, config, createCheckedPlace, jsonOf, textOf } from "../support/checked-config.ts";

let place: CheckedPlace;

beforeAll(async () => {
  place = await createCheckedPlace();
  await mkdir(join(place.folder, "sub"));
});
afterAll(() => place.remove());

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
    await place.write("sub/other.yaml", odd);
    const ended = await place.run(["check", "-c", "sub/other.yaml"]);
    expect(textOf(ended).split("\n")[0]).toBe("sub/other.yaml is good: 5 files read, 1 warning");
    expect(ended.err).toBe("warning: sub/other.yaml:14:20 rules[1].targets[1]: no target fits db-*\n");
    expect(ended.status).toBe(0);
  });
  test("with one error says it in one line with place and mend, and exits with 2", async () => {
    await place.write("one.yaml", config.replace("opens: 5/s burst 9", "opens: 5"));
    const ended = await place.run(["check", "-c", "one.yaml"]);
    expect(ended.err).toBe(
      "pipegate: one.yaml:15:22 rules[1].limits.opens: expected a rate such as 50/s burst 100, got 5; did you mean 5/s.\n",
    );
    expect({ status: ended.status, out: textOf(ended) }).toEqual({ status: 2, out: "" });
  });
  test("with several errors says each in its line", async () => {
    await place.write("two.yaml", config.replace("opens: 5/s burst 9", "opens: 5").replace("targets: [ec*]", "targets: [eco]"));
    const ended = await place.run(["check", "-c", "two.yaml"]);
    const lines = ended.err.trimEnd().split("\n");
    expect(lines).toHaveLength(3);
    expect(lines).toContain('two.yaml:14:15 rules[1].targets[0]: there is no target "eco"; did you mean echo');
    expect(lines).toContain("two.yaml:15:22 rules[1].limits.opens: expected a rate such as 50/s burst 100, got 5; did you mean 5/s");
    expect(ended.status).toBe(2);
  });
  test("refuses an intermediate CA without its root, as the gateway does", async () => {
    await place.write("middle.pem", ca.intermediate().certificate);
    await place.write("middle.yaml", config.replace("{ ca: [ca.pem], crl: [crl.pem] }", "{ ca: [middle.pem] }"));
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
    await place.write("one.yaml", config.replace("opens: 5/s burst 9", "opens: 5"));
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
