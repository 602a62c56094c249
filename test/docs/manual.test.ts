import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { explanations, type Reason, reasons } from "../../src/base/reason.ts";
import { Status } from "../../src/cli/exit.ts";
import type { Identity } from "../../src/identity/identity.ts";
import { matchesClient, matchesTarget, parseClientPattern, parseTargetPattern } from "../../src/policy/pattern.ts";
import { penaltyAmounts } from "../../src/tls/penalties.ts";
import { identityOf } from "../support/identity.ts";

const page = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const manual = page("docs/manual.md");

/** The cells of a table's rows, under the heading `## NAME`. */
function rows(name: string): string[][] {
  const section = manual.split(/^## /mu).find((text) => text.startsWith(`${name}\n`)) ?? "";
  return [...section.matchAll(/^\| (.+) \|$/gmu)].map((match) => match[1]!.split(" | ")).slice(1);
}

describe("the manual", () => {
  test("lists every reason with its meaning and what to do, and no others", () => {
    const listed = rows("Reasons").map(([reason, meaning, next]) => ({ reason: reason!.replaceAll("`", ""), meaning, next }));
    expect(listed).toEqual(reasons.map((reason: Reason) => ({ reason, ...explanations[reason] })));
  });

  test("lists every exit status, and no others", () => {
    const listed = rows("Exit status").map(([status]) => Number(status));
    expect(listed).toEqual(Object.values(Status).sort((a, b) => a - b));
  });

  test("says what each handshake that fails costs an address", () => {
    const table = manual.split("| handshake ended in | costs |\n|---|---|\n")[1]!.split("\n\n")[0]!;
    const told = [...table.matchAll(/^\| (`.*`).* \| ([0-9.]+) s \|$/gmu)].flatMap(([, names, seconds]) =>
      [...names!.matchAll(/`(\w+)`/gu)].map(([, reason]) => [reason, Number(seconds) * 1_000]),
    );
    expect(Object.fromEntries(told)).toEqual(penaltyAmounts);
  });

  test("names every key of the config that editors know", () => {
    const known = new Set<string>();
    JSON.stringify(JSON.parse(page("schema/pipegate.schema.json")), (key, value: unknown) => {
      if (key === "properties" && typeof value === "object" && value !== null) for (const name of Object.keys(value)) known.add(name);
      return value;
    });
    expect(known.size).toBeGreaterThan(20);
    expect([...known].filter((name) => !new RegExp(`\\b${name.replace("$", "\\$")}\\b`, "u").test(manual))).toEqual([]);
  });

  test("is right about its client patterns", () => {
    const names = (cell: string | undefined): string[] =>
      [...(cell ?? "").matchAll(/`([^`*]{3,})`/gu)].map((match) => match[1]!).filter((name) => /^(?:spiffe:|[a-z.]+$)/u.test(name));
    const identity = (name: string): Identity => identityOf(name.startsWith("spiffe:") ? { uri: name } : { dns: [name] });
    let checked = 0;
    for (const [pattern, fits, lacks] of rows("The config file")) {
      if (!/^`(?:spiffe|dns):/u.test(pattern!)) continue;
      const parsed = parseClientPattern(pattern!.replaceAll("`", ""));
      for (const name of names(fits)) expect([pattern, name, matchesClient(parsed, identity(name))]).toEqual([pattern, name, true]);
      for (const name of names(lacks)) expect([pattern, name, matchesClient(parsed, identity(name))]).toEqual([pattern, name, false]);
      checked += names(fits).length + names(lacks).length;
    }
    expect(checked).toBeGreaterThan(10);
  });

  test("is right about its target patterns", () => {
    const matched = ["db-main", "db-", "db"].filter((name) => matchesTarget(parseTargetPattern("db-*"), name));
    expect(matched).toEqual(["db-main", "db-"]);
  });
});
