/**
 * The other end: dials the gateway, proves who we are and who it is, and opens pipes over one session. Promises: "connected" means
 * that the gateway welcomed us, not that TLS shook hands; every failure is a PipegateError that says what to check; nothing is
 * retried behind the program's back; a dead session breaks its pipes and never ends them cleanly.
 * Leaves to others: what pipes look like (client/), when to connect again.
 */
import { Buffer } from "node:buffer";
import { parseDial } from "./base/address.ts";
import type { Break } from "./base/channel.ts";
import { type Clock, systemClock } from "./base/clock.ts";
import { PipegateError } from "./base/error.ts";
import { valueOf } from "./base/reading.ts";
import { software } from "./base/software.ts";
import { isPlainText, printable } from "./base/text.ts";
import { BytePipe } from "./client/bytes.ts";
import { checkCredentials } from "./client/credentials.ts";
import { type Attempt, explainFailure } from "./client/failure.ts";
import { errorOf, HeldEnd, heldEndDefaults } from "./client/held-end.ts";
import { JoinedMessages } from "./client/messages.ts";
import {
  type Client,
  type ConnectOptions,
  connectDefaults,
  type MessagePipe,
  openDefaults,
  type OpenOptions,
  type Pipe,
} from "./client/types.ts";
import { ALPN } from "./protocol/frame.ts";
import { Session } from "./protocol/session.ts";
import type { Stream } from "./protocol/stream.ts";
import { DialError, dialTls, errorCode, type TlsConnection } from "./runtime/tls-client.ts";

/** Connects, and resolves once the gateway welcomed us. Rejects with a PipegateError. */
export async function connect(options: ConnectOptions): Promise<Client> {
  return dialSession(options);
}

/** As `connect`, with the streams below the pipes for those who join channels (the command). */
export async function dialSession(options: ConnectOptions): Promise<SessionClient> {
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
  const { own, ca } = checkCredentials(options);
  const attempt: Attempt = { gateway: options.gateway, serverName, own, ca, now: systemClock.wall() };
  const timeoutMs = options.timeoutMs ?? connectDefaults.timeoutMs;
  const limit = new TimeLimit(`${options.gateway} did not let us in within ${timeoutMs / 1000} s`, { timeoutMs, signal: options.signal });
  try {
    const { certificate, key } = options;
    const connection = await dialTls(address, { certificate, key, ca: [options.ca], serverName, alpn: ALPN, signal: limit.signal });
    if (connection.alpn !== ALPN) {
      connection.destroy();
      throw explainFailure({ phase: "handshake", code: "ALERT_NO_APPLICATION_PROTOCOL", message: "" }, attempt);
    }
    const client = new SessionClient(connection, { attempt, clock: systemClock, helloTimeoutMs: timeoutMs, maxMessageBytes });
    await client.welcomed(limit.signal);
    closeOnAbort(client, options.signal);
    return client;
  } catch (error) {
    if (error instanceof DialError) throw explainFailure(error, attempt);
    throw error;
  } finally {
    limit.done();
  }
}

/** One deadline and the program's signal as one signal, whose reason is a PipegateError. */
class TimeLimit {
  readonly #controller = new AbortController();
  readonly #timer: { cancel(): void };
  readonly #outer: AbortSignal | undefined;
  readonly #onAbort = (): void => this.#controller.abort(aborted(this.#outer));

  constructor(sentence: string, { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal | undefined }) {
    this.#outer = signal;
    this.#timer = systemClock.after(timeoutMs, () =>
      this.#controller.abort(new PipegateError("timed_out", sentence, { next: "check the network, or allow it more time" })),
    );
    if (signal?.aborted) this.#onAbort();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
  }
  get signal(): AbortSignal {
    return this.#controller.signal;
  }
  done(): void {
    this.#timer.cancel();
    this.#outer?.removeEventListener("abort", this.#onAbort);
  }
}

/** The program's abort as an error of ours: a deadline (`AbortSignal.timeout`) is told from giving up. */
function aborted(signal: AbortSignal | undefined): PipegateError {
  const cause: unknown = signal?.reason;
  const late = cause instanceof Error && cause.name === "TimeoutError";
  return late
    ? new PipegateError("timed_out", "the time that the program allowed is over", { cause })
    : new PipegateError("cancelled", "the program gave it up", { cause });
}

function closeOnAbort(client: SessionClient, signal: AbortSignal | undefined): void {
  if (!signal) return;
  const onAbort = (): void => void client.close();
  if (signal.aborted) return onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  const forget = (): void => signal.removeEventListener("abort", onAbort);
  client.closed.then(forget, forget);
}

interface SessionClientOptions {
  readonly attempt: Attempt;
  readonly clock: Clock;
  readonly helloTimeoutMs: number;
  readonly maxMessageBytes: number;
}

export class SessionClient implements Client {
  readonly gateway: string;
  /** Resolves when the session ended by `close`; rejects with a PipegateError when it broke. */
  readonly closed: Promise<void>;
  readonly #session: Session;
  readonly #connection: TlsConnection;
  readonly #attempt: Attempt;
  readonly #clock: Clock;
  readonly #maxMessageBytes: number;
  readonly #ready: Promise<void>;
  #closing = false;
  #error: Error | undefined;

  constructor(connection: TlsConnection, { attempt, clock, helloTimeoutMs, maxMessageBytes }: SessionClientOptions) {
    this.#maxMessageBytes = maxMessageBytes;
    this.gateway = attempt.gateway;
    this.#attempt = attempt;
    this.#clock = clock;
    this.#connection = connection;
    let ready!: () => void;
    let closed!: () => void;
    let failed!: (error: PipegateError) => void;
    this.#ready = new Promise((resolve) => (ready = resolve));
    this.closed = new Promise((resolve, reject) => {
      closed = resolve;
      failed = reject;
    });
    this.closed.catch(() => {}); // told; whether anybody listens is the program's matter
    let welcomed = false;
    this.#session = new Session({
      role: "client",
      transport: connection,
      clock,
      parameters: { software, maxMessage: maxMessageBytes },
      helloTimeoutMs,
      events: {
        ready: () => {
          welcomed = true;
          ready();
        },
        closed: (broken) => {
          if (this.#closing || (welcomed && !broken)) closed();
          else failed(this.#explain(broken, welcomed));
        },
      },
    });
    connection.attach({
      data: (chunk) => this.#session.receive(chunk),
      closed: (error) => {
        this.#error = error;
        this.#session.transportClosed(error ? printable(errorCode(error) || error.message, 200) : undefined);
      },
    });
  }

  /** Waits for the gateway's welcome; rejects with why there was none. */
  async welcomed(signal: AbortSignal): Promise<void> {
    let onAbort!: () => void;
    const given = new Promise<never>((_, reject) => {
      onAbort = () => reject(signal.reason as Error);
      if (signal.aborted) onAbort();
      else signal.addEventListener("abort", onAbort, { once: true });
    });
    const early = this.closed.then(() => Promise.reject(new PipegateError("session_lost")));
    try {
      await Promise.race([this.#ready, early, given]);
    } catch (error) {
      this.#connection.destroy();
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      early.catch(() => {});
    }
  }

  open(target: string, options?: OpenOptions & { readonly messages?: false }): Promise<Pipe>;
  open(target: string, options: OpenOptions & { readonly messages: true }): Promise<MessagePipe>;
  async open(target: string, options: OpenOptions = {}): Promise<Pipe | MessagePipe> {
    const timeoutMs = options.timeoutMs ?? openDefaults.timeoutMs;
    const limit = new TimeLimit(`no answer about target ${target} within ${timeoutMs / 1000} s`, { timeoutMs, signal: options.signal });
    try {
      if (limit.signal.aborted) throw limit.signal.reason as Error;
      const stream = this.openStream(target, { messages: options.messages, weight: options.weight });
      const end = new HeldEnd(stream, { clock: this.#clock, closeGraceMs: heldEndDefaults.closeGraceMs });
      await accepted(stream, { closed: end.closed, signal: limit.signal });
      breakOnAbort(stream, { closed: end.closed, signal: options.signal });
      if (options.messages !== true) return new BytePipe(target, end);
      const bounds = { incomingBytes: this.#maxMessageBytes, outgoingBytes: this.#session.peer.maxMessage };
      return new JoinedMessages(target, { end, bounds });
    } finally {
      limit.done();
    }
  }

  /** A stream that can be used at once; when it is refused, it breaks with the reason before it was `accepted`. */
  openStream(target: string, options: Pick<OpenOptions, "messages" | "weight"> = {}): Stream {
    requireTargetName(target);
    const { messages = false, weight } = options;
    return this.#session.open(target, { messages, ...(weight === undefined ? {} : { weight }) });
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#session.close();
    await this.closed.catch(() => {});
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #explain(broken: Break | undefined, welcomed: boolean): PipegateError {
    const error = this.#error;
    if (welcomed || (broken !== undefined && broken.reason !== "session_lost")) return errorOf(broken ?? { reason: "session_lost" });
    return explainFailure({ phase: "welcome", code: errorCode(error), message: error?.message ?? "" }, this.#attempt);
  }
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
