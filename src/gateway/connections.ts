/**
 * The connections that are let in: limits of the connection, then one pipe (raw) or many (pipegate/1), until it ends; judged again by
 * the trust and rules of each later moment. Promises: who is refused or ended is answered where the protocol allows, logged and counted
 * once; what was taken from the limits is given back once. Leaves to others: TLS and who they are (tls/), may they open and how
 * (opener.ts), when to judge again (gateway.ts).
 */
import type { Break } from "../base/channel.ts";
import type { Timer } from "../base/clock.ts";
import type { Steps } from "../base/steps.ts";
import type { ListenerConfig } from "../config/config.ts";
import type { Identity } from "../identity/identity.ts";
import { judgeStanding, type Proof } from "../identity/judge.ts";
import type { ConnectionFacts } from "../journal.ts";
import { denial } from "../policy/deny.ts";
import { connectionLimits } from "../policy/policy.ts";
import type { Rule } from "../policy/rule.ts";
import { ALPN } from "../protocol/frame.ts";
import type { Session } from "../protocol/session.ts";
import type { Stream } from "../protocol/stream.ts";
import { cutSocket, socketChannel } from "../runtime/socket-channel.ts";
import type { AnswerableRefusal, ListenerRefusal, SecureConnection } from "../tls/listener.ts";
import { sessionOver } from "../tls/session-socket.ts";
import type { ClientEnd, Opener, OpenerOptions } from "./opener.ts";

export interface ConnectionsOptions extends Omit<OpenerOptions, "pipes"> {
  readonly opener: Opener;
  /** One was let in whom time alone ends at this moment (milliseconds since the epoch). */
  readonly arrivedUntil: (until: number) => void;
}

/** A connection that is let in: what drain, close and judging again act on. */
interface Live {
  readonly facts: ConnectionFacts;
  proof: Proof;
  /** Why we ended it, with the detail that the peer is not told. */
  ended: Break | undefined;
  drain(graceMs: number): void;
  close(broken: Break): void;
  /** Tells the peer until when its certificate is valid. False: it cannot hear yet. Absent: it never can, or was told. */
  notice?: ((notAfter: number) => boolean) | undefined;
}

/** A refused raw client sees its connection cut; a framed one has this long to read why, ms. */
const REFUSAL_LINGER_MS = 2_000;

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #live = new Set<Live>();
  #draining = false;
  #whenEmpty: (() => void)[] = [];

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** One that the door let through. */
  arrived(connection: SecureConnection, listener: ListenerConfig): void {
    const { identity } = connection;
    const closed = this.#draining ? { reason: "draining" as const } : this.#options.shut();
    if (closed !== undefined) return this.#turnAway(connection, closed);
    const admitted = this.#ruleOf(identity);
    if (admitted.rule === undefined) {
      this.#options.opener.tellShadows(connection);
      return this.#turnAway(connection, admitted.broken);
    }
    const seat = this.#options.limiter.connect(identity, admitted.rule);
    if (!seat.ok) return this.#turnAway(connection, { reason: seat.reason, retryAfter: seat.retryAfter });
    const facts: ConnectionFacts = {
      id: connection.id,
      source: connection.source.text,
      identity,
      protocol: connection.alpn ?? "raw",
      rule: admitted.rule,
    };
    const leave = (): void => seat.release();
    if (connection.alpn === ALPN) this.#framed(connection, { facts, leave });
    else this.#raw(connection, { facts, leave, listener });
  }

  /** One that came to a listener that serves nobody yet. */
  tooSoon(connection: SecureConnection): void {
    this.#turnAway(connection, { reason: "draining", detail: "the listener does not serve yet" });
  }

  /** The rule that a connection of this identity is under, by what holds now, or why there is none. */
  #ruleOf(identity: Identity): { readonly rule: Rule } | { readonly rule: undefined; readonly broken: Break } {
    const { deny, policy } = this.#options.snapshot();
    const denied = denial(deny, identity);
    if (denied !== undefined) return { rule: undefined, broken: { reason: "revoked", detail: `trust.deny names ${denied}` } };
    const rule = connectionLimits(policy, identity);
    return rule === undefined ? { rule, broken: { reason: "forbidden", detail: "no rule knows this identity" } } : { rule };
  }

  /** Known, but not let in. */
  #turnAway(connection: SecureConnection, broken: Break): void {
    const { identity, source } = connection;
    const framed = connection.alpn === ALPN ? connection : undefined;
    const refusal: ListenerRefusal = {
      reason: broken.reason,
      detail: broken.detail ?? "",
      source,
      fingerprint: identity.fingerprint,
      connection: framed,
    };
    this.refused(refusal, identity);
    if (framed === undefined) cutSocket(connection.socket, connection.below);
    else this.answer({ ...refusal, connection: framed }, broken.retryAfter);
  }

  /** Somebody was turned away, here or by the door. */
  refused(refusal: ListenerRefusal, identity?: Identity): void {
    this.#options.journal.refusal({ ...refusal, identity, source: refusal.source.text, connection: refusal.connection?.id });
  }

  /** Who speaks pipegate/1 is told why. */
  answer({ reason, connection }: AnswerableRefusal, retryAfter?: number): void {
    sessionOver(connection.socket, {
      role: "gateway",
      clock: this.#options.clock,
      refusal: { reason, ...(retryAfter === undefined ? {} : { retryAfter }) },
      helloTimeoutMs: REFUSAL_LINGER_MS,
      events: { closed: () => {} },
    });
  }

  /** pipegate/1: many streams, each judged for itself. */
  #framed(connection: SecureConnection, { facts, leave }: { readonly facts: ConnectionFacts; readonly leave: () => void }): void {
    const openedAt = this.#options.clock.now();
    let pipes = 0;
    const session: Session = sessionOver(connection.socket, {
      role: "gateway",
      clock: this.#options.clock,
      parameters: { software: "pipegate", maxMessage: this.#options.snapshot().config.maxMessageBytes },
      events: {
        ready: () => this.#notify(live),
        open: (stream) => {
          pipes++;
          this.#open(stream, facts);
        },
        closed: (broken) => {
          leave();
          this.#gone(live);
          this.#options.journal.connectionClose(facts, { openedAt, pipes, broken: live.ended ?? broken });
        },
      },
    });
    const live: Live = {
      facts,
      proof: connection.proof,
      ended: undefined,
      drain: (graceMs) => session.drain(graceMs),
      close: (broken) => session.close(broken),
      notice: (notAfter) => {
        if (session.ready) session.notice({ certificateExpiresAt: notAfter });
        return session.ready;
      },
    };
    this.#came(live);
  }

  #came(live: Live): void {
    const { journal, seen, clock, arrivedUntil } = this.#options;
    this.#live.add(live);
    journal.connectionOpen(live.facts);
    seen.came(live.facts.identity, clock.wall());
    arrivedUntil(live.proof.until);
  }

  /** Once: less than a third of its certificate's life is left. */
  #notify(live: Live): void {
    const { notBefore, notAfter } = live.facts.identity;
    if (live.notice === undefined || notAfter - this.#options.clock.wall() >= (notAfter - notBefore) / 3) return;
    if (live.notice(notAfter)) live.notice = undefined;
  }

  /** One OPEN: decided, limited, dialled, joined. */
  #open(stream: Stream, facts: ConnectionFacts): void {
    const permit = this.#options.opener.permit(stream.target, facts);
    if (!permit.ok) {
      // The detail stays here: to the peer an unknown target and a forbidden one look alike.
      stream.reset({
        reason: permit.broken.reason,
        ...(permit.broken.retryAfter === undefined ? {} : { retryAfter: permit.broken.retryAfter }),
      });
      // Its place is given back when another try can succeed: who hammers runs out of places, not we out of patience.
      if (permit.broken.retryAfter === undefined) stream.release();
      else this.#options.clock.after(permit.broken.retryAfter, () => stream.release());
      return;
    }
    const dialling = this.#options.opener.dial(permit, new StreamEnd(stream, facts));
    if (dialling !== undefined) stream.onBroken = () => dialling.cancel();
  }

  /** A connection without frames: one pipe to the target that the listener or the server name fixes. */
  #raw(
    connection: SecureConnection,
    { facts, leave, listener }: { readonly facts: ConnectionFacts; readonly leave: () => void; readonly listener: ListenerConfig },
  ): void {
    const openedAt = this.#options.clock.now();
    const named = connection.serverName === undefined ? undefined : listener.serverNames.get(connection.serverName);
    const permit = this.#options.opener.permit(named ?? listener.target ?? "", facts);
    const { socket, hold, release, below } = connection;
    const channel = socketChannel(socket, {
      broken: "session_lost",
      below,
      ...(hold === undefined || release === undefined ? {} : { hold, release }),
    });
    if (!permit.ok) {
      leave();
      channel.reset(permit.broken);
      return;
    }
    let enough: Timer | undefined;
    const live: Live = {
      facts,
      proof: connection.proof,
      ended: undefined,
      drain: (graceMs) => void (enough ??= this.#options.clock.after(graceMs, () => live.close({ reason: "draining" }))),
      close: (broken) => channel.reset(broken),
    };
    this.#came(live);
    const left = (): void => dialling?.cancel();
    socket.once("close", left);
    const dialling = this.#options.opener.dial(permit, {
      channel,
      id: `${facts.id}.1`,
      facts,
      accept: () => void socket.off("close", left),
      done: (broken) => {
        leave();
        enough?.cancel();
        this.#gone(live);
        this.#options.journal.connectionClose(facts, { openedAt, pipes: 1, broken: live.ended ?? broken });
      },
    });
  }

  // ---- later moments

  /**
   * Judges everyone again by what holds now: whose certificate has expired or is revoked, whose issuer is no longer trusted and, where the
   * `rules` may have changed, whom none of them knows any more is ended with that reason.
   */
  *judgeAgain({ rules }: { readonly rules: boolean }): Steps<void> {
    const { clock, snapshot } = this.#options;
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
      this.#options.seen.judged(verdict.identity);
      const known = rules && !this.#draining ? this.#ruleOf(live.facts.identity) : undefined; // who is on his way out needs no rule
      if (known !== undefined && known.rule === undefined) {
        this.#end(live, known.broken);
        continue;
      }
      if (known !== undefined) live.facts.rule = known.rule;
      this.#notify(live);
    }
  }

  /** Tells those whose certificates have come near their end since they were judged. */
  *notifyAgain(): Steps<void> {
    for (const live of [...this.#live]) {
      yield;
      if (this.#live.has(live)) this.#notify(live);
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

  /** Takes no more, lets those that are here end. Resolves when the last has gone. */
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

  #gone(live: Live): void {
    this.#live.delete(live);
    this.#options.seen.left(live.facts.identity, this.#options.clock.wall());
    if (this.#live.size === 0) for (const tell of this.#whenEmpty.splice(0)) tell();
  }
}

/** The client's side of a pipe in a session. */
class StreamEnd implements ClientEnd {
  readonly channel: Stream;
  readonly facts: ConnectionFacts;

  constructor(stream: Stream, facts: ConnectionFacts) {
    this.channel = stream;
    this.facts = facts;
  }
  get id(): string {
    return `${this.facts.id}.${this.channel.id}`;
  }
  accept(): void {
    this.channel.onBroken = undefined;
    this.channel.accept();
  }
  done(): void {
    this.channel.release();
  }
}
