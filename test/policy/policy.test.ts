import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PipegateError } from "../../src/base/error.ts";
import type { Identity } from "../../src/identity/identity.ts";
import { connectionLimits, createPolicy, decide, explain, shadows } from "../../src/policy/policy.ts";
import type { Limits, Rule } from "../../src/policy/rule.ts";
import { identityOf } from "../support/identity.ts";

function rule(clients: string[], targets: string[], limits: Limits = {}): Rule {
  return { clients, targets, limits, line: 0 };
}

const bob = identityOf({ uri: "spiffe://dev/agent/bob" });
const runner = identityOf({ dns: ["r1.ci.example"] });
const legacy = identityOf({ cn: "legacy" });
const agents = rule(["spiffe://dev/agent/*"], ["echo", "upper"]);
const databases = rule(["dns:*.ci.example", "cn:legacy"], ["db"]);

describe("a policy", () => {
  test("answers by the first rule that matches both client and target", () => {
    const later = rule(["*"], ["*"]);
    const policy = createPolicy([agents, databases, later]);
    expect(decide(policy, bob, "upper")).toEqual({ allowed: true, rule: agents, index: 0 });
    expect(decide(policy, runner, "db")).toEqual({ allowed: true, rule: databases, index: 1 });
    expect(decide(policy, legacy, "db")).toEqual({ allowed: true, rule: databases, index: 1 });
    expect(decide(policy, bob, "db")).toEqual({ allowed: true, rule: later, index: 2 });
    expect(decide(policy, legacy, "echo").allowed).toBe(false);
  });

  test("refuses what no rule allows, and tells the log which rules came near", () => {
    const decision = decide(createPolicy([agents, databases]), bob, "db");
    expect(decision).toEqual({
      allowed: false,
      reason: "forbidden",
      near: [
        { rule: agents, index: 0, client: "spiffe://dev/agent/*", target: undefined },
        { rule: databases, index: 1, client: undefined, target: "db" },
      ],
    });
  });

  test("names at most eight rules that came near", () => {
    const policy = createPolicy(Array.from({ length: 100 }, () => agents));
    expect(decide(policy, bob, "db")).toMatchObject({ allowed: false, near: { length: 8 } });
  });

  test("without rules refuses everyone and knows no one", () => {
    const policy = createPolicy([]);
    expect(decide(policy, bob, "echo")).toEqual({ allowed: false, reason: "forbidden", near: [] });
    expect(connectionLimits(policy, bob)).toBeUndefined();
    expect(explain(policy, bob, "echo").rules).toEqual([]);
  });

  test("takes the limits of a connection from the first rule that names the client, whatever its targets", () => {
    const policy = createPolicy([databases, agents, rule(["*"], ["other"])]);
    expect(connectionLimits(policy, bob)).toBe(agents);
    expect(connectionLimits(policy, runner)).toBe(databases);
    expect(connectionLimits(policy, identityOf({ cn: "nobody" }))).toBeUndefined();
  });

  test("gives no odd target name to a wildcard", () => {
    const policy = createPolicy([rule(["*"], ["*"])]);
    const odd = ["", "a b", "a\u0000", "../x", "ä", "a\n", "x".repeat(256), "__proto__"];
    expect(odd.filter((name) => decide(policy, bob, name).allowed)).toEqual([]);
    expect(decide(policy, bob, "constructor").allowed).toBe(true);
  });

  test("explains every rule: what decided, what stands in its shadow, what was lacking", () => {
    const shadowed = rule(["*"], ["up*"]);
    const { decision, rules } = explain(createPolicy([databases, agents, shadowed, rule(["cn:x"], ["upper"])]), bob, "upper");
    expect(decision).toMatchObject({ allowed: true, index: 1 });
    expect(rules.map(({ verdict, lacks, client, target }) => ({ verdict, lacks, client, target }))).toEqual([
      { verdict: "lacks", lacks: ["client", "target"], client: undefined, target: undefined },
      { verdict: "decides", lacks: [], client: "spiffe://dev/agent/*", target: "upper" },
      { verdict: "shadowed", lacks: [], client: "*", target: "up*" },
      { verdict: "lacks", lacks: ["client"], client: undefined, target: "upper" },
    ]);
  });

  test("passes over shadow rules: they decide nothing, set no limits, know nobody and come near to nothing", () => {
    const shadow: Rule = { ...rule(["*"], ["*"], { pipes: 1 }), shadow: true };
    const policy = createPolicy([shadow, agents]);
    expect(decide(policy, bob, "upper")).toEqual({ allowed: true, rule: agents, index: 1 });
    expect(connectionLimits(policy, bob)).toBe(agents);
    expect(decide(policy, runner, "db")).toEqual({ allowed: false, reason: "forbidden", near: [] });
    expect(connectionLimits(policy, runner)).toBeUndefined();
    expect(explain(policy, bob, "db").rules).toMatchObject([
      { verdict: "shadow", lacks: [], client: "*", target: "*" },
      { verdict: "lacks", lacks: ["target"] },
    ]);
  });

  test("tells the shadow rules that would have answered: those before the rule that answers, or any when none does", () => {
    const [first, second, other]: Rule[] = [
      { ...rule(["*"], ["db", "upper"]), shadow: true },
      { ...rule(["spiffe://dev/**"], ["*"]), shadow: true },
      { ...rule(["cn:legacy"], ["*"]), shadow: true },
    ];
    const policy = createPolicy([first!, other!, agents, second!]);
    expect(shadows(policy, bob, "upper")).toEqual([first]);
    expect(shadows(policy, bob, "echo")).toEqual([]);
    expect(shadows(policy, bob, "db")).toEqual([first, second]);
    const plain = createPolicy([agents]);
    expect(shadows(plain, bob, "upper")).toBe(shadows(plain, runner, "db")); // nothing is made where there are none
  });

  test.each([
    [rule([], ["a"]), "rule 100 names no clients"],
    [rule(["*"], []), "rule 100 names no targets"],
    [rule(["dns:"], ["a"]), 'rule 100: client pattern "dns:", character 5'],
    [rule(["*"], ["a b"]), 'rule 100: target pattern "a b", character 2'],
    [{ ...rule(["nonsense"], ["a"]), line: 12 }, "rule 100 (line 12): client pattern"],
    [rule(["*"], ["a"], { opens: { perSecond: 0, burst: 1 } }), "limits.opens: the rate"],
    [rule(["*"], ["a"], { bytes: { perSecond: 1, burst: 1.5 } }), "limits.bytes: the burst"],
    [rule(["*"], ["a"], { messages: { perSecond: Number.NaN, burst: 1 } }), "limits.messages: the rate"],
    [rule(["*"], ["a"], { connects: { perSecond: 2 ** 41, burst: 1 } }), "limits.connects: the rate"],
    [rule(["*"], ["a"], { pipes: 0 }), "limits.pipes"],
    [rule(["*"], ["a"], { connections: -1 }), "limits.connections"],
  ])("is not made with one bad rule among 100 (%#)", (bad, message) => {
    const rules = [...Array.from({ length: 99 }, () => agents), bad];
    expect(() => createPolicy(rules)).toThrow(PipegateError);
    expect(() => createPolicy(rules)).toThrow(message);
  });

  test("agrees with a model on random rules, identities and targets", () => {
    // The model knows no patterns: for each pattern it holds the list of those whom it means.
    const people: Record<string, Identity> = {
      bob,
      deep: identityOf({ uri: "spiffe://dev/agent/bob/1", dns: ["r1.ci.example"] }),
      runner,
      legacy,
      both: identityOf({ dns: ["db.example"], cn: "legacy" }),
      pinned: identityOf({ fingerprint: `sha256:${"ab".repeat(32)}` }),
    };
    const clients: Record<string, string[]> = {
      "spiffe://dev/agent/*": ["bob"],
      "spiffe://dev/**": ["bob", "deep"],
      "dns:*.ci.example": ["deep", "runner"],
      "dns:db.example": ["both"],
      "cn:legacy": ["legacy", "both"],
      [`sha256:${"AB".repeat(32)}`]: ["pinned"],
      "*": ["bob", "deep", "runner", "both"],
    };
    const targets: Record<string, string[]> = {
      db: ["db"],
      "db*": ["db", "db-1"],
      "*1": ["db-1"],
      echo: ["echo"],
      "*": ["db", "db-1", "echo"],
    };
    const anyRule = fc.record({
      clients: fc.subarray(Object.keys(clients), { minLength: 1 }),
      targets: fc.subarray(Object.keys(targets), { minLength: 1 }),
      limits: fc.constant({}),
      line: fc.constant(0),
      shadow: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(anyRule, { maxLength: 6 }),
        fc.constantFrom(...Object.keys(people)),
        fc.constantFrom("db", "db-1", "echo", "no such"),
        (rules, who, target) => {
          const identity = people[who]!;
          const names = (given: Rule): boolean => given.clients.some((pattern) => clients[pattern]!.includes(who));
          const fits = (given: Rule): boolean => names(given) && given.targets.some((pattern) => targets[pattern]!.includes(target));
          const index = rules.findIndex((given) => !given.shadow && fits(given));
          const policy = createPolicy(rules);
          const decision = decide(policy, identity, target);
          expect(decision.allowed ? decision.index : -1).toBe(index);
          expect(connectionLimits(policy, identity)).toBe(rules.find((given) => !given.shadow && names(given)));
          const before = index < 0 ? rules : rules.slice(0, index);
          expect(shadows(policy, identity, target)).toEqual(before.filter((given) => given.shadow && fits(given)));
          // Without its shadow rules a policy gives the same answers, with the same rule.
          const bare = decide(createPolicy(rules.filter(({ shadow }) => !shadow)), identity, target);
          expect(bare.allowed && bare.rule).toBe(decision.allowed && decision.rule);
          const explained = explain(policy, identity, target);
          expect(explained.decision).toEqual(decision);
          expect(explained.rules.findIndex((finding) => finding.verdict === "decides")).toBe(index);
          expect(explained.rules.findIndex((finding) => finding.verdict !== "shadow" && finding.lacks.length === 0)).toBe(index);
          expect(explained.rules.map(({ verdict }) => verdict === "shadow")).toEqual(rules.map(({ shadow }) => shadow));
        },
      ),
      { numRuns: 2000 },
    );
  });
});
