/**
 * The connections that are let in: limits of the connection, then one pipe (raw) or many (pipegate/1), until it ends.
 * Promises: who is refused is answered where the protocol allows, logged and counted once; what was taken from the limits is given back
 * once. Leaves to others: TLS and who they are (tls/), may they open and how (opener.ts).
 */
import type { Break } from "../base/channel.ts";
import type { Clock, Timer } from "../base/clock.ts";
import type { ListenerConfig } from "../config/config.ts";
import type { Identity } from "../identity/identity.ts";
import type { ConnectionFacts, Journal } from "../journal.ts";
import type { Limiter } from "../policy/limiter.ts";
import { connectionLimits, type Policy } from "../policy/policy.ts";
import { ALPN } from "../protocol/frame.ts";
import type { Session } from "../protocol/session.ts";
import type { Stream } from "../protocol/stream.ts";
import { cutSocket, socketChannel } from "../runtime/socket-channel.ts";
import type { AnswerableRefusal, ListenerRefusal, SecureConnection } from "../tls/listener.ts";
import { sessionOver } from "../tls/session-socket.ts";
import type { Opener } from "./opener.ts";

export interface ConnectionsOptions {
  readonly clock: Clock;
  readonly journal: Journal;
  readonly policy: Policy;
  readonly limiter: Limiter;
  readonly opener: Opener;
  readonly maxMessageBytes: number;
}

/** A connection that is let in: what drain and close act on. */
interface Live {
  drain(graceMs: number): void;
  close(broken: Break): void;
}

/** A refused raw client sees its connection cut; a framed one has this long to read why, ms. */
const REFUSAL_LINGER_MS = 2_000;

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #live = new Set<Live>();
  #draining = false;
  #whenEmpty: (() => void) | undefined;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** One that the door let through. */
  arrived(connection: SecureConnection, listener: ListenerConfig): void {
    const { identity } = connection;
    const framed = connection.alpn === ALPN;
    if (this.#draining) return this.#turnAway(connection, { reason: "draining" });
    const rule = connectionLimits(this.#options.policy, identity);
    if (rule === undefined) return this.#turnAway(connection, { reason: "forbidden", detail: "no rule knows this identity" });
    const seat = this.#options.limiter.connect(identity, rule);
    if (!seat.ok) return this.#turnAway(connection, { reason: seat.reason, retryAfter: seat.retryAfter });
    const facts: ConnectionFacts = {
      id: connection.id,
      source: connection.source.text,
      identity,
      protocol: connection.alpn ?? "raw",
      rule,
    };
    const leave = (): void => seat.release();
    if (framed) this.#framed(connection, { facts, leave });
    else this.#raw(connection, { facts, leave, listener });
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
      parameters: { software: "pipegate", maxMessage: this.#options.maxMessageBytes },
      events: {
        open: (stream) => {
          pipes++;
          this.#open(stream, facts);
        },
        closed: (broken) => {
          leave();
          this.#gone(live);
          this.#options.journal.connectionClose(facts, { openedAt, pipes, broken });
        },
      },
    });
    const live: Live = { drain: (graceMs) => session.drain(graceMs), close: (broken) => session.close(broken) };
    this.#live.add(live);
    this.#options.journal.connectionOpen(facts);
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
    const gone = new AbortController();
    stream.onBroken = () => gone.abort();
    this.#options.opener.dial(permit, {
      channel: stream,
      id: `${facts.id}.${stream.id}`,
      facts,
      gone: gone.signal,
      accept: () => {
        stream.onBroken = undefined;
        stream.accept();
      },
      done: () => stream.release(),
    });
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
    const gone = new AbortController();
    const left = (): void => gone.abort();
    connection.socket.once("close", left);
    let enough: Timer | undefined;
    const live: Live = {
      drain: (graceMs) => void (enough ??= this.#options.clock.after(graceMs, () => live.close({ reason: "draining" }))),
      close: (broken) => channel.reset(broken),
    };
    this.#live.add(live);
    this.#options.journal.connectionOpen(facts);
    this.#options.opener.dial(permit, {
      channel,
      id: `${facts.id}.1`,
      facts,
      gone: gone.signal,
      accept: () => void connection.socket.off("close", left),
      done: (broken) => {
        leave();
        enough?.cancel();
        this.#gone(live);
        this.#options.journal.connectionClose(facts, { openedAt, pipes: 1, broken });
      },
    });
  }

  /** Takes no more, lets those that are here end. Resolves when the last has gone. */
  drain(graceMs: number): Promise<void> {
    this.#draining = true;
    for (const live of [...this.#live]) live.drain(graceMs);
    return this.#live.size === 0 ? Promise.resolve() : new Promise((resolve) => (this.#whenEmpty = resolve));
  }

  close(broken: Break): void {
    this.#draining = true;
    for (const live of [...this.#live]) live.close(broken);
  }

  #gone(live: Live): void {
    this.#live.delete(live);
    if (this.#live.size === 0) this.#whenEmpty?.();
  }
}
