/**
 * One connection to the gateway and its session: dialled, proven on both sides, welcomed. Promises: "connected" means that the gateway
 * welcomed us, not that TLS shook hands; every failure is a PipegateError that says what to check.
 * Leaves to others: pipes, and that a client may have two of these while its certificate is renewed (client.ts).
 */
import type { SocketAddress } from "../base/address.ts";
import type { Break } from "../base/channel.ts";
import { systemClock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import { software } from "../base/software.ts";
import { printable } from "../base/text.ts";
import { ALPN } from "../protocol/frame.ts";
import { Session } from "../protocol/session.ts";
import type { Stream } from "../protocol/stream.ts";
import { DialError, dialTls, errorCode, type TlsConnection } from "../runtime/tls-client.ts";
import { checkCredentials, type ClientCredentials } from "./credentials.ts";
import { type Attempt, explainFailure } from "./failure.ts";
import { errorOf } from "./held-end.ts";
import { TimeLimit } from "./time-limit.ts";
import type { ConnectOptions, Notice, OpenOptions } from "./types.ts";

/** Where the gateway is and how we are with it, whatever certificate we show. */
export interface Peer {
  /** As the user named it. */
  readonly gateway: string;
  readonly address: SocketAddress;
  readonly serverName: string;
  readonly timeoutMs: number;
  readonly maxMessageBytes: number;
  readonly onNotice: ConnectOptions["onNotice"];
}

/** Rejects with a PipegateError; `config` before the network is touched. */
export async function dialSession(
  peer: Peer,
  { credentials, signal }: { readonly credentials: ClientCredentials; readonly signal: AbortSignal | undefined },
): Promise<ClientSession> {
  const { gateway, serverName, timeoutMs } = peer;
  const { own, ca } = checkCredentials(credentials);
  const attempt: Attempt = { gateway, serverName, own, ca, now: systemClock.wall() };
  const limit = new TimeLimit(`${gateway} did not let us in within ${timeoutMs / 1000} s`, { timeoutMs, signal });
  try {
    const { certificate, key } = credentials;
    const connection = await dialTls(peer.address, {
      certificate,
      key,
      ca: [credentials.ca],
      serverName,
      alpn: ALPN,
      signal: limit.signal,
    });
    if (connection.alpn !== ALPN) {
      connection.destroy();
      throw explainFailure({ phase: "handshake", code: "ALERT_NO_APPLICATION_PROTOCOL", message: "" }, attempt);
    }
    const session = new ClientSession(connection, { attempt, peer });
    await session.welcomed(limit.signal);
    return session;
  } catch (error) {
    if (error instanceof DialError) throw explainFailure(error, attempt);
    throw error;
  } finally {
    limit.done();
  }
}

export class ClientSession {
  /** Resolves when the session ended in order; rejects with a PipegateError when it broke. */
  readonly closed: Promise<void>;
  readonly #session: Session;
  readonly #connection: TlsConnection;
  readonly #attempt: Attempt;
  readonly #ready: Promise<void>;
  #closing = false;
  #over = false;
  #error: Error | undefined;

  constructor(connection: TlsConnection, { attempt, peer }: { readonly attempt: Attempt; readonly peer: Peer }) {
    this.#attempt = attempt;
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
      clock: systemClock,
      parameters: { software, maxMessage: peer.maxMessageBytes },
      helloTimeoutMs: peer.timeoutMs,
      events: {
        ready: () => {
          welcomed = true;
          ready();
        },
        notice: ({ certificateExpiresAt }) => {
          if (certificateExpiresAt !== undefined) tell(peer.onNotice, { kind: "certificate_expires", at: new Date(certificateExpiresAt) });
        },
        closed: (broken) => {
          this.#over = true;
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

  /** Whether it takes new streams: neither over nor draining. */
  get takesStreams(): boolean {
    return this.#session.ready && !this.#session.draining && !this.#over;
  }
  /** Largest message that the gateway takes, bytes. */
  get maxMessageBytes(): number {
    return this.#session.peer.maxMessage;
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

  /** A stream that can be used at once; when it is refused, it breaks with the reason before it was `accepted`. */
  open(target: string, { messages = false, weight }: Pick<OpenOptions, "messages" | "weight">): Stream {
    return this.#session.open(target, { messages, ...(weight === undefined ? {} : { weight }) });
  }

  /** Closes after its last stream; nothing is opened on it any more. */
  retire(): void {
    this.#session.retire();
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#session.close();
    await this.closed.catch(() => {});
  }

  #explain(broken: Break | undefined, welcomed: boolean): PipegateError {
    const error = this.#error;
    if (welcomed || (broken !== undefined && broken.reason !== "session_lost")) return errorOf(broken ?? { reason: "session_lost" });
    return explainFailure({ phase: "welcome", code: errorCode(error), message: error?.message ?? "" }, this.#attempt);
  }
}

/** Out of the session's turn: what the program throws there is its own matter. */
function tell(onNotice: ConnectOptions["onNotice"], notice: Notice): void {
  if (onNotice) queueMicrotask(() => onNotice(notice));
}
