import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PipegateError } from "../../src/base/error.ts";
import { isTargetName, matchesClient, matchesTarget, parseClientPattern, parseTargetPattern } from "../../src/policy/pattern.ts";
import { identityOf } from "../support/identity.ts";

const hex = "ab12".repeat(16);
const pairs = hex.toUpperCase().match(/../g)!.join(":");

function faultOf(act: () => unknown): PipegateError {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(PipegateError);
    return error as PipegateError;
  }
  throw new Error("nothing was refused");
}

describe("a client pattern", () => {
  test.each([
    ["spiffe://dev/agent/*", "spiffe://dev/agent/bob", true],
    ["spiffe://dev/agent/*", "spiffe://dev/agent", false],
    ["spiffe://dev/agent/*", "spiffe://dev/agent/", false],
    ["spiffe://dev/agent/*", "spiffe://dev/agent/bob/laptop", false],
    ["spiffe://dev/agent/*", "spiffe://dev/agent/bob/", false],
    ["spiffe://dev/agent/*", "spiffe://dev/agents/bob", false],
    ["spiffe://dev/agent/*", "spiffe://device/agent/bob", false],
    ["spiffe://dev/agent/*", "spiffe://dev/agent/..", false],
    ["spiffe://dev/agent/*", "spiffe://dev/agent/.", false],
    ["spiffe://dev/agent/*", "spiffe://dev/agent/%2e", false],
    ["spiffe://dev/agent/*", "spiffe://dev/agent/bob?x", false],
    ["spiffe://dev/agent/*", "spiffe://dev/agent/*", false],
    ["spiffe://dev/agent/*", "spiffe://dev/Agent/bob", false],
    ["spiffe://dev/agent/*", "https://dev/agent/bob", false],
    ["spiffe://dev/*/db", "spiffe://dev/a/db", true],
    ["spiffe://dev/*/db", "spiffe://dev/a/b/db", false],
    ["spiffe://dev/*/*", "spiffe://dev/a/b", true],
    ["spiffe://dev/agent/**", "spiffe://dev/agent/bob", true],
    ["spiffe://dev/agent/**", "spiffe://dev/agent/bob/laptop/1", true],
    ["spiffe://dev/agent/**", "spiffe://dev/agent", false],
    ["spiffe://dev/agent/**", "spiffe://dev/agent/", false],
    ["spiffe://dev/agent/**", "spiffe://dev/agent/a//b", false],
    ["spiffe://dev/agent/**", "spiffe://dev/agent/a/../../admin", false],
    ["spiffe://dev/agent/**", "spiffe://dev/agentx/a", false],
    ["spiffe://dev/**", "spiffe://dev/a", true],
    ["spiffe://dev/**", "spiffe://dev", false],
    ["spiffe://dev/**", "spiffe://dev.evil/a", false],
    ["spiffe://dev", "spiffe://dev", true],
    ["spiffe://dev", "spiffe://dev/a", false],
    ["spiffe://dev/a.b", "spiffe://dev/a.b", true],
    ["spiffe://dev/a.b", "spiffe://dev/aXb", false],
    ["spiffe://dev/__proto__", "spiffe://dev/__proto__", true],
  ])("%s against the URI %s: %s", (pattern, uri, matches) => {
    expect(matchesClient(parseClientPattern(pattern), identityOf({ uri }))).toBe(matches);
  });

  test.each([
    ["dns:*.ci.example", "runner.ci.example", true],
    ["dns:*.CI.Example", "runner.ci.example", true],
    ["dns:*.ci.example", "ci.example", false],
    ["dns:*.ci.example", "a.b.ci.example", false],
    ["dns:*.ci.example", ".ci.example", false],
    ["dns:*.ci.example", "*.ci.example", false],
    ["dns:*.ci.example", "evilci.example", false],
    ["dns:*.ci.example", "runner.ci.example.", false],
    ["dns:*.ci.example", "runnerxci.example", false],
    ["dns:db.example", "db.example", true],
    ["dns:DB.example", "db.example", true],
    ["dns:db.example", "x.db.example", false],
    ["dns:db", "db", true],
    ["dns:*.example", "a_b.example", true],
  ])("%s against the DNS name %s: %s", (pattern, name, matches) => {
    expect(matchesClient(parseClientPattern(pattern), identityOf({ dns: ["other.example.org", name] }))).toBe(matches);
  });

  test.each([`sha256:${hex}`, `sha256:${hex.toUpperCase()}`, `sha256:${pairs}`, `sha256:${pairs.toLowerCase()}`])(
    "%s means that certificate",
    (text) => {
      const pattern = parseClientPattern(text);
      expect(matchesClient(pattern, identityOf({ fingerprint: `sha256:${hex}` }))).toBe(true);
      expect(matchesClient(pattern, identityOf({ fingerprint: `sha256:${hex.replace("a", "b")}` }))).toBe(false);
    },
  );

  test.each([
    ["cn:legacy", "legacy", true],
    ["cn:legacy", "Legacy", false],
    ["cn:legacy", "legacy2", false],
    ["cn:Build Server 7", "Build Server 7", true],
    ["cn:dns:x", "dns:x", true],
    ["cn:Jürgen", "Jürgen", true],
  ])("%s against the common name %s: %s", (pattern, cn, matches) => {
    expect(matchesClient(parseClientPattern(pattern), identityOf({ cn }))).toBe(matches);
  });

  test("looks at a common name only as cn:", () => {
    const identity = identityOf({ cn: "a.example" });
    const others = ["*", "dns:a.example", "dns:*.example", "spiffe://a.example", `sha256:${hex}`];
    expect(others.filter((text) => matchesClient(parseClientPattern(text), identity))).toEqual([]);
    expect(matchesClient(parseClientPattern("cn:a.example"), identityOf({ uri: "spiffe://dev/a", dns: ["a.example"] }))).toBe(false);
  });

  test("* means everyone with a URI or a DNS name", () => {
    const any = parseClientPattern("*");
    expect(matchesClient(any, identityOf({ uri: "spiffe://dev/a" }))).toBe(true);
    expect(matchesClient(any, identityOf({ dns: ["a.example"] }))).toBe(true);
    expect(matchesClient(any, identityOf({}))).toBe(false);
  });

  test.each([
    ["", 1, "write spiffe://"],
    ["any", 1, "write *"],
    ["**", 1, "write *"],
    ["*.ci.example", 1, "write dns:*.ci.example"],
    ["DNS:a.example", 1, "write dns: in lower case"],
    ["spiffe:/dev/a", 1, "two slashes"],
    ["SPIFFE://dev/a", 1, "lower case"],
    [hex, 1, `write sha256:${hex}`],
    ["ip:10.0.0.1", 1, "write spiffe://"],
    [" spiffe://dev/a", 1, "write spiffe://"],
    ["spiffe://", 10, "write spiffe://domain/path"],
    ["spiffe:///a", 10, "write spiffe://domain/path"],
    ["spiffe://*/a", 10, "one pattern for each"],
    ["spiffe://Dev/a", 10, "lower case"],
    ["spiffe://dev:443/a", 13, "use a-z"],
    ["spiffe://dev/", 14, "remove the slash"],
    ["spiffe://dev/a//b", 16, "remove the slash"],
    ["spiffe://dev/a/", 16, "remove the slash"],
    ["spiffe://dev/../a", 14, "write the path out"],
    ["spiffe://dev/ag*", 16, "alone between slashes"],
    ["spiffe://dev/***", 14, "alone between slashes"],
    ["spiffe://dev/**/a", 14, "each single segment"],
    ["spiffe://dev/a?b", 15, "use A-Z"],
    ["spiffe://dev/ä", 14, "use A-Z"],
    ["dns:", 5, "write dns:NAME"],
    ["dns:*", 5, "write dns:*.NAME"],
    ["dns:*.", 7, "write dns:NAME"],
    ["dns:a.*.b", 7, "write dns:*.NAME"],
    ["dns:w*.example", 6, "write dns:*.NAME"],
    ["dns:*.*.example", 7, "write dns:*.NAME"],
    ["dns:a.example.", 14, "last dot"],
    ["dns:a..b", 7, "write dns:NAME"],
    ["dns:-a.example", 5, "letters"],
    ["dns:a.exämple", 7, "xn--"],
    [`dns:${"a".repeat(64)}`, 5, "at most 63"],
    [`dns:${"a.".repeat(130)}a`, 258, "shorten"],
    ["sha256:", 8, "openssl"],
    ["sha256:ab12", 12, "openssl"],
    [`sha256:${hex}0`, 73, "openssl"],
    ["sha256:xy", 8, "64 digits"],
    [`sha256:${pairs}:`, 104, "openssl"],
    [`sha256:${hex.slice(0, 32)}:${hex.slice(32)}`, 10, "64 digits"],
    ["sha256:ab:1:22", 12, "64 digits"],
    ["cn:", 4, "write cn:NAME"],
    ["cn: legacy", 4, "leave it out"],
    ["cn:web*", 7, "one pattern for each name"],
    ["cn:a\\u{7}", 5, "sha256"],
    ["cn:a\u202eb", 4, "visible"],
    [`cn:${"a".repeat(257)}`, 260, "sha256"],
    [`spiffe://dev/${"a".repeat(2048)}`, 2049, "shorter"],
  ])("%s is refused with its place and the mend", (text, position, next) => {
    const fault = faultOf(() => parseClientPattern(text));
    expect(fault.code).toBe("config");
    expect(fault.message).toContain(`character ${position}:`);
    expect(fault.next).toContain(next);
  });

  test("never fails but with a PipegateError, whatever it is made of", () => {
    const piece = fc.constantFrom(
      "spiffe://",
      "dns:",
      "sha256:",
      "cn:",
      "*",
      "**",
      "/",
      ".",
      "..",
      ":",
      "a",
      "B",
      "-",
      "ab",
      "\u0000",
      "ä",
      "\\",
      " ",
    );
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join("")),
    );
    fc.assert(
      fc.property(text, (pattern) => {
        try {
          parseClientPattern(pattern);
        } catch (error) {
          expect(error).toBeInstanceOf(PipegateError);
          expect((error as PipegateError).next).toBeTruthy();
        }
      }),
      { numRuns: 5000 },
    );
  });

  test("agrees with a naive reading of SPIFFE patterns", () => {
    const segment = fc.constantFrom("a", "b", "ab", "a.b", "*");
    const wanted = fc.tuple(fc.array(segment, { maxLength: 5 }), fc.boolean());
    const path = fc.array(fc.constantFrom("a", "b", "ab", "a.b", "", ".", "..", "*", "%"), { maxLength: 6 });
    const plain = (text: string | undefined): boolean => text !== undefined && ["a", "b", "ab", "a.b"].includes(text);
    function naive(pattern: string[], given: string[]): boolean {
      const [head, ...tail] = pattern;
      if (head === undefined) return given.length === 0;
      if (head === "**") return given.length > 0 && given.every(plain);
      return (head === "*" ? plain(given[0]) : given[0] === head) && naive(tail, given.slice(1));
    }
    fc.assert(
      fc.property(wanted, path, ([segments, rest], given) => {
        const pattern = rest ? [...segments, "**"] : segments;
        const parsed = parseClientPattern(["spiffe://dev", ...pattern].join("/"));
        const uri = ["spiffe://dev", ...given].join("/");
        expect(matchesClient(parsed, identityOf({ uri }))).toBe(naive(pattern, given));
      }),
      { numRuns: 5000 },
    );
  });
});

describe("a target pattern", () => {
  test.each([
    ["echo", "echo", true],
    ["echo", "echo2", false],
    ["echo", "Echo", false],
    ["a.c", "abc", false],
    ["*", "anything", true],
    ["*", "", false],
    ["*", "a b", false],
    ["*", "a/b", false],
    ["db-*", "db-1", true],
    ["db-*", "db-", true],
    ["db-*", "db", false],
    ["db-*", "xdb-1", false],
    ["*-db", "a-db", true],
    ["*-db", "a-dbx", false],
    ["a*a", "a", false],
    ["a*a", "aa", true],
    ["a*b*c", "abc", true],
    ["a*b*c", "acb", false],
    ["a*bc*c", "abcc", true],
    ["a*bc*c", "abc", false],
    ["*db*", "xdbx", true],
    ["__proto__", "__proto__", true],
  ])("%s against %j: %s", (pattern, name, matches) => {
    expect(matchesTarget(parseTargetPattern(pattern), name)).toBe(matches);
  });

  test.each([
    ["", 1],
    ["a b", 2],
    ["a/b", 2],
    ["a**", 2],
    ["db?", 3],
    ["[a-z]", 1],
    ["a".repeat(256), 256],
    ["a\u0000", 2],
  ])("%j is refused with its place and the mend", (text, position) => {
    const fault = faultOf(() => parseTargetPattern(text));
    expect(fault.message).toContain(`character ${position}:`);
    expect(fault.next).toBeTruthy();
  });

  test("agrees with a naive reading", () => {
    function naive(pattern: string, name: string): boolean {
      if (pattern === "") return name === "";
      if (pattern[0] === "*") return naive(pattern.slice(1), name) || (name !== "" && naive(pattern, name.slice(1)));
      return pattern[0] === name[0] && naive(pattern.slice(1), name.slice(1));
    }
    const pattern = fc.string({ unit: fc.constantFrom("a", "b", "*"), minLength: 1, maxLength: 8 }).filter((text) => !text.includes("**"));
    fc.assert(
      fc.property(pattern, fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 10 }), (text, name) => {
        expect(matchesTarget(parseTargetPattern(text), name)).toBe(naive(text, name));
      }),
      { numRuns: 10_000 },
    );
  });

  test("costs no more for a pattern made to be slow", () => {
    const targets = parseTargetPattern(`${"a*".repeat(127)}b`);
    const client = parseClientPattern(`spiffe://dev${"/*".repeat(1000)}/b`);
    const uri = `spiffe://dev${"/a".repeat(1001)}`;
    const begin = performance.now();
    for (let turn = 0; turn < 200; turn++) {
      expect(matchesTarget(targets, `${"a".repeat(254)}c`)).toBe(false);
      expect(matchesClient(client, identityOf({ uri }))).toBe(false);
    }
    expect(performance.now() - begin).toBeLessThan(5_000); // backtracking would need longer than the sun has
  });

  test("and a name agree on the alphabet", () => {
    for (const name of ["", "-x", ".x", "_x", "a".repeat(256)]) expect(isTargetName(name)).toBe(false);
    for (const name of ["x", "0", "a-._", "a".repeat(255)]) expect(isTargetName(name)).toBe(true);
    fc.assert(
      fc.property(fc.string({ minLength: 1, maxLength: 5 }), (name) => {
        expect(matchesTarget(parseTargetPattern("*"), name)).toBe(isTargetName(name));
        if (isTargetName(name)) expect(matchesTarget(parseTargetPattern(name), name)).toBe(true);
      }),
    );
  });
});
