/**
 * How a connection goes: limits of the connection, then one pipe (raw) or many (pipegate/1), until it ends. Promises: who is refused is
 * answered where the protocol allows, logged and counted once; what was taken from the limits is given back once. Leaves to others: TLS and
 * who they are (tls/), may they open and how (opener.ts), what becomes of those who are here (live.ts).
 */
import type { Break } from "../base/channel.ts";
import type { Timer } from "../base/clock.ts";
import type { ListenerConfig } from "../config/config.ts";
import type { Identity } from "../identity/identity.ts";
import type { ConnectionFacts } from "../journal.ts";
import { Holder } from "../policy/holder.ts";
import { ALPN } from "../protocol/frame.ts";
import type { Session } from "../protocol/session.ts";
import type { Stream } from "../protocol/stream.ts";
import { cutSocket, socketChannel } from "../runtime/socket-channel.ts";
import type { AnswerableRefusal, ListenerRefusal, SecureConnection } from "../tls/listener-events.ts";
import { sessionOver } from "../tls/session-socket.ts";
import { type Live, type LiveConnections, ruleOf } from "./live.ts";
import type { ClientEnd, Opener, OpenerOptions } from "./opener.ts";

export interface ConnectionsOptions extends Omit<OpenerOptions, "pipes"> {
  readonly opener: Opener;
  readonly live: LiveConnections;
}

/** A refused raw client sees its connection cut; a framed one has this long to read why, ms. */
const REFUSAL_LINGER_MS = 2_000;

export class Connections {
  readonly #options: ConnectionsOptions;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** One that the door let through. */
  arrived(connection: SecureConnection, listener: ListenerConfig): void {
    const { identity } = connection;
    const closed = this.#options.live.draining ? { reason: "draining" as const } : this.#options.shut();
    if (closed !== undefined) return this.#turnAway(connection, closed);
    const admitted = ruleOf(this.#options.snapshot(), identity);
    if (admitted.rule === undefined) {
      this.#options.opener.tellShadows(connection);
      return this.#turnAway(connection, admitted.broken);
    }
    const holder = new Holder(identity.principal);
    const seat = this.#options.limiter.connect(holder, admitted.rule);
    if (!seat.ok) return this.#turnAway(connection, { reason: seat.reason, retryAfter: seat.retryAfter });
    const facts: ConnectionFacts = {
      id: connection.id,
      source: connection.source.text,
      identity,
      holder,
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
        ready: () => this.#options.live.notify(live),
        open: (stream) => {
          pipes++;
          this.#open(stream, facts);
        },
        closed: (broken) => {
          leave();
          this.#options.live.gone(live, { openedAt, pipes, broken });
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
    this.#options.live.came(live);
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
    let isOpen = false;
    const live: Live = {
      facts,
      proof: connection.proof,
      ended: undefined,
      drain: (graceMs) => void (enough ??= this.#options.clock.after(graceMs, () => live.close({ reason: "draining" }))),
      close: (broken) => {
        if (!isOpen) live.ended ??= broken; // to its pipe, which is still dialled, it will seem that the client has left
        channel.reset(broken);
      },
    };
    this.#options.live.came(live);
    const left = (): void => dialling?.cancel();
    socket.once("close", left);
    const dialling = this.#options.opener.dial(permit, {
      channel,
      id: `${facts.id}.1`,
      facts,
      accept: () => {
        isOpen = true;
        socket.off("close", left);
      },
      done: (broken) => {
        leave();
        enough?.cancel();
        this.#options.live.gone(live, { openedAt, pipes: 1, broken });
      },
    });
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
