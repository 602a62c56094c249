/**
 * Rules to decisions: who may reach which target, and by which rule. The first rule that matches both answers; none: refused.
 * Promises: pure, and the same answer for the same values at an OPEN, in a sweep over live pipes and in `pipegate explain`; a shadow rule
 * changes no answer. The cost is linear in the rules. Leaves to others: whether the target exists, and the limits of the rule (limiter.ts).
 */
import { PipegateError } from "../base/error.ts";
import type { Identity } from "../identity/identity.ts";
import { type ClientPattern, matchesClient, matchesTarget, parseClientPattern, parseTargetPattern, type TargetPattern } from "./pattern.ts";
import type { Limits, Rate, Rule } from "./rule.ts";

interface CompiledRule {
  readonly rule: Rule;
  readonly clients: readonly ClientPattern[];
  readonly targets: readonly TargetPattern[];
}

/** Made by createPolicy; only this file looks into it. */
export interface Policy {
  readonly compiled: readonly CompiledRule[];
  /** Places of the shadow rules. */
  readonly shadows: readonly number[];
}

/** What one rule says of one identity and target. */
export interface RuleFinding {
  readonly rule: Rule;
  /** Where the rule stands, 0 for the first. */
  readonly index: number;
  /** The first client pattern that matched; undefined: none did. */
  readonly client: string | undefined;
  /** The first target pattern that matched; undefined: none did. */
  readonly target: string | undefined;
}

export type Decision =
  | { readonly allowed: true; readonly rule: Rule; readonly index: number }
  | {
      readonly allowed: false;
      readonly reason: "forbidden";
      /** Rules that lacked only one of the two, in order; the first eight. For the log, never for the peer. */
      readonly near: readonly RuleFinding[];
    };

export interface Explanation {
  readonly decision: Decision;
  /** Every rule in order, also those behind the one that answered. */
  readonly rules: readonly (RuleFinding & {
    /**
     * `decides`: this rule answered; `shadowed`: it matches too, but one before it answered; `lacks`: it does not match; `shadow`: it is
     * a shadow rule, which decides nothing.
     */
    readonly verdict: "decides" | "shadowed" | "lacks" | "shadow";
    /** What did not match; empty when everything did. */
    readonly lacks: readonly ("client" | "target")[];
  })[];
}

/** Rates and bursts end here, so that buckets count exactly. */
export const maxUnits: number = 2 ** 40;
const NEAR = 8;

/** Throws PipegateError `config` for a pattern, rate or cap that is not understood, naming the rule. No rules: everyone is refused. */
export function createPolicy(rules: readonly Rule[]): Policy {
  return {
    compiled: rules.map((rule, index) => compile(rule, index)),
    shadows: rules.flatMap(({ shadow }, index) => (shadow === true ? [index] : [])),
  };
}

function compile(rule: Rule, index: number): CompiledRule {
  const place = `rule ${index + 1}${rule.line > 0 ? ` (line ${rule.line})` : ""}`;
  if (rule.clients.length === 0) throw new PipegateError("config", `${place} names no clients`, { next: "name some, or remove the rule" });
  if (rule.targets.length === 0) throw new PipegateError("config", `${place} names no targets`, { next: "name some, or remove the rule" });
  try {
    checkLimits(rule.limits);
    return { rule, clients: rule.clients.map(parseClientPattern), targets: rule.targets.map(parseTargetPattern) };
  } catch (error) {
    if (!(error instanceof PipegateError)) throw error;
    throw new PipegateError("config", `${place}: ${error.message}`, error.next === undefined ? {} : { next: error.next });
  }
}

function checkLimits(limits: Limits): void {
  for (const name of ["connects", "opens", "messages", "bytes"] as const) {
    const rate: Rate | undefined = limits[name];
    if (rate === undefined) continue;
    checkUnits(rate.perSecond, `limits.${name}: the rate`);
    checkUnits(rate.burst, `limits.${name}: the burst`);
  }
  if (limits.pipes !== undefined) checkUnits(limits.pipes, "limits.pipes");
  if (limits.connections !== undefined) checkUnits(limits.connections, "limits.connections");
}

function checkUnits(units: number, name: string): void {
  if (Number.isInteger(units) && units >= 1 && units <= maxUnits) return;
  throw new PipegateError("config", `${name} is not a whole number from 1 to ${maxUnits}`, { next: "to allow none, remove the rule" });
}

function firstClient(compiled: CompiledRule, identity: Identity): ClientPattern | undefined {
  return compiled.clients.find((pattern) => matchesClient(pattern, identity));
}

function firstTarget(compiled: CompiledRule, target: string): TargetPattern | undefined {
  return compiled.targets.find((pattern) => matchesTarget(pattern, target));
}

function matches(compiled: CompiledRule, { identity, target }: { readonly identity: Identity; readonly target: string }): boolean {
  return firstTarget(compiled, target) !== undefined && firstClient(compiled, identity) !== undefined;
}

export function decide(policy: Policy, identity: Identity, target: string): Decision {
  for (let index = 0; index < policy.compiled.length; index++) {
    const compiled = policy.compiled[index] as CompiledRule;
    if (compiled.rule.shadow === true || !matches(compiled, { identity, target })) continue;
    return { allowed: true, rule: compiled.rule, index };
  }
  return { allowed: false, reason: "forbidden", near: nearly(policy, { identity, target }) };
}

function nearly(policy: Policy, { identity, target }: { readonly identity: Identity; readonly target: string }): RuleFinding[] {
  const near: RuleFinding[] = [];
  for (let index = 0; index < policy.compiled.length && near.length < NEAR; index++) {
    const finding = find(policy, { identity, target, index });
    if (finding.rule.shadow !== true && (finding.client !== undefined || finding.target !== undefined)) near.push(finding);
  }
  return near;
}

const none: readonly Rule[] = [];

/** The shadow rules that would have answered, had they been rules: those that match and stand before the rule that answers, if one does. */
export function shadows(policy: Policy, identity: Identity, target: string): readonly Rule[] {
  if (policy.shadows.length === 0) return none;
  const decision = decide(policy, identity, target);
  const end = decision.allowed ? decision.index : policy.compiled.length;
  return policy.shadows.flatMap((index) => {
    const compiled = policy.compiled[index] as CompiledRule;
    return index < end && matches(compiled, { identity, target }) ? [compiled.rule] : [];
  });
}

/** The shadow rules that know this identity, whatever the target. */
export function knowingShadows(policy: Policy, identity: Identity): readonly Rule[] {
  return policy.shadows.flatMap((index) => {
    const compiled = policy.compiled[index] as CompiledRule;
    return firstClient(compiled, identity) === undefined ? [] : [compiled.rule];
  });
}

interface Question {
  readonly identity: Identity;
  readonly target: string;
  readonly index: number;
}

function find(policy: Policy, { identity, target, index }: Question): RuleFinding {
  const compiled = policy.compiled[index] as CompiledRule;
  return { rule: compiled.rule, index, client: firstClient(compiled, identity)?.text, target: firstTarget(compiled, target)?.text };
}

/**
 * The rule whose `connects` and `connections` hold for the connections of this identity: the first whose clients match, whatever
 * its targets, because no target is known yet when a connection comes. Undefined: no rule names it, and no OPEN can ever succeed.
 */
export function connectionLimits(policy: Policy, identity: Identity): Rule | undefined {
  return policy.compiled.find((compiled) => compiled.rule.shadow !== true && firstClient(compiled, identity) !== undefined)?.rule;
}

/** What `decide` answers, and what each rule had to say. */
export function explain(policy: Policy, identity: Identity, target: string): Explanation {
  const decision = decide(policy, identity, target);
  const rules = policy.compiled.map((_, index) => {
    const finding = find(policy, { identity, target, index });
    const lacks: ("client" | "target")[] = [];
    if (finding.client === undefined) lacks.push("client");
    if (finding.target === undefined) lacks.push("target");
    const decides = decision.allowed && decision.index === index;
    return { ...finding, lacks, verdict: verdictOf(finding.rule, { fits: lacks.length === 0, decides }) };
  });
  return { decision, rules };
}

function verdictOf(
  { shadow }: Rule,
  { fits, decides }: { readonly fits: boolean; readonly decides: boolean },
): Explanation["rules"][number]["verdict"] {
  if (shadow === true) return "shadow";
  if (!fits) return "lacks";
  return decides ? "decides" : "shadowed";
}
