/**
 * What a gateway would say to a certificate that asks for a target, and why: what the guard thinks of each part of it, which rule answers,
 * on which line, what the ones before lacked, which limits would apply. Promises: asking changes nothing, also not what the guard remembers
 * of chains that were proven; by the same guard, deny-list and policy as at the door; the same answer offline and from a running gateway,
 * which may have proven more of the chain before; nothing but plain values, for JSON. The chain is the one that is shown: an intermediate
 * that only OpenSSL knows is not. Leaves to others: reading files (cli/), what is in force (gateway.ts).
 */
import { Buffer } from "node:buffer";
import { PipegateError } from "./base/error.ts";
import { explanations, type Reason } from "./base/reason.ts";
import { nearest } from "./config/problem.ts";
import { formatRate, formatSize } from "./config/units.ts";
import { examine, type Step } from "./identity/examine.ts";
import type { Identity } from "./identity/identity.ts";
import { judge, type Trust, type Verdict } from "./identity/judge.ts";
import { denial, type DenyList } from "./policy/deny.ts";
import { connectionLimits, explain, type Explanation, type Policy } from "./policy/policy.ts";
import type { Limits, Rule } from "./policy/rule.ts";

export interface ExplainRequest {
  /** DER, leaf first. */
  readonly certificates: readonly Uint8Array[];
  readonly target: string;
}

/** Who can be asked. Never throws. */
export interface Explainable {
  explain(request: ExplainRequest): ExplainAnswer;
}

/** What is judged by. */
export interface ExplainGround {
  readonly trust: Trust;
  readonly deny: DenyList;
  readonly policy: Policy;
  readonly targets: readonly string[];
  /** Of the config, as it was named; undefined: it came from no file. */
  readonly file: string | undefined;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface RuleTold {
  /** 1 for the first. */
  readonly rule: number;
  /** In the config file; 0: it came from no file. */
  readonly line: number;
  readonly verdict: "decides" | "lacks" | "shadow";
  readonly lacks: readonly ("client" | "target")[];
  /** The patterns that matched. */
  readonly client: string | undefined;
  readonly target: string | undefined;
  readonly says: string;
}

export interface ExplainAnswer {
  readonly allowed: boolean;
  readonly reason: Reason | undefined;
  /** What the guard says in the end. */
  readonly certificate: { readonly ok: true; readonly identity: Identity } | Extract<Verdict, { readonly ok: false }>;
  /** What the guard looked at, in order. */
  readonly steps: readonly Step[];
  readonly target: string;
  readonly config: string | undefined;
  /** Those before the one that answers, and that one; without one, all. Empty where nobody is known. */
  readonly rules: readonly RuleTold[];
  /** Of the rule that answers, for pipes; of the first that knows the client, for connections. */
  readonly limits: Limits | undefined;
  /** The end of it, in sentences. */
  readonly answer: readonly string[];
}

const LONGEST_TARGET = 1_024;

/** The body of a request to the admin socket. */
export function explainBody({ certificates, target }: ExplainRequest): string {
  return JSON.stringify({ certificates: certificates.map((der) => Buffer.from(der).toString("base64")), target });
}

/** Throws a PipegateError `usage`. */
export function readExplainBody(body: string): ExplainRequest {
  const wrong = (): PipegateError =>
    new PipegateError("usage", "the body is not a question", {
      next: 'send {"certificates":["BASE64 OF DER, LEAF FIRST"],"target":"NAME"}',
    });
  let read: unknown;
  try {
    read = JSON.parse(body);
  } catch {
    throw wrong();
  }
  if (typeof read !== "object" || read === null) throw wrong();
  const { certificates, target } = read as { readonly certificates?: unknown; readonly target?: unknown };
  if (typeof target !== "string" || target.length > LONGEST_TARGET || !Array.isArray(certificates)) throw wrong();
  return {
    target,
    certificates: certificates.map((text: unknown) => {
      if (typeof text !== "string" || !/^[A-Za-z0-9+/]+={0,2}$/u.test(text)) throw wrong();
      return Buffer.from(text, "base64");
    }),
  };
}

/** Never throws. */
export function explainTo({ certificates, target }: ExplainRequest, ground: ExplainGround): ExplainAnswer {
  const { trust, now, file } = ground;
  const verdict = judge(certificates, trust, { now, verifiedByRuntime: false, remembers: false });
  const steps = examine(certificates, { trust, now }).map((step) => (verdict.ok && step.result === "fails" ? provenBefore(step) : step));
  const certificate = verdict.ok ? { ok: true as const, identity: verdict.identity } : verdict;
  const told = { certificate, target, config: file };
  if (!verdict.ok) return { ...told, ...refused(verdict.reason, { rules: [], why: [] }), steps: [...steps, unlisted] };
  const { identity } = verdict;
  const denied = denial(ground.deny, identity);
  const listed: Step =
    denied === undefined
      ? { step: "deny-list", result: "holds", says: "no entry of trust.deny names it" }
      : { step: "deny-list", result: "fails", says: `trust.deny names ${denied}` };
  const all = [...steps, listed];
  if (denied !== undefined)
    return {
      ...told,
      ...refused("revoked", { rules: [], why: [`trust.deny names ${denied}: it is turned away at the door`] }),
      steps: all,
    };
  return { ...told, ...askRules({ identity, target }, ground), steps: all };
}

/** A chain that is shown without its intermediates is believed where a whole one was proven: so it is at the door. */
function provenBefore({ step, says }: Step): Step {
  return { step, result: "open", says: `${says}; but with more of its chain it was proven before` };
}

const unlisted: Step = { step: "deny-list", result: "open", says: "not looked at: it is not believed anyway" };

type Outcome = Pick<ExplainAnswer, "allowed" | "reason" | "rules" | "limits" | "answer">;

function refused(reason: Reason, { rules, why }: { readonly rules: readonly RuleTold[]; readonly why: readonly string[] }): Outcome {
  // What a client is told of a missing rule sends its reader here: no use to whoever asks here.
  const next = reason === "forbidden" ? "to let it, add a rule that names both" : explanations[reason].next;
  return { allowed: false, reason, rules, limits: undefined, answer: [...why, `refused: ${reason}; ${next}`] };
}

interface Question {
  readonly identity: Identity;
  readonly target: string;
}

function askRules({ identity, target }: Question, ground: ExplainGround): Outcome {
  const { policy, targets } = ground;
  const explanation = explain(policy, identity, target);
  const rules = tellRules(explanation, { identity, target, file: ground.file });
  const first = connectionLimits(policy, identity);
  const { principal } = identity;
  if (first === undefined) {
    return refused("forbidden", { rules, why: [`no rule knows ${principal}: it is turned away at the door, whatever it asks for`] });
  }
  if (!targets.includes(target)) {
    const near = nearest(target, targets);
    return refused("unknown_target", { rules, why: [`there is no target ${target}${near === undefined ? "" : `; did you mean ${near}`}`] });
  }
  const { decision } = explanation;
  if (!decision.allowed) return refused("forbidden", { rules, why: [`no rule lets ${principal} reach ${target}`] });
  const { rule, index } = decision;
  const where = (of: Rule): string => place(of, { index: of === rule ? index : indexOf(explanation, of), file: ground.file });
  const { connects: _, connections: __, ...ofPipes } = rule.limits;
  const { connects, connections } = first.limits;
  const ofConnections: Limits = { ...(connects === undefined ? {} : { connects }), ...(connections === undefined ? {} : { connections }) };
  const answer = [
    `allowed by ${where(rule)}`,
    `  its pipes: ${limitsText(ofPipes)}`,
    `  its connections: ${limitsText(ofConnections)}${first === rule ? "" : `, by ${where(first)}, the first that knows the client`}`,
  ];
  return { allowed: true, reason: undefined, rules, limits: { ...ofPipes, ...ofConnections }, answer };
}

function indexOf({ rules }: Explanation, rule: Rule): number {
  return rules.findIndex((finding) => finding.rule === rule);
}

function place(rule: Rule, { index, file }: { readonly index: number; readonly file: string | undefined }): string {
  if (rule.line === 0) return `rule ${index + 1}`;
  return `rule ${index + 1} (${file === undefined ? `line ${rule.line}` : `${file}:${rule.line}`})`;
}

interface TellOptions extends Question {
  readonly file: string | undefined;
}

function tellRules({ decision, rules }: Explanation, { identity, target, file }: TellOptions): RuleTold[] {
  const upTo = decision.allowed ? decision.index + 1 : rules.length;
  return rules.slice(0, upTo).map(({ rule, index, lacks, client, target: fits }) => {
    const shadow = rule.shadow === true;
    const without = [
      ...(lacks.includes("client") ? [`not this client: ${some(rule.clients)}`] : []),
      ...(lacks.includes("target") ? [`not ${target}: ${some(rule.targets)}`] : []),
    ];
    const why = lacks.length === 0 ? `${client} is ${identity.principal}, ${fits} is ${target}` : without.join("; ");
    const says = `${place(rule, { index, file })}: ${doing({ fits: lacks.length === 0, shadow })}; ${why}`;
    const verdict = shadow ? "shadow" : lacks.length === 0 ? "decides" : "lacks";
    return { rule: index + 1, line: rule.line, verdict, lacks, client, target: fits, says };
  });
}

function doing({ fits, shadow }: { readonly fits: boolean; readonly shadow: boolean }): string {
  if (shadow) return fits ? "shadow, decides nothing, would answer" : "shadow, decides nothing, and would be passed over";
  return fits ? "answers" : "passed over";
}

function some(patterns: readonly string[]): string {
  return patterns.length > 6 ? `${patterns.slice(0, 6).join(", ")} and ${patterns.length - 6} more` : patterns.join(", ");
}

function limitsText(limits: Limits): string {
  const parts: string[] = [];
  for (const name of ["connects", "opens", "messages"] as const) {
    const rate = limits[name];
    if (rate !== undefined) parts.push(`${name} ${formatRate(rate)}`);
  }
  if (limits.bytes !== undefined) parts.push(`bytes ${formatRate(limits.bytes, formatSize)} each way`);
  for (const name of ["pipes", "connections"] as const) {
    const cap = limits[name];
    if (cap !== undefined) parts.push(`at most ${cap} ${name}`);
  }
  return parts.length === 0 ? "no limits" : parts.join(", ");
}
