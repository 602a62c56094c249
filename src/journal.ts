/**
 * What a gateway says of its doings: one log line and one count for a connection's open and close, a pipe's open and close, a refusal.
 * Promises: each is said once; refusals are capped at a rate, with the number that was left out; field names are the same everywhere.
 */
import type { Audit } from "./audit/audit.ts";
import type { Break } from "./base/channel.ts";
import type { Clock, Timer } from "./base/clock.ts";
import { unthrowing, type LogFields, type Logger } from "./base/log.ts";
import type { Reason } from "./base/reason.ts";
import { printable } from "./base/text.ts";
import { nameText, type Certificate } from "./identity/certificate.ts";
import type { Identity } from "./identity/identity.ts";
import type { Metrics } from "./metrics.ts";
import type { PipeEntry } from "./pipe/registry.ts";
import type { Holder } from "./policy/holder.ts";
import type { Decision } from "./policy/policy.ts";
import type { Rule } from "./policy/rule.ts";

export interface Refusal {
  readonly reason: Reason;
  readonly detail?: string | undefined;
  readonly connection?: string | undefined;
  readonly source?: string | undefined;
  readonly identity?: Pick<Identity, "principal" | "fingerprint" | "serial"> | undefined;
  readonly fingerprint?: string | undefined;
  readonly target?: string | undefined;
  readonly serverName?: string | undefined;
}

export interface ConnectionFacts {
  readonly id: string;
  readonly source: string;
  /** Of its certificate; made anew when another path proves the same certificate (another end of its chain). */
  identity: Identity;
  /** Of its limits: the principal does not change with the path. */
  readonly holder: Holder;
  readonly protocol: string;
  /** The rule whose connection limits it is under; another one after a reload, for what is asked for from then on. */
  rule: Rule;
}

/** Refusal lines that may be written at once, and then each second. */
const REFUSAL_BURST = 100;
const REFUSALS_PER_MS = 20 / 1000;

const STALE_REPEAT_MS = 3_600_000;
const SHADOW_REPEAT_MS = 60_000;
/** In that time. */
const MAX_SHADOWS = 1_000;
/** Refusals that were left out are told after this time at the latest. */
const SUPPRESSED_MS = 10_000;

export interface ShadowFacts {
  readonly connection: string;
  readonly identity: Identity;
  readonly target?: string;
  /** What was decided instead; absent: nothing at all, at the door. */
  readonly decision?: Decision;
}

export class Journal {
  /** Gets a line at each open and close of a pipe and each refusal that is logged. */
  audit: Audit | undefined;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #clock: Clock;
  #tokens = REFUSAL_BURST;
  #at: number;
  #suppressed = 0;
  #troubledAt = -1_000;
  readonly #stale = new Map<string, number>();
  readonly #shadows = new Set<string>();
  #shadowsSince = 0;
  #untold: Timer | undefined;
  readonly #turnedAwayAt = new Map<Reason, number>();

  constructor(logger: Logger, { metrics, clock }: { readonly metrics: Metrics; readonly clock: Clock }) {
    this.#logger = unthrowing(logger);
    this.#metrics = metrics;
    this.#clock = clock;
    this.#at = clock.now();
  }

  /** The audit log cannot be written: what follows is the config's. */
  auditTroubled(detail: string): void {
    this.#logger.error("audit log failing", { detail });
  }

  auditWell(): void {
    this.#logger.info("audit log written again");
  }

  connectionOpen(connection: ConnectionFacts): void {
    this.#metrics.connections++;
    this.#metrics.connectionsTotal++;
    this.#logger.debug("connection open", connectionFields(connection)); // its line comes when it closes; until then `status` shows it
  }

  connectionClose(
    connection: ConnectionFacts,
    end: { readonly openedAt: number; readonly pipes: number; readonly broken: Break | undefined },
  ): void {
    this.#metrics.connections--;
    this.#logger.info("connection close", {
      ...connectionFields(connection),
      pipes: end.pipes,
      durationMs: Math.round(this.#clock.now() - end.openedAt),
      ...ended(end.broken),
    });
  }

  pipeOpen(entry: PipeEntry): void {
    this.#metrics.pipeOpened(entry.target);
    const fields = { ...pipeFields(entry), rule: entry.rule };
    this.#logger.info("pipe open", fields);
    this.audit?.record({ event: "pipe open", ...fields, ...proofFields(entry) });
  }

  pipeClose(entry: PipeEntry, broken: Break | undefined): void {
    const { inbound, outbound } = entry.pipe;
    const flow = { bytesIn: inbound.bytes, bytesOut: outbound.bytes, messagesIn: inbound.messages, messagesOut: outbound.messages };
    this.#metrics.pipeClosed(entry.target, { flow, reason: broken?.reason ?? "done" });
    const fields = { ...pipeFields(entry), ...flow, durationMs: Math.max(0, this.#clock.wall() - entry.openedAt), ...ended(broken) };
    this.#logger.info("pipe close", fields);
    this.audit?.record({ event: "pipe close", ...fields, ...proofFields(entry), rule: entry.rule });
  }

  /** A listener cannot accept just now (no descriptors left): said once a second at most. */
  troubled(error: Error): void {
    const now = this.#clock.now();
    if (now - this.#troubledAt < 1_000) return;
    this.#troubledAt = now;
    this.#logger.error("accepting failed", { detail: error.message });
  }

  /** A shadow rule that would have answered: once a minute for a rule, an identity and a target. Without a target: at the door. */
  shadow(rule: Rule, what: ShadowFacts): void {
    const { identity, target, decision } = what;
    const now = this.#clock.now();
    const key = JSON.stringify([rule.line, rule.clients, rule.targets, identity.fingerprint, target]); // rules of programs have no line
    if (now - this.#shadowsSince >= SHADOW_REPEAT_MS) {
      this.#shadows.clear();
      this.#shadowsSince = now;
    }
    if (this.#shadows.has(key) || this.#shadows.size >= MAX_SHADOWS) return;
    this.#shadows.add(key);
    this.#logger.info("shadow rule", {
      rule: rule.line,
      would: "allow",
      did: decision?.allowed ? `allow by rule of line ${decision.rule.line}` : "refuse",
      connection: what.connection,
      identity: identity.principal,
      fingerprint: identity.fingerprint,
      target,
    });
  }

  /** A fault of ours that ends nothing. */
  fault(error: unknown): void {
    this.#logger.error("fault of pipegate itself", { detail: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }

  /** The config says that the door need not be tried. */
  untested(): void {
    this.#logger.warn("self-test skipped", { detail: "selfTest: skip: nobody has proven that this door refuses whom it must" });
  }

  /** Another config is in force. */
  reloaded(reload: { readonly version: number; readonly changes: readonly string[] }): void {
    this.#logger.info("config reloaded", reload);
  }

  /** What a config says that deserves a word. */
  odd(detail: string): void {
    this.#logger.warn("config", { detail });
  }

  /** Another config was not taken: the one before goes on serving. */
  reloadFailed(lines: readonly string[]): void {
    for (const detail of lines) this.#logger.error("config refused", { detail });
  }

  /** A revocation list is out of date: said once an hour for each. */
  stale(detail: string): void {
    const now = this.#clock.now();
    if (now - (this.#stale.get(detail) ?? -Infinity) < STALE_REPEAT_MS) return;
    if (this.#stale.size > 100) this.#stale.clear();
    this.#stale.set(detail, now);
    this.#logger.warn("revocation list out of date", { detail });
  }

  /** A CA has expired while it is in force. */
  authorityExpired(
    { subject, notAfter }: Pick<Certificate, "subject" | "notAfter">,
    { fingerprint, file }: { readonly fingerprint: string; readonly file: string | undefined },
  ): void {
    const detail = `it ended on ${new Date(notAfter).toISOString()}: nobody is believed by it any more; renew it, or take it out of trust.ca`;
    this.#logger.warn("CA expired", { subject: printable(nameText(subject), 200), file, fingerprint, detail });
  }

  refusal(refusal: Refusal): void {
    this.#metrics.refused(refusal.reason);
    const now = this.#clock.now();
    this.#tokens = Math.min(REFUSAL_BURST, this.#tokens + (now - this.#at) * REFUSALS_PER_MS);
    this.#at = now;
    if (this.#tokens < 1 || this.#isToldOf(refusal, now)) {
      this.#suppressed++;
      this.#untold ??= this.#clock.after(SUPPRESSED_MS, () => this.tellSuppressed());
      return;
    }
    this.#tokens--;
    const fields: LogFields = {
      reason: refusal.reason,
      detail: refusal.detail,
      connection: refusal.connection,
      source: refusal.source,
      identity: refusal.identity?.principal,
      fingerprint: refusal.fingerprint ?? refusal.identity?.fingerprint,
      target: refusal.target,
      serverName: refusal.serverName,
      ...(this.#suppressed > 0 ? { suppressed: this.#suppressed } : {}),
    };
    this.#suppressed = 0;
    this.#logger.warn("refused", fields);
    this.audit?.record({ event: "refused", ...fields, serial: refusal.identity?.serial });
  }

  /** So many refusals were left out before they came here. */
  leftOut(count: number): void {
    if (count === 0) return;
    this.#suppressed += count;
    this.#untold ??= this.#clock.after(SUPPRESSED_MS, () => this.tellSuppressed());
  }

  /** How many refusals were left out, where no other line has told it yet. */
  tellSuppressed(): void {
    this.#untold?.cancel();
    this.#untold = undefined;
    if (this.#suppressed === 0) return;
    const fields = { suppressed: this.#suppressed };
    this.#suppressed = 0;
    this.#logger.warn("refused", fields);
    this.audit?.record({ event: "refused", ...fields });
  }

  /** Whoever is turned away unseen, because the door is full or its address is kept out, says the same as the one before: once a second. */
  #isToldOf({ reason, identity }: Refusal, now: number): boolean {
    if (identity !== undefined || (reason !== "too_many_connections" && reason !== "rate_limited")) return false;
    if (now - (this.#turnedAwayAt.get(reason) ?? Number.NEGATIVE_INFINITY) < 1_000) return true;
    this.#turnedAwayAt.set(reason, now);
    return false;
  }
}

function connectionFields(connection: ConnectionFacts): LogFields {
  return {
    connection: connection.id,
    source: connection.source,
    identity: connection.identity.principal,
    fingerprint: connection.identity.fingerprint,
    protocol: connection.protocol,
  };
}

function pipeFields(entry: PipeEntry): LogFields {
  return {
    pipe: entry.id,
    connection: entry.connection,
    identity: entry.identity.principal,
    fingerprint: entry.identity.fingerprint,
    target: entry.target,
    backEnd: entry.backEnd,
    mode: entry.messages ? "messages" : "bytes",
  };
}

/** What the audit log tells beyond the log. */
function proofFields({ identity, source }: PipeEntry): LogFields {
  return { serial: identity.serial, source };
}

function ended(broken: Break | undefined): LogFields {
  return broken === undefined ? { reason: "done" } : { reason: broken.reason, detail: broken.detail };
}
