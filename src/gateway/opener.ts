/**
 * From a name to a pipe: may this identity open that target now, which back end answers, joined, counted, and given back at the end.
 * Promises: nothing is dialled before policy and limits passed; a refusal is logged once, with what the peer is not told.
 * Leaves to others: how the client hears of it (connections.ts).
 */
import type { Break, Channel } from "../base/channel.ts";
import type { Clock } from "../base/clock.ts";
import type { Steps } from "../base/steps.ts";
import type { PipegateError } from "../base/error.ts";
import { isReason } from "../base/reason.ts";
import type { Identity } from "../identity/identity.ts";
import type { ConnectionFacts, Journal } from "../journal.ts";
import { Pipe } from "../pipe/pipe.ts";
import type { PipeRegistry } from "../pipe/registry.ts";
import type { Limiter, PipeLease } from "../policy/limiter.ts";
import { decide, knowingShadows, shadows, type Policy } from "../policy/policy.ts";
import type { Rule } from "../policy/rule.ts";
import type { Target } from "../target/target.ts";
import type { Seen } from "./seen.ts";
import type { Snapshot } from "./snapshot.ts";

export interface OpenerOptions {
  readonly clock: Clock;
  readonly journal: Journal;
  /** What holds now. */
  readonly snapshot: () => Snapshot;
  readonly limiter: Limiter;
  readonly pipes: PipeRegistry;
  readonly seen: Seen;
  /** Says why no pipe may be opened just now; undefined: they may. */
  readonly shut: () => Break | undefined;
}

/** The answer to "may I?". A permit has to be used, or its lease released. */
export type Permit =
  | { readonly ok: true; readonly target: Target; readonly rule: Rule; readonly lease: PipeLease; readonly policy: Policy }
  | { readonly ok: false; readonly broken: Break };

/** The client's side of a pipe to be: what to join, and whom to tell. */
export interface ClientEnd {
  readonly channel: Channel;
  readonly id: string;
  readonly facts: ConnectionFacts;
  accept(): void;
  done(broken: Break | undefined): void;
}

type Permitted = Permit & { readonly ok: true };

export class Opener {
  readonly #options: OpenerOptions;

  constructor(options: OpenerOptions) {
    this.#options = options;
  }

  /** May this identity open this target, now? Refusals are logged here. */
  permit(name: string, facts: ConnectionFacts): Permit {
    const { clock, snapshot, limiter, journal } = this.#options;
    const { policy, targets } = snapshot();
    const { identity } = facts;
    const decision = decide(policy, identity, name);
    const target = targets.get(name);
    for (const rule of shadows(policy, identity, name)) journal.shadow(rule, { target: name, connection: facts.id, identity, decision });
    const shut = this.#options.shut();
    let broken: Break;
    if (shut !== undefined) broken = shut;
    else if (clock.wall() > identity.notAfter) broken = { reason: "cert_expired", detail: "since it connected" };
    else if (target === undefined || !decision.allowed) {
      // Guessing names costs what opening costs.
      const retryAfter = limiter.chargeRefusedOpen(identity, facts.rule);
      if (retryAfter > 0) broken = { reason: "rate_limited", retryAfter };
      else broken = { reason: target === undefined ? "unknown_target" : "forbidden" };
    } else {
      const lease = limiter.openPipe(identity, decision.rule);
      if (lease.ok) return { ok: true, target, rule: decision.rule, lease: lease.lease, policy };
      broken = { reason: lease.reason, retryAfter: lease.retryAfter };
    }
    journal.refusal({
      reason: broken.reason,
      detail: broken.detail,
      connection: facts.id,
      source: facts.source,
      identity,
      target: name,
    });
    return { ok: false, broken };
  }

  /** Of somebody whom no rule knows, and whom a shadow rule would have: what for, nobody can say. */
  tellShadows({ id, identity }: { readonly id: string; readonly identity: Identity }): void {
    const { snapshot, journal } = this.#options;
    for (const rule of knowingShadows(snapshot().policy, identity)) journal.shadow(rule, { connection: id, identity });
  }

  /** Dials the target and joins the two; the end hears of it either way. What gives up; undefined when there is nothing to give up any more. */
  dial(permit: Permitted, end: ClientEnd): (() => void) | undefined {
    let isOver = false;
    const { channel, facts } = end;
    const { identity } = facts;
    const request = { messages: channel.messages, maxMessageBytes: this.#options.snapshot().config.maxMessageBytes, identity };
    const opening = permit.target.open(request, {
      opened: (back, backEnd) => {
        isOver = true;
        const late = this.#lapsed(permit, identity);
        if (late === undefined) return this.#join(permit, { end, back, backEnd });
        back.reset({ reason: "cancelled" });
        this.#fail(permit, { end, broken: late });
      },
      failed: (error) => {
        isOver = true;
        this.#fail(permit, { end, broken: asBreak(error) });
      },
    });
    if (isOver) return undefined;
    return () => {
      if (isOver) return;
      isOver = true;
      opening.cancel();
      this.#fail(permit, { end, broken: { reason: "cancelled" } });
    };
  }

  #fail({ lease, target }: Permitted, { end, broken }: { readonly end: ClientEnd; readonly broken: Break }): void {
    const { channel, facts } = end;
    lease.release();
    channel.reset({ reason: broken.reason }); // the detail names back ends: it stays in our log
    if (broken.reason !== "cancelled") {
      const { id: connection, source, identity } = facts;
      this.#options.journal.refusal({ ...broken, connection, source, identity, target: target.name });
    }
    end.done(broken);
  }

  /** Why what was permitted before it was dialled is so no more. */
  #lapsed({ policy, target }: Permitted, identity: Identity): Break | undefined {
    const now = this.#options.snapshot();
    if (policy === now.policy && now.targets.has(target.name)) return undefined;
    return this.#unwanted(identity, target.name);
  }

  #unwanted(identity: Identity, target: string): Break | undefined {
    const { policy, targets } = this.#options.snapshot();
    if (!targets.has(target)) return { reason: "unknown_target", detail: "its target was removed" };
    return decide(policy, identity, target).allowed ? undefined : { reason: "forbidden", detail: "its rule was removed" };
  }

  /** Judges all pipes again by the rules and targets of now: those that could not be opened any more are ended. */
  *judgeAgain(): Steps<void> {
    const verdicts = new Map<string, Break | undefined>();
    for (const { identity, target, pipe } of [...this.#options.pipes.list()]) {
      yield;
      const key = `${identity.fingerprint} ${target}`; // patterns see nothing but the certificate
      let broken = verdicts.get(key);
      if (!verdicts.has(key)) verdicts.set(key, (broken = this.#unwanted(identity, target)));
      if (broken !== undefined) pipe.kill(broken);
    }
  }

  #join(permit: Permitted, how: { readonly end: ClientEnd; readonly back: Channel; readonly backEnd: string }): void {
    const { clock, pipes, journal, seen } = this.#options;
    const { end } = how;
    const { facts } = end;
    end.accept();
    const pipe = new Pipe(
      { client: end.channel, target: how.back },
      {
        clock,
        inbound: permit.lease.inbound,
        outbound: permit.lease.outbound,
        closed: (broken) => {
          pipes.remove(entry.id);
          permit.lease.release();
          seen.used(entry.identity, clock.wall());
          journal.pipeClose(entry, broken);
          end.done(broken);
        },
      },
    );
    const entry = {
      id: end.id,
      connection: facts.id,
      source: facts.source,
      identity: facts.identity,
      target: permit.target.name,
      backEnd: how.backEnd,
      rule: permit.rule.line,
      messages: end.channel.messages,
      openedAt: clock.wall(),
      pipe,
    };
    pipes.add(entry);
    seen.used(entry.identity, entry.openedAt);
    journal.pipeOpen(entry);
  }
}

function asBreak({ code, message }: PipegateError): Break {
  return { reason: isReason(code) ? code : "internal", detail: message };
}
