/**
 * What a gateway goes by at one moment: config, trust, deny-list, rules and targets, built whole and judged whole before it serves.
 * Promises: a config that cannot be served throws and changes nothing; what a new config leaves as it was is the same object as before,
 * so that its memory (proven chains, targets) stays. Leaves to others: putting it in force (gateway.ts), listeners.
 */
import { PipegateError } from "../base/error.ts";
import type { Config, TrustConfig } from "../config/config.ts";
import { isSameTrust, listsLost, type Trust } from "../identity/trust.ts";
import { createDenyList, type DenyList } from "../policy/deny.ts";
import { createPolicy, type Policy } from "../policy/policy.ts";
import type { Rule } from "../policy/rule.ts";
import type { GatheringBudget } from "../target/gathering.ts";
import { createTarget } from "../target/kinds.ts";
import type { Target } from "../target/target.ts";
import { checkCredentials } from "../tls/credentials.ts";

export interface Snapshot {
  /** 1 for the config of the start. */
  readonly version: number;
  /** Milliseconds since the epoch. */
  readonly loadedAt: number;
  readonly config: Config;
  readonly trust: Trust;
  readonly deny: DenyList;
  readonly policy: Policy;
  readonly targets: ReadonlyMap<string, Target>;
  /** When our own certificate ends, milliseconds since the epoch. */
  readonly ownEnd: number | undefined;
}

export interface SnapshotOptions {
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly budget: GatheringBudget;
  /** The one in force. */
  readonly before: Snapshot | undefined;
}

/** Throws a PipegateError (config). */
export function createSnapshot(config: Config, { now, budget, before }: SnapshotOptions): Snapshot {
  if (before !== undefined) requireLists(before.config, config);
  const targets = Array.from(config.targets, ([name, options]): [string, Target] => {
    const kept = before !== undefined && isSame(before.config.targets.get(name), options) ? before.targets.get(name) : undefined;
    return [name, kept ?? createTarget(name, options, { budget })];
  });
  return {
    version: (before?.version ?? 0) + 1,
    loadedAt: now,
    config,
    trust: before !== undefined && isSameTrust(before.trust, config.trust.built) ? before.trust : config.trust.built,
    deny: before !== undefined && isSame(before.config.trust.deny, config.trust.deny) ? before.deny : createDenyList(config.trust.deny),
    policy: before !== undefined && isSame(before.config.rules, config.rules) ? before.policy : createPolicy(config.rules),
    targets: new Map(targets),
    ownEnd: checkCredentials(config.credentials, { role: "gateway", now }).notAfter,
  };
}

/**
 * A PEM file that is cut between two lists is a whole file with fewer lists. So a CA may lose its list by a config that names fewer files of
 * lists than before, and otherwise only where the config would believe a list of any age.
 */
function requireLists(before: Config, { trust }: Config): void {
  const [lost] = lostBetween(before.trust, trust);
  if (lost === undefined || trust.onExpired === "warn" || trust.crl.length < before.trust.crl.length) return;
  throw new PipegateError("config", `trust.crl holds no revocation list of ${lost} any more, and one is in force: was a file cut?`, {
    next: "put the whole file there; if that CA is to have no list, name one file less in trust.crl, or restart",
  });
}

function lostBetween({ built: before }: TrustConfig, { built: now }: TrustConfig): readonly string[] {
  return listsLost(before, { now, issuers: now.anchors.map(({ certificate }) => certificate) });
}

/** What a config says that deserves a word, and the one before did not say. */
export function oddOf(before: Config, now: Config): string[] {
  return [
    ...now.warnings.filter((warning) => !before.warnings.includes(warning)),
    ...lostBetween(before.trust, now.trust).map((whose) => `trust.crl: no revocation list of ${whose} is in force any more`),
  ];
}

/** Of plain values, as the config is made of. */
export function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** A rule without its line in the file. */
function said(rule: Rule): Omit<Rule, "line"> {
  const { line: _, ...rest } = rule;
  return rest;
}

/** What a snapshot changes against the one before, in words for the log; empty: nothing. */
export function changesOf(before: Snapshot, now: Snapshot): string[] {
  const [old, young] = [before.config, now.config];
  const changes: string[] = [];
  if (before.trust !== now.trust) changes.push("trust");
  if (!isSame(old.trust.deny, young.trust.deny)) changes.push("deny-list");
  if (!isSame(old.credentials, young.credentials)) changes.push("certificate");
  if (before.policy !== now.policy) changes.push(isSame(old.rules.map(said), young.rules.map(said)) ? "rules (lines only)" : "rules");
  const names = new Set([...before.targets.keys(), ...now.targets.keys()]);
  for (const name of names) if (before.targets.get(name) !== now.targets.get(name)) changes.push(`target ${name}`);
  for (const key of ["maxStalenessMs", "onExpired"] as const)
    if (old.trust[key] !== young.trust[key]) changes.push(`trust.${key.replace(/Ms$/, "")}`);
  if (old.maxMessageBytes !== young.maxMessageBytes) changes.push("maxMessage");
  if (!isSame(old.penalties, young.penalties)) changes.push("penalties");
  for (const key of ["admin", "log", "selfTest", "audit", "workers"] as const)
    if (!isSame(old[key], young[key])) changes.push(`${key} (at the next start)`);
  return changes;
}
