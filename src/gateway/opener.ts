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
import { joinPipe, type Pipe, type PipeEvents } from "../pipe/pipe.ts";
import type { PipeEntry, PipeRegistry } from "../pipe/registry.ts";
import type { Limiter, PipeLease } from "../policy/limiter.ts";
import { decide, knowingShadows, shadows, type Policy } from "../policy/policy.ts";
import type { Rule } from "../policy/rule.ts";
import { type Throttle, unlimited } from "../policy/throttle.ts";
import type { Dialling } from "../runtime/dial.ts";
import type { OpenEvents, Target } from "../target/target.ts";
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
  /** Says why nobody may come in, and no pipe be opened, just now; undefined: they may. */
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
      const retryAfter = limiter.chargeRefusedOpen(facts.holder, facts.rule);
      if (retryAfter > 0) broken = { reason: "rate_limited", retryAfter };
      else broken = { reason: target === undefined ? "unknown_target" : "forbidden" };
    } else {
      const lease = limiter.openPipe(facts.holder, decision.rule);
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
  dial(permit: Permitted, end: ClientEnd): Dialling | undefined {
    return new OpenedPipe(this.#options, { permit, end }).dial(permit.target);
  }

  /** Judges all pipes again by the rules and targets of now: those that could not be opened any more are ended. */
  *judgeAgain(): Steps<void> {
    const verdicts = new Map<string, Break | undefined>();
    for (const { identity, target, pipe } of [...this.#options.pipes.list()]) {
      yield;
      const key = `${identity.fingerprint} ${target}`; // patterns see nothing but the certificate
      let broken = verdicts.get(key);
      if (!verdicts.has(key)) verdicts.set(key, (broken = unwanted(this.#options.snapshot(), { identity, target })));
      if (broken !== undefined) pipe.kill(broken);
    }
  }
}

/** Why an identity could not open a target any more. */
function unwanted(
  { policy, targets }: Snapshot,
  { identity, target }: { readonly identity: Identity; readonly target: string },
): Break | undefined {
  if (!targets.has(target)) return { reason: "unknown_target", detail: "its target was removed" };
  return decide(policy, identity, target).allowed ? undefined : { reason: "forbidden", detail: "its rule was removed" };
}

/** One pipe from its permit to its end, and what the others see of it. One object: there may be 10,000 idle ones. */
class OpenedPipe implements PipeEntry, OpenEvents, PipeEvents, Dialling {
  readonly identity: Identity;
  readonly target: string;
  /** The line of the rule that let it. */
  readonly rule: number;
  backEnd = "";
  openedAt = 0;
  readonly #shared: OpenerOptions;
  readonly #end: ClientEnd;
  readonly #lease: PipeLease;
  /** That permitted it, while it is dialled. */
  #policy: Policy | undefined;
  #dialling: Dialling | undefined;
  #pipe: Pipe | undefined;
  #isDecided = false;

  constructor(shared: OpenerOptions, { permit, end }: { readonly permit: Permitted; readonly end: ClientEnd }) {
    this.#shared = shared;
    this.#end = end;
    this.#lease = permit.lease;
    this.#policy = permit.policy;
    this.identity = end.facts.identity;
    this.target = permit.target.name;
    this.rule = permit.rule.line;
  }

  get id(): string {
    return this.#end.id;
  }
  get connection(): string {
    return this.#end.facts.id;
  }
  get source(): string {
    return this.#end.facts.source;
  }
  get messages(): boolean {
    return this.#end.channel.messages;
  }
  /** There from `opened` on. */
  get pipe(): Pipe {
    return this.#pipe as Pipe;
  }

  dial(target: Target): Dialling | undefined {
    const { messages, identity } = this;
    this.#dialling = target.open({ messages, maxMessageBytes: this.#shared.snapshot().config.maxMessageBytes, identity }, this);
    return this.#isDecided ? undefined : this;
  }

  cancel(): void {
    if (this.#isDecided) return;
    this.#dialling?.cancel();
    this.#fail({ reason: "cancelled" });
  }

  failed({ code, message }: PipegateError): void {
    this.#fail({ reason: isReason(code) ? code : "internal", detail: message });
  }

  opened(back: Channel, backEnd: string): void {
    const { clock, pipes, seen, journal } = this.#shared;
    const late = this.#lapsed();
    if (late !== undefined) {
      back.reset({ reason: "cancelled" });
      return this.#fail(late);
    }
    this.#decided();
    this.backEnd = backEnd;
    this.openedAt = clock.wall();
    this.#end.accept();
    const throttles = { inbound: limiting(this.#lease.inbound), outbound: limiting(this.#lease.outbound) };
    this.#pipe = joinPipe({ client: this.#end.channel, target: back }, { clock, ...throttles, events: this });
    pipes.add(this);
    seen.used(this.identity, this.openedAt);
    journal.pipeOpen(this);
  }

  closed(broken: Break | undefined): void {
    const { clock, pipes, seen, journal } = this.#shared;
    pipes.remove(this);
    this.#lease.release();
    seen.used(this.identity, clock.wall());
    journal.pipeClose(this, broken);
    this.#end.done(broken);
  }

  #decided(): void {
    this.#isDecided = true;
    this.#dialling = undefined;
    this.#policy = undefined;
  }

  /** Why what was permitted before it was dialled is so no more. */
  #lapsed(): Break | undefined {
    const now = this.#shared.snapshot();
    if (this.#policy === now.policy && now.targets.has(this.target)) return undefined;
    return unwanted(now, this);
  }

  #fail(broken: Break): void {
    this.#decided();
    const { channel, facts } = this.#end;
    this.#lease.release();
    channel.reset({ reason: broken.reason }); // the detail names back ends: it stays in our log
    if (broken.reason !== "cancelled") {
      const { id: connection, source, identity } = facts;
      this.#shared.journal.refusal({ ...broken, connection, source, identity, target: this.target });
    }
    this.#end.done(broken);
  }
}

/** None where nothing is limited: then no chunk asks. */
function limiting(throttle: Throttle): Throttle | undefined {
  return throttle === unlimited ? undefined : throttle;
}
