/** The floors' check must see what is planted, and its table must be the document's. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { checkFloors, importsOf, rooms } from "../../scripts/check-floors.ts";

const map = readFileSync(new URL("../../docs/architecture.md", import.meta.url), "utf8");

const clean = new Map([
  ["base/clock.ts", "export const now = 1;"],
  ["runtime/tls.ts", 'import { connect } from "node:tls";\nimport { now } from "../base/clock.ts";\nexport { connect, now };'],
  ["identity/judge.ts", 'import { now } from "../base/clock.ts";\nexport const judge = now;'],
  [
    "tls/listener.ts",
    'import type { TLSSocket } from "node:tls";\nimport { connect } from "../runtime/tls.ts";\nexport { connect, type TLSSocket };',
  ],
]);

function withFile(path: string, text: string): string[] {
  return checkFloors(new Map([...clean, [path, text]]));
}

describe("the floors", () => {
  test("allow what the map allows", () => {
    expect(checkFloors(clean)).toEqual([]);
  });

  test.each([
    ["a higher floor", "base/bad.ts", 'import { judge } from "../identity/judge.ts";', "base imports identity"],
    ["a higher floor for its type", "base/bad.ts", 'import type { judge } from "../identity/judge.ts";', "base imports identity"],
    ["a higher floor by a dynamic import", "base/bad.ts", 'await import("../identity/judge.ts");', "base imports identity"],
    ["a higher floor by a re-export", "base/bad.ts", 'export * from "../identity/judge.ts";', "base imports identity"],
    [
      "a higher floor over several lines",
      "base/bad.ts",
      'import {\n  judge, // a "judge"\n} from "../identity/judge.ts";',
      "src/base/bad.ts:3: base imports identity",
    ],
    ["runtime where judging is pure", "policy/bad.ts", 'import "../runtime/tls.ts";', "policy imports runtime"],
    ["sockets outside runtime", "target/bad.ts", 'import { connect } from "node:net";', "target uses node:net"],
    ["sockets by a dynamic import", "target/bad.ts", 'const net = await import("node:net");', "target uses node:net"],
    ["a specifier that is computed", "base/bad.ts", "await import(name);", "not a plain string"],
    ["a back door to Node's modules", "base/bad.ts", 'process.getBuiltinModule("node:net");', "not a plain string"],
    ["a file that is not there", "base/bad.ts", 'import "./gone.ts";', "not a file of src/"],
    ["a way out of src/", "base/bad.ts", 'import "../../scripts/tree.ts";', "not a file of src/"],
    ["a room that nobody knows", "attic/bad.ts", "", "the room attic is not in the table"],
  ])("refuse %s", (_, path, text, fault) => {
    expect(withFile(path, text).join("\n")).toContain(fault);
  });

  test("refuse a ring and name its members", () => {
    const files = new Map([
      ["base/a.ts", 'import "./b.ts";'],
      ["base/b.ts", 'import "./c.ts";'],
      ["base/c.ts", 'import "./a.ts";'],
    ]);
    expect(checkFloors(files)).toEqual(["src/base/a.ts: a ring of imports: base/a.ts -> base/b.ts -> base/c.ts -> base/a.ts"]);
  });

  test("do not take words in comments for imports", () => {
    expect(importsOf('// import "node:net";\n/* import "node:net"; */\n/** see import("node:tls") */\nexport const url = "a//b";')).toEqual(
      [],
    );
  });
});

describe("the table of rooms", () => {
  // | `base/`, `x.ts` | what | who |
  const rows = [...map.matchAll(/^\| (?<names>`[^|]+`) \|[^|]+\|(?<from>[^|]*)\|$/gm)].map(({ groups }) => ({
    names: [...groups!["names"]!.matchAll(/`([\w-]+)(?:\/|\.ts)`/g)].map(([, name]) => name!),
    from: groups!["from"]!.trim(),
  }));

  test("names the rooms of docs/architecture.md, in both directions", () => {
    expect(new Set(rows.flatMap(({ names }) => names))).toEqual(new Set(Object.keys(rooms)));
  });

  test("lets each room import what the document lets it", () => {
    const listed = rows.filter(({ from }) => from !== "" && !from.startsWith("all"));
    expect(listed.length).toBeGreaterThan(8);
    for (const { names, from } of listed) {
      const allowed = from === "nothing of ours" ? [] : from.split(",").map((name) => name.trim().replace(/\.ts$/, ""));
      for (const name of names) expect([name, ...new Set(rooms[name]!.from)]).toEqual([name, ...allowed]);
    }
  });

  test("never lets judging reach the runtime", () => {
    for (const name of ["identity", "policy", "protocol", "pipe", "config"]) expect(rooms[name]!.from).not.toContain("runtime");
  });

  test("has no rings, and only runtime at the edge", () => {
    const order = Object.keys(rooms);
    for (const [name, { from, edge }] of Object.entries(rooms)) {
      for (const other of from) expect(order.indexOf(other), `${name} imports ${other}`).toBeLessThan(order.indexOf(name));
      expect(edge === true).toBe(name === "runtime");
    }
  });
});
