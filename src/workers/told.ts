/**
 * What workers say that may be said only so often by all of them together: refusals under one cap, the rest once in its time. Promises: as
 * often as one gateway would say it. Leaves to others: the log itself.
 */
import type { Clock } from "../base/clock.ts";
import type { LogFields, Logger, LogLevel } from "../base/log.ts";
import { isReason } from "../base/reason.ts";
import type { Journal } from "../journal.ts";

interface Told {
  readonly level: LogLevel;
  readonly event: string;
  readonly fields: LogFields;
}

/** How often, and what makes it the same. */
const repeats: Readonly<Record<string, { readonly everyMs: number; readonly same: readonly string[] }>> = {
  "shadow rule": { everyMs: 60_000, same: ["rule", "fingerprint", "target"] },
  "revocation list out of date": { everyMs: 3_600_000, same: ["detail"] },
  "CA expired": { everyMs: Infinity, same: ["fingerprint"] },
  "accepting failed": { everyMs: 1_000, same: [] },
};
/** Kept at once; beyond that the oldest may be said again. */
const MAX_KEPT = 1_000;

export class Teller {
  readonly #logger: Logger;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #saidAt = new Map<string, number>();

  constructor({ logger, journal, clock }: { readonly logger: Logger; readonly journal: Journal; readonly clock: Clock }) {
    this.#logger = logger;
    this.#journal = journal;
    this.#clock = clock;
  }

  tell({ level, event, fields }: Told): void {
    if (event === "refused") return this.#refused(fields);
    const { everyMs, same } = repeats[event] ?? { everyMs: 0, same: [] };
    const key = JSON.stringify([event, ...same.map((name) => fields[name])]);
    const now = this.#clock.now();
    if (now - (this.#saidAt.get(key) ?? -Infinity) < everyMs) return;
    this.#saidAt.delete(key); // so that the map's order is that of the last times
    this.#saidAt.set(key, now);
    if (this.#saidAt.size > MAX_KEPT) this.#saidAt.delete(this.#saidAt.keys().next().value!);
    this.#logger[level](event, fields);
  }

  #refused(fields: LogFields): void {
    const text = (name: string): string | undefined => (typeof fields[name] === "string" ? fields[name] : undefined);
    this.#journal.leftOut(Number(fields["suppressed"] ?? 0));
    const [reason, principal] = [text("reason"), text("identity")];
    if (reason === undefined || !isReason(reason)) return; // it only told how many were left out
    const fingerprint = text("fingerprint");
    this.#journal.refusal({
      reason,
      detail: text("detail"),
      connection: text("connection"),
      source: text("source"),
      identity: principal === undefined ? undefined : { principal, fingerprint: fingerprint ?? "", serial: text("serial") ?? "" },
      fingerprint,
      target: text("target"),
      serverName: text("serverName"),
    });
  }
}
