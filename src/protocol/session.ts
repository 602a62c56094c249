/**
 * The multiplexer on one connection (docs/protocol.md): its parts put together, and its life from HELLO to the last close.
 * Bytes in by `receive`, bytes out by a Transport, time by a Clock: it knows no sockets and never pauses its connection.
 * Promises: a peer's violation ends the session with its reason, never anything else; every stream's `closed` comes before the
 * session's; memory is bounded by the windows. Leaves to others: TLS, who may open what, back ends.
 */
import type { Buffer } from "node:buffer";
import type { Break } from "../base/channel.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { ControlBudget } from "./budget.ts";
import { NO_ERROR, toCode } from "./code.ts";
import { Decoder } from "./decoder.ts";
import { breakOf } from "./fault.ts";
import * as wire from "./frame.ts";
import { Resumed, Type } from "./frame.ts";
import { Heartbeat } from "./heartbeat.ts";
import { StreamIds } from "./ids.ts";
import { Incoming } from "./incoming.ts";
import { encodeParameters, encodeRetryAfter, parameterDefaults, type Parameters } from "./parameters.ts";
import type { SessionEvents, SessionOptions } from "./options.ts";
import type { SessionParts, SessionState } from "./parts.ts";
import { type OpenOptions, Roster } from "./roster.ts";
import { Sender } from "./sender.ts";
import type { Stream } from "./stream.ts";
import type { Transport } from "./writer.ts";

export type { SessionEvents, SessionOptions } from "./options.ts";

const LINGER_MS = 1_000;
/** After an orderly end: how long what is on its way has to arrive, ours at the peer and the peer's at whoever reads it. */
const DELIVER_MS = 30_000;

export class Session {
  readonly role: "client" | "gateway";
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #events: SessionEvents;
  readonly #own: Parameters;
  readonly #refusal: Break | undefined;
  readonly #state: SessionState = { phase: "hello", broken: undefined, draining: undefined, notices: 0, peer: parameterDefaults };
  readonly #ids: StreamIds;
  readonly #sender: Sender;
  readonly #heartbeat: Heartbeat;
  readonly #roster: Roster;
  readonly #incoming: Incoming;
  readonly #decoder: Decoder;
  /** Set by `retire`. */
  #retired = false;
  #helloTimer: Timer | undefined;
  #lingerTimer: Timer | undefined;
  #drainTimer: Timer | undefined;
  #deliverTimer: Timer | undefined;

  constructor(options: SessionOptions) {
    const { role, transport, clock, events } = options;
    this.role = role;
    this.#transport = transport;
    this.#clock = clock;
    this.#events = events;
    this.#refusal = options.refusal;
    const ids = (this.#ids = new StreamIds({ role, maxStreams: options.maxStreams ?? (role === "gateway" ? 256 : 0) }));
    const own = (this.#own = { ...parameterDefaults, maxStreamId: ids.maxPeer, ...options.parameters });
    const sender = (this.#sender = new Sender({
      transport,
      clock,
      overflowed: () => this.#finish({ reason: "slow_reader", detail: "the peer does not read our control frames" }),
    }));
    const heartbeat = (this.#heartbeat = new Heartbeat({
      clock,
      everyMs: own.heartbeatMs,
      outgoing: sender,
      ping: (opaque) => sender.control(wire.encodePing(Type.PING, opaque)),
      dead: (broken) => this.#finish(broken),
    }));
    const parts: SessionParts = { role, state: this.#state, clock, events, own, ids, budget: new ControlBudget(clock), sender, heartbeat };
    this.#roster = new Roster(parts, { finished: (stream) => this.#finished(stream), released: () => this.#closeWhenDrained() });
    this.#incoming = new Incoming(parts, {
      roster: this.#roster,
      hello: (peer) => this.#onHello(peer),
      welcome: (peer) => this.#onWelcome(peer),
      refused: (broken) => this.#onRefused(broken),
      over: (broken) => this.#onOver(broken),
    });
    this.#decoder = new Decoder(this.#incoming);
    this.#begin(options.helloTimeoutMs ?? 5_000);
  }

  #begin(helloTimeoutMs: number): void {
    const detail = this.role === "gateway" ? "no HELLO came" : "no WELCOME came";
    this.#helloTimer = this.#clock.after(helloTimeoutMs, () => this.close({ reason: "preface_timeout", detail }));
    if (this.role === "gateway") return;
    this.#sender.control(wire.encodeHello({ min: wire.VERSION, max: wire.VERSION }, encodeParameters(this.#own)));
    this.#sender.pump();
  }

  /** What the peer said of itself; the defaults until `ready`. */
  get peer(): Parameters {
    return this.#state.peer;
  }
  /** Streams that are open now. */
  get streams(): ReadonlyMap<number, Stream> {
    return this.#roster.streams;
  }
  get ready(): boolean {
    return this.#state.phase === "active";
  }
  get draining(): boolean {
    return this.#state.draining !== undefined;
  }
  /** Shortest round trip that was seen, ms; the shortest possible one until there are enough measurements. */
  get roundTripMs(): number {
    return this.#heartbeat.roundTripMs;
  }

  // ---- what the holder calls

  /** Opens a stream. It can be written to at once; a refusal comes as its `closed`. */
  open(target: string, options: OpenOptions): Stream {
    return this.#roster.open(target, options);
  }

  /** Bytes from the connection. */
  receive(chunk: Buffer): void {
    if (this.#state.phase === "closed") return;
    this.#heartbeat.heard();
    if (this.#state.phase === "closing") return;
    this.#sender.hold();
    try {
      this.#decoder.feed(chunk);
      this.#incoming.flush();
    } catch (fault) {
      this.#incoming.flush();
      return this.close(breakOf(fault));
    }
    this.#sender.pump();
  }

  /** The connection is gone, or its peer will send no more. */
  transportClosed(detail?: string): void {
    this.#finish({ reason: "session_lost", detail: detail ?? "the connection was closed" });
  }

  /** Takes no more streams, lets the open ones end, and closes after the last one or after `graceMs`. */
  drain(graceMs: number): void {
    if (this.#state.draining !== undefined || this.#state.phase === "closed" || this.#state.phase === "closing") return;
    if (this.#state.phase === "hello") return this.close({ reason: "draining" });
    this.#state.draining = { reason: "draining" };
    this.#sender.control(this.#goaway("draining", { graceMs, text: "", final: false }));
    this.#drainTimer = this.#clock.after(graceMs, () => this.close({ reason: "draining", detail: "the time to drain is over" }));
    if (this.#ids.live === 0 && this.streams.size === 0) this.close();
  }

  /** Closes in order after the last stream; those that wait to be opened count, too. Whoever calls it opens no more. */
  retire(): void {
    this.#retired = true;
    this.#closeWhenDrained();
  }

  /** Tells the client what it may want to know; of a gateway's session that is ready, `MAX_NOTICES` times at most, else nothing happens. */
  notice(notice: wire.Notice): void {
    if (this.role !== "gateway" || this.#state.phase !== "active" || this.#state.notices >= wire.MAX_NOTICES) return;
    this.#state.notices++;
    this.#sender.control(wire.encodeNotice(notice));
  }

  /** Says goodbye with the reason, then closes; streams that are open break with it. Without a reason: an orderly close. */
  close(broken?: Break): void {
    if (this.#state.phase === "closed" || this.#state.phase === "closing") return this.#closeAgain(broken);
    const refused = this.#state.phase === "hello" && this.role === "gateway" && broken !== undefined;
    if (refused) {
      const later = broken.retryAfter === undefined ? [] : [encodeRetryAfter(broken.retryAfter)];
      this.#sender.control(wire.encodeWelcome({ resumed: Resumed.REFUSED, refusal: toCode(broken.reason) }, later));
    }
    if (refused || this.#state.phase === "active") {
      const text = broken?.reason === "internal" ? "" : (broken?.detail ?? ""); // an internal fault's detail is for our log only
      this.#sender.farewell(this.#goaway(broken?.reason, { graceMs: 0, text, final: true }));
    }
    this.#endOurs(broken, { unbroken: "the session was closed" });
  }

  /** Sends nothing more and waits for the peer to close. Streams break; after an orderly GOAWAY of the peer's only those that miss something. */
  #endOurs(broken: Break | undefined, how: { readonly unbroken: string; readonly butWhole?: boolean }): void {
    this.#state.phase = "closing";
    this.#state.broken = broken;
    this.#roster.breakAll(broken ?? { reason: "session_lost", detail: how.unbroken }, how);
    this.#sender.stop();
    this.#stopTimers();
    this.#transport.end();
    this.#linger(broken);
  }

  /** An orderly end waits for what is on its way, until somebody has no more patience. */
  #closeAgain(broken: Break | undefined): void {
    if (this.#state.broken !== undefined) return;
    this.#roster.breakAll(broken ?? { reason: "session_lost", detail: "the session was closed" });
    if (broken !== undefined) this.#finish(undefined);
  }

  /** Waits for the peer to close; after an orderly end as long as it takes to send what the transport has, within reason. */
  #linger(broken: Break | undefined, waitedMs = LINGER_MS): void {
    this.#lingerTimer = this.#clock.after(LINGER_MS, () => {
      if (broken === undefined && this.#sender.waiting > 0 && waitedMs < DELIVER_MS) this.#linger(broken, waitedMs + LINGER_MS);
      else this.#finish(broken);
    });
  }

  #goaway(reason: Break["reason"] | undefined, how: { readonly graceMs: number; readonly text: string; readonly final: boolean }): Buffer {
    return wire.encodeGoaway({
      lastStreamId: this.#ids.lastPeer,
      code: reason === undefined ? NO_ERROR : toCode(reason),
      grace: how.graceMs,
      text: how.text,
      final: how.final,
    });
  }

  #stopTimers(): void {
    for (const timer of [this.#helloTimer, this.#lingerTimer, this.#drainTimer, this.#deliverTimer]) timer?.cancel();
    this.#helloTimer = this.#lingerTimer = this.#drainTimer = this.#deliverTimer = undefined;
    this.#heartbeat.stop();
    this.#roster.receiver.stop();
  }

  #finish(broken: Break | undefined): void {
    if (this.#state.phase === "closed") return;
    const first = this.#state.phase === "closing" ? this.#state.broken : (this.#state.broken ?? broken);
    const orderly = this.#state.phase === "closing" && first === undefined;
    this.#state.phase = "closed";
    this.#stopTimers();
    this.#roster.breakAll(first ?? { reason: "session_lost" }, { butWhole: orderly });
    this.#sender.stop();
    this.#transport.destroy();
    if (this.streams.size === 0) return this.#clock.soon(() => this.#events.closed(first));
    this.#deliverTimer = this.#clock.after(DELIVER_MS, () =>
      this.#roster.breakAll({ reason: "slow_reader", detail: "the session is over and its last bytes were not read" }),
    );
  }

  // ---- HELLO, WELCOME and GOAWAY FINAL come

  #onHello(peer: Parameters): void {
    if (this.#refusal !== undefined) return this.close(this.#refusal);
    this.#sender.control(wire.encodeWelcome({ resumed: Resumed.FRESH, refusal: 0 }, encodeParameters(this.#own)));
    this.#activate(peer);
  }

  #onWelcome(peer: Parameters): void {
    this.#ids.maxOwn = peer.maxStreamId;
    this.#activate(peer);
    this.#roster.sendOpens();
  }

  /** A GOAWAY follows, and says why in words. */
  #onRefused(refused: Break): void {
    this.#state.draining = this.#state.broken = refused;
    this.#state.phase = "active";
    this.#helloTimer?.cancel();
    this.#lingerTimer = this.#clock.after(LINGER_MS, () => this.#finish(refused));
  }

  #activate(peer: Parameters): void {
    this.#state.phase = "active";
    this.#state.peer = peer;
    this.#sender.credit(peer.sessionLimit);
    this.#helloTimer?.cancel();
    this.#helloTimer = undefined;
    this.#heartbeat.start();
    this.#events.ready?.(peer);
  }

  #onOver(broken: Break | undefined): void {
    const refused = this.#state.broken; // by WELCOME, which alone says when to come again
    this.#endOurs(broken !== undefined && broken.reason === refused?.reason ? { ...refused, ...broken } : broken, {
      unbroken: "the other end closed the session",
      butWhole: broken === undefined,
    });
  }

  // ---- streams go

  #finished(stream: Stream): void {
    this.#incoming.forget(stream);
    if (this.#deliverTimer !== undefined && this.streams.size === 0) this.#delivered();
    this.#closeWhenDrained();
  }

  /** After the end of the session the last of its streams was read. */
  #delivered(): void {
    this.#deliverTimer?.cancel();
    this.#deliverTimer = undefined;
    this.#clock.soon(() => this.#clock.soon(() => this.#events.closed(undefined))); // the stream's own `closed` comes first
  }

  #closeWhenDrained(): void {
    const drained = this.#state.draining !== undefined && this.#drainTimer !== undefined && this.#ids.live === 0;
    const spent = this.#retired && !this.#roster.waits;
    if ((drained || spent) && this.streams.size === 0) this.#clock.soon(() => this.close());
  }
}
