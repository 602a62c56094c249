import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

/** Packages that a module loads at once, with all that it imports in turn; what is imported when it is needed does not count. */
function packagesOf(file: URL, seen = new Map<string, Set<string>>()): Set<string> {
  const known = seen.get(file.href);
  if (known) return known;
  const packages = new Set<string>();
  seen.set(file.href, packages);
  const text = readFileSync(file, "utf8");
  for (const [, names, specifier] of text.matchAll(/^(?:import|export)\s(?!type\b)([^;]*?\sfrom\s)?"([^"]+)";/gmu)) {
    const list = /^\{([^}]*)\}/u.exec(names ?? "")?.[1];
    if (list?.split(",").every((name) => name.trim() === "" || name.trim().startsWith("type "))) continue;
    if (specifier!.startsWith(".")) for (const name of packagesOf(new URL(specifier!, file), seen)) packages.add(name);
    else if (!specifier!.startsWith("node:")) packages.add(specifier!);
  }
  return packages;
}
const source = (path: string): URL => new URL(`../../src/${path}`, import.meta.url);

test.each(["cli/command.ts", "cli/pipe.ts", "cli/forward.ts"])("%s loads no package but commander, so that it starts quickly", (path) => {
  expect([...packagesOf(source(path))]).toEqual(["commander"]);
});
test("the library loads no package at once, neither for a client nor for a gateway", () => {
  expect([...packagesOf(source("mod.ts"))]).toEqual([]);
});
test("this way of looking finds what a module loads", () => {
  expect(packagesOf(source("base/log-writer.ts"))).toContain("sonic-boom");
});
test("nothing is loaded before V8 is as Node was built for it", () => {
  const text = readFileSync(source("cli/main.ts"), "utf8");
  expect([...text.matchAll(/^import .*"([^"]+)";/gmu)].map(([, specifier]) => specifier)).toEqual(["../runtime/memory.ts"]);
});
