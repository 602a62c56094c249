/** Each of the repository's own rules must see what is planted, and leave alone what is right. */
import { describe, expect, test } from "vitest";
import { checkContents, checkFacades, checkNeighbours } from "../../scripts/check-package.ts";
import { checkCases, checkText, checkVersions } from "../../scripts/check-repository.ts";

const head = "/** A file. */\n";

describe("the repository's rules", () => {
  test.each([
    ["package-lock.json", '  "resolved": "x",', "downloaded from"],
    ["deno.lock", '  "tarball": "https://npm-registry.example/a.tgz"', "registry"],
    ["src/a.ts", `${head}const options = { rejectUnauthorized: false };`, "rejectUnauthorized"],
    ["src/a.ts", `${head}const options = { rejectUnauthorized: strict };`, "rejectUnauthorized"],
    ["src/a.ts", `${head}const options = { requestCert:false };`, "client certificate"],
    ["src/a.ts", `${head}spawn("ls", { shell: true });`, "shell"],
    ["src/a.ts", `${head}Duplex.toWeb(socket);`, "bridge"],
    ["src/a.ts", `${head}process.on("SIGUSR1", act);`, "debugger"],
    ["src/a.ts", `${head}certificate.subject.CN`, "DER"],
    ["src/a.ts", `${head}// TODO later`, "unfinished"],
    ["src/a.ts", "export const a = 1;", "no head"],
    ["test/a.test.ts", 'test.skip("a", () => {});', "every test runs"],
  ])("see in %s: %s", (path, text, why) => {
    expect(checkText(path, text).join("\n")).toContain(why);
  });

  test("leave right code and mere mentions alone", () => {
    const text = `#!/usr/bin/env node\n${head}// never rejectUnauthorized: false\nconst options = { rejectUnauthorized: true, requestCert: true, shell: false };`;
    expect(checkText("src/a.ts", text)).toEqual([]);
  });

  test("want one exact version of each dependency", () => {
    expect(checkVersions({ dependencies: { a: "1.2.3" }, devDependencies: { b: "^1.2.3", c: "*", d: "1.2" } })).toHaveLength(3);
  });
});

describe("the list of cases", () => {
  const read = (path: string): string | undefined => (path === "a/b.test.ts" ? 'test("holds to the end", () => {});' : undefined);
  const row = (cell: string): string[] => checkCases(`| case | test |\n|---|---|\n| one | ${cell} |`, read);

  test("is right when each row names a test that is there", () => {
    expect(row('`a/b.test.ts` "holds to", "holds"')).toEqual([]);
  });

  test.each([
    ["a file that is not there", '`a/c.test.ts` "holds"', "docs/cases.md:3: there is no test/a/c.test.ts"],
    [
      "a test that is not there",
      '`a/b.test.ts` "holds", "to the end"',
      "docs/cases.md:3: test/a/b.test.ts has no test that begins with: to the end",
    ],
    ["no test at all", "by hand", "docs/cases.md:3: names no test"],
  ])("is faulty with %s", (_, cell, fault) => {
    expect(row(cell)).toEqual([fault]);
  });
});

describe("the package's contents", () => {
  const right = [
    "package.json",
    "README.md",
    "LICENSE",
    "dist/mod.js",
    "dist/mod.d.ts",
    "dist/cli/main.js",
    "dist/parts/worker.js",
    "docs/protocol.md",
    "schema/config.json",
  ];

  test("are right when they are complete and nothing else", () => {
    expect(checkContents(right, "#!/usr/bin/env node\n")).toEqual([]);
  });

  test.each([
    ["a missing entry", right.filter((path) => path !== "dist/mod.d.ts"), "#!/usr/bin/env node\n"],
    ["a private key", [...right, "docs/key.pem"], "#!/usr/bin/env node\n"],
    ["a test", [...right, "dist/a.test.ts"], "#!/usr/bin/env node\n"],
    ["a command that does not start", right, "import './x.js';"],
  ])("are faulty with %s", (_, paths, command) => {
    expect(checkContents(paths, command)).toHaveLength(1);
  });
});

test("code of the package that starts a worker stands where the worker does", () => {
  const text = 'const program = new URL("worker", import.meta.url);';
  expect(checkNeighbours(new Map([["dist/parts/leader.js", text]]))).toEqual([]);
  expect(checkNeighbours(new Map([["dist/cli/main.js", text]]))).toHaveLength(1);
});

test("code of the package asks for modules of Node's by name, and imports none", () => {
  const faults = (text: string): readonly string[] => checkFacades(new Map([["dist/mod.js", text]]));
  expect(faults('import * as v from "valibot";\nconst { connect: dial } = process.getBuiltinModule("node:net");')).toEqual([]);
  expect(faults('import { connect } from "node:net";')).toHaveLength(1);
  expect(faults('import "./mod.js";\nimport process from "node:process";')).toHaveLength(1);
});
