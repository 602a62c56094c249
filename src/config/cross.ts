/**
 * What only two places of a config together can get wrong: names that nothing bears, two listeners on one address, rules that can never
 * answer. Promises: looks at a config that is wrong elsewhere, too, so that all errors are told at once; what is merely odd is a warning.
 */
import { normalize } from "node:path";
import type { Identity } from "../identity/identity.ts";
import {
  matchesClient,
  matchesTarget,
  parseClientPattern,
  parseTargetPattern,
  type ClientPattern,
  type TargetPattern,
} from "../policy/pattern.ts";
import { addressText, collide, type SocketAddress } from "../base/address.ts";
import { createSuggest, pathText, type Path } from "./problem.ts";
import { formatRate, formatSize } from "./units.ts";

export interface Finding {
  readonly path: Path;
  readonly says: string;
}

export interface Findings {
  readonly problems: readonly Finding[];
  readonly warnings: readonly Finding[];
}

/** Pairs of patterns that are compared for a warning: enough for hundreds of rules, bounded for thousands. */
const MAX_COMPARED = 1_000_000;
/** What a pipe carries at once, bytes: a smaller burst is overdrawn by each piece. */
const PIECE = 64 << 10;

/** `shape`: what the schema made of the config; where the schema refused something, that is passed over. */
export function crossCheck(shape: unknown): Findings {
  const problems: Finding[] = [];
  const warnings: Finding[] = [];
  const listeners = listOf(at(shape, "listeners"));
  const targets = Object.keys(mapOf(at(shape, "targets")));
  const known = new Set(targets);
  const suggest = createSuggest();
  const named = (path: Path, name: unknown): void => {
    if (typeof name !== "string" || known.has(name)) return;
    const near = suggest(name, known);
    problems.push({
      path,
      says: `there is no target ${JSON.stringify(name)}; ${near ?? (targets.length === 0 ? "name it under targets" : `there are ${some(targets)}`)}`,
    });
  };
  for (const [index, listener] of listeners.entries()) checkListener(listener, { path: ["listeners", index], named, problems });
  checkAddresses(shape, problems);
  if (targets.length === 0 && isMap(at(shape, "targets")))
    problems.push({ path: ["targets"], says: "expected at least one target, such as echo: { builtin: echo }, got an empty map" });
  for (const [name, target] of Object.entries(mapOf(at(shape, "targets")))) checkTarget(target, { path: ["targets", name], problems });
  checkRules(shape, { named, targets, warnings });
  return { problems, warnings };
}

interface ListenerCheck {
  readonly path: Path;
  readonly problems: Finding[];
  named(path: Path, name: unknown): void;
}

function checkListener(listener: unknown, { path, named, problems }: ListenerCheck): void {
  const names = mapOf(at(listener, "serverNames"));
  const target = at(listener, "target");
  named([...path, "target"], target);
  const seen = new Map<string, string>();
  for (const [name, wanted] of Object.entries(names)) {
    named([...path, "serverNames", name], wanted);
    const first = seen.get(name.toLowerCase());
    if (first !== undefined)
      problems.push({ path: [...path, "serverNames", name], says: `the same name as ${first}; capitals do not matter` });
    seen.set(name.toLowerCase(), name);
  }
  const alpn = listOf(at(listener, "alpn"));
  const asked = new Set<unknown>();
  for (const [index, protocol] of alpn.entries()) {
    if (asked.has(protocol)) problems.push({ path: [...path, "alpn", index], says: "it stands here a second time" });
    asked.add(protocol);
  }
  if (alpn.length > 0 && target === undefined && Object.keys(names).length === 0) {
    problems.push({
      path: [...path, "alpn"],
      says: "it says what raw clients may ask for, and this listener has no target for them; add target or serverNames",
    });
  }
}

interface Taken {
  readonly path: Path;
  readonly address: SocketAddress;
  readonly written: SocketAddress;
}

function checkAddresses(shape: unknown, problems: Finding[]): void {
  const taken = new Map<string | number, Taken[]>();
  const take = (path: Path, written: SocketAddress): void => {
    const address = plain(written);
    // Only these can collide: the same path, or the same port.
    const place = address.kind === "unix" ? address.path : address.port;
    const others = taken.get(place) ?? [];
    const other = others.find((one) => collide(one.address, address));
    if (other !== undefined)
      problems.push({ path, says: `${addressText(written)} is taken by ${pathText(other.path)} (${addressText(other.written)})` });
    others.push({ path, address, written });
    taken.set(place, others);
  };
  for (const [index, listener] of listOf(at(shape, "listeners")).entries()) {
    const address = at(listener, "listen");
    if (isMap(address)) take(["listeners", index, "listen"], address as unknown as SocketAddress);
  }
  const admin = at(at(shape, "admin"), "listen");
  if (typeof admin === "string") take(["admin", "listen"], { kind: "unix", path: admin });
}

/** Without detours in a path. */
function plain(address: SocketAddress): SocketAddress {
  return address.kind === "unix" ? { kind: "unix", path: normalize(address.path) } : address;
}

function checkTarget(target: unknown, { path, problems }: { readonly path: Path; readonly problems: Finding[] }): void {
  const [certificate, key] = [at(target, "certificate"), at(target, "key")];
  if (certificate !== undefined && key === undefined)
    problems.push({ path: [...path, "certificate"], says: "a certificate without its key; add key" });
  if (certificate === undefined && key !== undefined)
    problems.push({ path: [...path, "key"], says: "a key without its certificate; add certificate" });
}

interface RuleCheck {
  readonly targets: readonly string[];
  readonly warnings: Finding[];
  named(path: Path, name: unknown): void;
}

interface Patterns {
  readonly path: Path;
  readonly clients: readonly ClientPattern[];
  readonly targets: readonly TargetPattern[];
  /** It answers nobody. */
  readonly shadow: boolean;
}

function checkRules(shape: unknown, { named, targets, warnings }: RuleCheck): void {
  const rules = at(shape, "rules");
  if (Array.isArray(rules) && rules.length === 0) warnings.push({ path: ["rules"], says: "there are no rules, so everyone is refused" });
  const read: Patterns[] = [];
  let left = MAX_COMPARED;
  for (const [index, rule] of listOf(rules).entries()) {
    warnSmallBurst(at(at(rule, "limits"), "bytes"), { path: ["rules", index, "limits", "bytes"], warnings });
    const patterns: TargetPattern[] = [];
    for (const [place, text] of listOf(at(rule, "targets")).entries()) {
      const pattern = attempt(parseTargetPattern, text);
      if (pattern === undefined) continue;
      const path = ["rules", index, "targets", place];
      patterns.push(pattern);
      if (pattern.pieces.length === 1) named(path, text);
      else if ((left -= targets.length) > 0 && !targets.some((name) => matchesTarget(pattern, name)))
        warnings.push({ path, says: `no target fits ${pattern.text}` });
    }
    const clients = listOf(at(rule, "clients")).flatMap((text) => attempt(parseClientPattern, text) ?? []);
    if (clients.length > 0 && patterns.length > 0)
      read.push({ path: ["rules", index], clients, targets: patterns, shadow: at(rule, "shadow") === true });
  }
  if (read.length > 0 && read.every(({ shadow }) => shadow))
    warnings.push({ path: ["rules"], says: "all rules are shadow rules, which decide nothing, so everyone is refused" });
  warnCovered(read, warnings);
  if (read.some(({ shadow }) => !shadow)) warnUnreachable(read, { targets, warnings });
}

/** `rate`: what the schema made of it; anything else is passed over. */
function warnSmallBurst(rate: unknown, { path, warnings }: { readonly path: Path; readonly warnings: Finding[] }): void {
  const [perSecond, burst] = [at(rate, "perSecond"), at(rate, "burst")];
  if (typeof perSecond !== "number" || typeof burst !== "number" || burst >= PIECE) return;
  const mended = formatRate({ perSecond, burst: PIECE }, formatSize);
  warnings.push({
    path,
    says: `pipes carry up to ${formatSize(PIECE)} at once, so a burst of ${formatSize(burst)} comes in jumps; write ${mended}`,
  });
}

function warnUnreachable(
  rules: readonly Patterns[],
  { targets, warnings }: { readonly targets: readonly string[]; readonly warnings: Finding[] },
): void {
  const patterns = rules.flatMap((rule) => (rule.shadow ? [] : rule.targets));
  if (patterns.length * targets.length > MAX_COMPARED) return;
  for (const name of targets) {
    if (!patterns.some((pattern) => matchesTarget(pattern, name)))
      warnings.push({ path: ["targets", name], says: "no rule lets anybody reach it" });
  }
}

/** A rule whose every client and target an earlier rule covers can never answer; shadow rules cover nobody. */
function warnCovered(rules: readonly Patterns[], warnings: Finding[]): void {
  let left = MAX_COMPARED;
  for (const [index, rule] of rules.entries()) {
    const cover = rules.slice(0, index).find((earlier) => {
      if (earlier.shadow) return false;
      left -= earlier.clients.length * rule.clients.length + earlier.targets.length * rule.targets.length;
      return (
        left > 0 &&
        rule.clients.every((one) => earlier.clients.some((other) => coversClient(other, one))) &&
        rule.targets.every((one) => earlier.targets.some((other) => coversTarget(other, one)))
      );
    });
    if (cover !== undefined) {
      const never = rule.shadow ? "this shadow rule will never tell anything" : "it can never answer";
      warnings.push({ path: rule.path, says: `${never}, because ${pathText(cover.path)} matches everything that it matches` });
    }
    if (left <= 0) return;
  }
}

/** Whether everyone whom `one` matches is matched by `other`; a false here may be wrong, a true never is. */
function coversClient(other: ClientPattern, one: ClientPattern): boolean {
  if (other.kind === "any") return one.kind === "any" || one.kind === "spiffe" || one.kind === "dns";
  if (other.kind !== one.kind) return false;
  switch (one.kind) {
    case "spiffe": {
      const exact = !one.rest && !one.segments.includes("*");
      return one.text === other.text || (exact && matchesClient(other, nobody({ uri: one.text })));
    }
    case "dns": {
      const same = other.kind === "dns" && other.name === one.name && other.wildcard === one.wildcard;
      return same || (!one.wildcard && matchesClient(other, nobody({ dns: [one.name] })));
    }
    case "sha256":
      return other.kind === "sha256" && other.fingerprint === one.fingerprint;
    default:
      return one.text === other.text;
  }
}

function coversTarget(other: TargetPattern, one: TargetPattern): boolean {
  return other.text === "*" || other.text === one.text || (one.pieces.length === 1 && matchesTarget(other, one.text));
}

/** An identity that has only these names. */
function nobody(names: Partial<Identity>): Identity {
  return {
    principal: "",
    uri: undefined,
    dns: [],
    cn: undefined,
    fingerprint: "",
    twin: undefined,
    serial: "",
    issuer: "",
    notBefore: 0,
    notAfter: 0,
    ...names,
  };
}

function attempt<T>(parse: (text: string) => T, text: unknown): T | undefined {
  if (typeof text !== "string") return undefined;
  try {
    return parse(text);
  } catch {
    return undefined; // the schema has told
  }
}

function some(names: readonly string[]): string {
  return names.length > 8 ? `${names.slice(0, 8).join(", ")} and ${names.length - 8} more` : names.join(", ");
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function mapOf(value: unknown): Readonly<Record<string, unknown>> {
  return isMap(value) ? value : {};
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function at(value: unknown, key: string): unknown {
  return isMap(value) && Object.hasOwn(value, key) ? (value[key] ?? undefined) : undefined;
}
