/**
 * The other end: dials the gateway, proves who we are and who it is, and opens pipes over one session; while a renewed certificate takes
 * over, over two. Promises: every failure is a PipegateError that says what to check; nothing is retried behind the program's back; a dead
 * session breaks its pipes and never ends them cleanly; a renewal that fails changes nothing, and one that succeeds touches no open pipe.
 * Leaves to others: what pipes look like and one connection's life (client/), when to connect again.
 */
import { Buffer } from "node:buffer";
import { parseDial } from "./base/address.ts";
import { systemClock } from "./base/clock.ts";
import { PipegateError } from "./base/error.ts";
import { valueOf } from "./base/reading.ts";
import { isPlainText } from "./base/text.ts";
import { BytePipe } from "./client/bytes.ts";
import type { ClientCredentials } from "./client/credentials.ts";
import { HeldEnd, heldEndDefaults } from "./client/held-end.ts";
import { JoinedMessages } from "./client/messages.ts";
import { type ClientSession, dialSession, type Peer } from "./client/session.ts";
import { TimeLimit } from "./client/time-limit.ts";
import {
  type Client,
  type ConnectOptions,
  connectDefaults,
  type MessagePipe,
  openDefaults,
  type OpenOptions,
  type Pipe,
  type RenewOptions,
} from "./client/types.ts";
import type { Stream } from "./protocol/stream.ts";

/** Connects, and resolves once the gateway welcomed us. Rejects with a PipegateError. */
export async function connect(options: ConnectOptions): Promise<Client> {
  return dialClient(options);
}

/** As `connect`, with the streams below the pipes for those who join channels (the command). */
export async function dialClient(options: ConnectOptions): Promise<StreamClient> {
  const { certificate, key, ca, signal } = options;
  const peer = peerOf(options);
  const credentials = { certificate, key, ca };
  const client = new StreamClient(await dialSession(peer, { credentials, signal }), { peer, credentials });
  closeOnAbort(client, signal);
  return client;
}

function peerOf(options: ConnectOptions): Peer {
  const address = valueOf(parseDial(options.gateway), {
    text: options.gateway,
    fault: "is not the address of a gateway",
    next: "write host:port, such as gw.example:8443, or unix:/path",
  });
  const serverName = options.serverName ?? (address.kind === "tcp" ? address.host : undefined);
  if (serverName === undefined) {
    throw new PipegateError("usage", "a gateway on a unix socket needs a server name", { next: "pass the name in its certificate" });
  }
  const maxMessageBytes = options.maxMessageBytes ?? connectDefaults.maxMessageBytes;
  if (!Number.isInteger(maxMessageBytes) || maxMessageBytes < 1 || maxMessageBytes > 0xffffffff)
    throw new PipegateError("usage", `maxMessageBytes is ${maxMessageBytes}`, { next: "give a whole number from 1 to 2^32-1" });
  const { gateway, timeoutMs = connectDefaults.timeoutMs, onNotice } = options;
  return { gateway, address, serverName, timeoutMs, maxMessageBytes, onNotice };
}

function closeOnAbort(client: StreamClient, signal: AbortSignal | undefined): void {
  if (!signal) return;
  const onAbort = (): void => void client.close();
  if (signal.aborted) return onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  const forget = (): void => signal.removeEventListener("abort", onAbort);
  client.closed.then(forget, forget);
}

export class StreamClient implements Client {
  readonly gateway: string;
  readonly closed: Promise<void>;
  readonly #peer: Peer;
  #credentials: ClientCredentials;
  /** Where new streams go. */
  #session: ClientSession;
  /** Those whose certificate was renewed, until their last stream ended. */
  readonly #retired = new Set<ClientSession>();
  /** The last renewal, settled whatever came of it; undefined: none is under way. */
  #renewing: Promise<void> | undefined;
  readonly #abort = new AbortController();
  #settle!: (error: Error | undefined) => void;
  #over = false;

  constructor(session: ClientSession, { peer, credentials }: { readonly peer: Peer; readonly credentials: ClientCredentials }) {
    this.gateway = peer.gateway;
    this.#peer = peer;
    this.#credentials = credentials;
    this.#session = session;
    this.closed = new Promise((resolve, reject) => {
      this.#settle = (error) => {
        this.#over = true;
        this.#abort.abort(new PipegateError("cancelled", "the client is closed"));
        if (error === undefined) resolve();
        else reject(error);
      };
    });
    this.closed.catch(() => {}); // told; whether anybody listens is the program's matter
    this.#watch(session);
  }

  open(target: string, options?: OpenOptions & { readonly messages?: false }): Promise<Pipe>;
  open(target: string, options: OpenOptions & { readonly messages: true }): Promise<MessagePipe>;
  async open(target: string, options: OpenOptions = {}): Promise<Pipe | MessagePipe> {
    const timeoutMs = options.timeoutMs ?? openDefaults.timeoutMs;
    const limit = new TimeLimit(`no answer about target ${target} within ${timeoutMs / 1000} s`, { timeoutMs, signal: options.signal });
    try {
      if (limit.signal.aborted) throw limit.signal.reason as Error;
      const { stream, end, outgoingBytes } = await this.#openAccepted(target, { ...options, limit: limit.signal });
      breakOnAbort(stream, { closed: end.closed, signal: options.signal });
      if (options.messages !== true) return new BytePipe(target, end);
      return new JoinedMessages(target, { end, bounds: { incomingBytes: this.#peer.maxMessageBytes, outgoingBytes } });
    } finally {
      limit.done();
    }
  }

  /** The old certificate's session may end before the new one's stands: what was not accepted on it by then has sent nothing, and is opened again. */
  async #openAccepted(target: string, { messages, weight, limit }: OpenOptions & { readonly limit: AbortSignal }): Promise<Accepted> {
    for (;;) {
      if (this.#renewing) await unlessAborted(this.ready(), limit);
      const session = this.#session;
      const stream = this.openStream(target, { messages, weight });
      const end = new HeldEnd(stream, { clock: systemClock, closeGraceMs: heldEndDefaults.closeGraceMs });
      try {
        await accepted(stream, { closed: end.closed, signal: limit });
        return { stream, end, outgoingBytes: session.maxMessageBytes };
      } catch (error) {
        const another = this.#renewing !== undefined || session !== this.#session;
        if (limit.aborted || session.takesStreams || !another) throw error;
      }
    }
  }

  /** A stream that can be used at once; when it is refused, it breaks with the reason before it was `accepted`. */
  openStream(target: string, options: Pick<OpenOptions, "messages" | "weight"> = {}): Stream {
    requireTargetName(target);
    return this.#session.open(target, options);
  }

  /** Before `openStream`: settles once streams are taken, or no renewal is left that could bring a session which takes them. */
  async ready(): Promise<void> {
    while (!this.#session.takesStreams && this.#renewing) await this.#renewing;
  }

  renew(options: RenewOptions): Promise<void> {
    const before = this.#renewing ?? Promise.resolve(); // one after the other: the last one called is the one that stays
    const renewed = before.then(() => this.#renew(options));
    const settled: Promise<void> = renewed
      .catch(() => {})
      .then(() => {
        if (this.#renewing === settled) this.#renewing = undefined;
      });
    this.#renewing = settled;
    return renewed;
  }

  async #renew({ certificate, key, ca = this.#credentials.ca }: RenewOptions): Promise<void> {
    const tooLate = (): PipegateError => new PipegateError("cancelled", "the client is closed", { next: "connect again" });
    if (this.#over) throw tooLate();
    const credentials = { certificate, key, ca };
    const next = await dialSession(this.#peer, { credentials, signal: this.#abort.signal });
    if (this.#over) {
      await next.close();
      throw tooLate();
    }
    const old = this.#session;
    this.#credentials = credentials;
    this.#session = next;
    this.#watch(next);
    this.#retire(old);
  }

  #retire(session: ClientSession): void {
    this.#retired.add(session);
    const forget = (): void => void this.#retired.delete(session);
    session.closed.then(forget, forget);
    session.retire();
  }

  /** The end of the session in use is the client's, unless another one takes its place. */
  #watch(session: ClientSession): void {
    const ended = async (error?: Error): Promise<void> => {
      while (this.#renewing) await this.#renewing;
      if (session === this.#session && !this.#over) this.#settle(error);
    };
    session.closed.then(() => ended(), ended);
  }

  async close(): Promise<void> {
    const sessions = [this.#session, ...this.#retired];
    this.#over = true;
    this.#abort.abort(new PipegateError("cancelled", "the client is closed"));
    await Promise.all(sessions.map((session) => session.close()));
    this.#settle(undefined);
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

interface Accepted {
  readonly stream: Stream;
  readonly end: HeldEnd;
  readonly outgoingBytes: number;
}

/** Waits for what never rejects, but no longer than until the signal fires; then rejects with its reason. */
function unlessAborted(settled: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    void settled.then(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
  });
}

/** Throws a PipegateError `usage` for what no target can be called. */
export function requireTargetName(name: string): void {
  const length = Buffer.byteLength(name, "utf8");
  const fault = length < 1 || length > 255 ? "has 1 to 255 bytes" : isPlainText(name) ? undefined : "has no control characters";
  if (fault !== undefined) throw new PipegateError("usage", `the name of a target ${fault}`, { next: "check the name" });
}

interface Watched {
  readonly closed: Promise<void>;
  readonly signal: AbortSignal;
}

/** Resolves when the gateway accepted the stream; rejects with its refusal, or with the signal's reason after giving it up. */
function accepted(stream: Stream, { closed, signal }: Watched): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason as Error);
      stream.reset({ reason: "cancelled" });
    };
    signal.addEventListener("abort", onAbort, { once: true });
    stream.onAccepted = () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    };
    closed.then(resolve, reject);
  });
}

function breakOnAbort(
  stream: Stream,
  { closed, signal }: { readonly closed: Promise<void>; readonly signal: AbortSignal | undefined },
): void {
  if (!signal) return;
  const onAbort = (): void => stream.reset({ reason: "cancelled" });
  if (signal.aborted) return onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  const forget = (): void => signal.removeEventListener("abort", onAbort);
  closed.then(forget, forget);
}
