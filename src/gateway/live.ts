/**
 * The connections that are here: judged again by the trust and rules of each later moment, told of their end, drained, closed. Promises: who
 * is ended hears the reason, and is logged once, with the detail; that everybody has gone is told once it is so. Leaves to others: who is
 * let in, and what goes on in a connection (connections.ts), when to judge again (judging.ts).
 */
import type { Break } from "../base/channel.ts";
import type { Steps } from "../base/steps.ts";
import type { Identity } from "../identity/identity.ts";
import { judgeStanding } from "../identity/judge.ts";
import type { Proof } from "../identity/proven.ts";
import type { ConnectionFacts } from "../journal.ts";
import { denial } from "../policy/deny.ts";
import { connectionLimits } from "../policy/policy.ts";
import type { Rule } from "../policy/rule.ts";
import type { OpenerOptions } from "./opener.ts";
import type { Snapshot } from "./snapshot.ts";

/** A connection that is let in. */
export interface Live {
  readonly facts: ConnectionFacts;
  proof: Proof;
  /** Why we ended it, with the detail that the peer is not told. */
  ended: Break | undefined;
  drain(graceMs: number): void;
  close(broken: Break): void;
  /** Tells the peer until when its certificate is valid. False: it cannot hear yet. Absent: it never can, or was told. */
  notice?: ((notAfter: number) => boolean) | undefined;
}

export interface LiveOptions extends Pick<OpenerOptions, "clock" | "journal" | "snapshot" | "seen"> {
  /** One was let in whom time alone ends at this moment (milliseconds since the epoch). */
  readonly arrivedUntil: (until: number) => void;
}

export class LiveConnections {
  readonly #options: LiveOptions;
  readonly #live = new Set<Live>();
  #draining = false;
  #whenEmpty: (() => void)[] = [];

  constructor(options: LiveOptions) {
    this.#options = options;
  }

  /** Nobody comes in any more. */
  get draining(): boolean {
    return this.#draining;
  }

  came(live: Live): void {
    const { journal, seen, clock, arrivedUntil } = this.#options;
    this.#live.add(live);
    journal.connectionOpen(live.facts);
    seen.came(live.facts.identity, clock.wall());
    arrivedUntil(live.proof.until);
  }

  /** It has closed. `broken`: as the transport tells it. */
  gone(live: Live, end: { readonly openedAt: number; readonly pipes: number; readonly broken: Break | undefined }): void {
    const { journal, seen, clock } = this.#options;
    this.#live.delete(live);
    seen.left(live.facts.identity, clock.wall());
    journal.connectionClose(live.facts, { ...end, broken: live.ended ?? end.broken });
    if (this.#live.size === 0) for (const tell of this.#whenEmpty.splice(0)) tell();
  }

  /** Once: less than a third of its certificate's life is left. */
  notify(live: Live): void {
    const { notBefore, notAfter } = live.facts.identity;
    if (live.notice === undefined || notAfter - this.#options.clock.wall() >= (notAfter - notBefore) / 3) return;
    if (live.notice(notAfter)) live.notice = undefined;
  }

  // ---- later moments

  /**
   * Judges everyone again by what holds now: whose certificate has expired or is revoked, whose issuer is no longer trusted and, where the
   * `rules` may have changed, whom none of them knows any more is ended with that reason.
   */
  *judgeAgain({ rules }: { readonly rules: boolean }): Steps<void> {
    const { clock, snapshot, seen } = this.#options;
    for (const live of [...this.#live]) {
      yield;
      if (!this.#live.has(live)) continue;
      const verdict = judgeStanding(live.proof, snapshot().trust, clock.wall());
      if (!verdict.ok) {
        this.#end(live, { reason: verdict.reason, detail: verdict.detail });
        continue;
      }
      live.proof = verdict.proof;
      live.facts.identity = verdict.identity;
      seen.judged(verdict.identity);
      const known = rules && !this.#draining ? ruleOf(snapshot(), live.facts.identity) : undefined; // who is on his way out needs no rule
      if (known !== undefined && known.rule === undefined) {
        this.#end(live, known.broken);
        continue;
      }
      if (known !== undefined) live.facts.rule = known.rule;
      this.notify(live);
    }
  }

  /** Tells those whose certificates have come near their end since they were judged. */
  *notifyAgain(): Steps<void> {
    for (const live of [...this.#live]) {
      yield;
      if (this.#live.has(live)) this.notify(live);
    }
  }

  /** When time alone ends the first of those who are connected, milliseconds since the epoch. */
  soonestEnd(): number | undefined {
    let soonest: number | undefined;
    for (const { proof, ended } of this.#live)
      if (ended === undefined && (soonest === undefined || proof.until < soonest)) soonest = proof.until;
    return soonest;
  }

  #end(live: Live, broken: Break): void {
    live.ended ??= broken;
    live.close({ reason: broken.reason }); // its pipes break with it; the detail is for our log
  }

  // ---- the end

  /** Lets those that are here end, and nobody in. Resolves when the last has gone. */
  drain(graceMs: number): Promise<void> {
    this.#draining = true;
    for (const live of [...this.#live]) live.drain(graceMs);
    return this.empty();
  }

  /** Resolves when nobody is connected. */
  empty(): Promise<void> {
    return this.#live.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#whenEmpty.push(resolve));
  }

  close(broken: Break): void {
    this.#draining = true;
    for (const live of [...this.#live]) live.close(broken);
  }
}

/** The rule that a connection of this identity is under, by what holds now, or why there is none. */
export function ruleOf(
  { deny, policy }: Snapshot,
  identity: Identity,
): { readonly rule: Rule } | { readonly rule: undefined; readonly broken: Break } {
  const denied = denial(deny, identity);
  if (denied !== undefined) return { rule: undefined, broken: { reason: "revoked", detail: `trust.deny names ${denied}` } };
  const rule = connectionLimits(policy, identity);
  return rule === undefined ? { rule, broken: { reason: "forbidden", detail: "no rule knows this identity" } } : { rule };
}
