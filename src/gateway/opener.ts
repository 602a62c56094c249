/**
 * From a name to a pipe: may this identity open that target now, which back end answers, joined, counted, and given back at the end.
 * Promises: nothing is dialled before policy and limits passed; a refusal is logged once, with what the peer is not told.
 * Leaves to others: how the client hears of it (connections.ts).
 */
import type { Break, Channel } from "../base/channel.ts";
import type { Clock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import { isReason } from "../base/reason.ts";
import type { ConnectionFacts, Journal } from "../journal.ts";
import { Pipe } from "../pipe/pipe.ts";
import type { PipeRegistry } from "../pipe/registry.ts";
import type { Limiter, PipeLease } from "../policy/limiter.ts";
import { decide, type Policy } from "../policy/policy.ts";
import type { Rule } from "../policy/rule.ts";
import type { Target } from "../target/target.ts";

export interface OpenerOptions {
  readonly clock: Clock;
  readonly journal: Journal;
  readonly policy: Policy;
  readonly limiter: Limiter;
  readonly targets: ReadonlyMap<string, Target>;
  readonly pipes: PipeRegistry;
  readonly maxMessageBytes: number;
}

/** The answer to "may I?". A permit has to be used, or its lease released. */
export type Permit =
  | { readonly ok: true; readonly target: Target; readonly rule: Rule; readonly lease: PipeLease }
  | { readonly ok: false; readonly broken: Break };

/** The client's side of a pipe to be: what to join, and whom to tell. */
export interface ClientEnd {
  readonly channel: Channel;
  readonly id: string;
  readonly facts: ConnectionFacts;
  /** Fires when the client went away while we dialled. */
  readonly gone: AbortSignal;
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
    const { clock, policy, limiter, targets, journal } = this.#options;
    const { identity } = facts;
    const decision = decide(policy, identity, name);
    const target = targets.get(name);
    let broken: Break;
    if (clock.wall() > identity.notAfter) broken = { reason: "cert_expired", detail: "since it connected" };
    else if (target === undefined || !decision.allowed) {
      // Guessing names costs what opening costs.
      const retryAfter = limiter.chargeRefusedOpen(identity, facts.rule);
      if (retryAfter > 0) broken = { reason: "rate_limited", retryAfter };
      else broken = { reason: target === undefined ? "unknown_target" : "forbidden" };
    } else {
      const lease = limiter.openPipe(identity, decision.rule);
      if (lease.ok) return { ok: true, target, rule: decision.rule, lease: lease.lease };
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

  /** Dials the target and joins the two; the end hears of it either way. */
  dial(permit: Permitted, end: ClientEnd): void {
    const { journal, maxMessageBytes } = this.#options;
    const { channel, facts } = end;
    const fail = (broken: Break): void => {
      permit.lease.release();
      channel.reset({ reason: broken.reason }); // the detail names back ends: it stays in our log
      if (broken.reason !== "cancelled") {
        journal.refusal({
          ...broken,
          connection: facts.id,
          source: facts.source,
          identity: facts.identity,
          target: permit.target.name,
        });
      }
      end.done(broken);
    };
    const request = {
      messages: channel.messages,
      maxMessageBytes,
      identity: facts.identity,
      signal: end.gone,
    };
    permit.target.open(request).then(
      (opened) => {
        if (end.gone.aborted) {
          opened.channel.reset({ reason: "cancelled" });
          return fail({ reason: "cancelled" });
        }
        this.#join(permit, { end, back: opened.channel, backEnd: opened.backEnd });
      },
      (error: unknown) => {
        if (end.gone.aborted) return fail({ reason: "cancelled" });
        fail(asBreak(error));
      },
    );
  }

  #join(permit: Permitted, how: { readonly end: ClientEnd; readonly back: Channel; readonly backEnd: string }): void {
    const { clock, pipes, journal } = this.#options;
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
          journal.pipeClose(entry, { identity: facts.identity, broken });
          end.done(broken);
        },
      },
    );
    const entry = {
      id: end.id,
      connection: facts.id,
      principal: facts.identity.principal,
      target: permit.target.name,
      backEnd: how.backEnd,
      messages: end.channel.messages,
      openedAt: clock.wall(),
      pipe,
    };
    pipes.add(entry);
    journal.pipeOpen(entry, { identity: facts.identity, rule: permit.rule.line });
  }
}

function asBreak(error: unknown): Break {
  if (error instanceof PipegateError && isReason(error.code)) return { reason: error.code, detail: error.message };
  return { reason: "internal", detail: error instanceof Error ? error.message : String(error) };
}
