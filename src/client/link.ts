/**
 * A session that comes back: dialled, watched, and dialled again after it broke, with full jitter between 200 ms and 30 s.
 * Promises: one attempt at a time; refusals that another try cannot mend end the link with their reason; who asks for the session
 * while it is away waits no longer than it says. Leaves to others: what is sent over it, what may mend a refusal, and telling a person.
 */
import type { Clock, Timer } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { ErrorCode } from "../base/error.ts";
import type { Client } from "./types.ts";

/** What to do about a refusal that time does not mend: dial at once, for something is different now; wait for `retry`; or give up. */
export type Hope = "again" | "wait" | "end";

export interface LinkOptions<Session extends Client> {
  dial(signal: AbortSignal): Promise<Session>;
  /** Asked about each refusal that time does not mend; never rejects. Default: give up. */
  hope?(error: PipegateError): Promise<Hope>;
  readonly clock: Clock;
  /** 0 up to 1; default Math.random. */
  readonly random?: () => number;
  readonly events: LinkEvents;
}

export interface LinkEvents {
  connected(): void;
  /** The session broke, or an attempt failed; the next one comes after `waitMs`. */
  away(error: PipegateError, waitMs: number): void;
  /** There is no session, and none is dialled until `retry`. */
  waiting?(error: PipegateError): void;
  /** Once: another try cannot succeed, or `close` was called (undefined). */
  over(error: PipegateError | undefined): void;
}

export const linkDefaults = { firstBackoffMs: 200, longestBackoffMs: 30_000 } as const;

/** Where trying again can help; every other code is a matter of certificates, policy or settings, which waiting does not mend. */
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "unreachable",
  "timed_out",
  "session_lost",
  "draining",
  "rate_limited",
  "too_many_connections",
  "handshake_timeout",
  "preface_timeout",
  "idle_timeout",
  "slow_reader",
  "excessive_load",
  "internal",
  "unknown_issuer", // a gateway that goes away between TLS and its welcome looks like one that does not know our CA
]);

export function mayPass(error: PipegateError): boolean {
  return passing.has(error.code);
}

/** Milliseconds before attempt `attempt` (0 for the first after a break); `random` is 0 up to 1. */
export function backoffMs(attempt: number, random: number): number {
  const cap = Math.min(linkDefaults.longestBackoffMs, linkDefaults.firstBackoffMs * 2 ** Math.min(attempt, 20));
  return Math.max(1, Math.round(random * cap));
}

interface Waiter {
  resolve(): void;
}

export class Link<Session extends Client> {
  readonly #options: LinkOptions<Session>;
  readonly #abort = new AbortController();
  #session: Session | undefined;
  #attempt = 0;
  #timer: Timer | undefined;
  #waiters = new Set<Waiter>();
  #over = false;
  /** An attempt, or the question after one that failed, is under way. */
  #busy = false;
  /** `retry` was called meanwhile. */
  #mended = false;

  /** Starts with a session that stands already: the first dial is the caller's, so that its failure can be told at once. */
  constructor(session: Session, options: LinkOptions<Session>) {
    this.#options = options;
    this.#adopt(session);
  }

  /** The session, if there is one now. */
  get live(): Session | undefined {
    return this.#session;
  }

  /** Something changed that may mend what was wrong: dials at once if there is no session. */
  retry(): void {
    if (this.#over || this.#session) return;
    if (this.#busy) {
      this.#mended = true;
      return;
    }
    this.#timer?.cancel();
    void this.#again();
  }

  /** The session, or undefined when there was none within `waitMs`. */
  async session(waitMs: number): Promise<Session | undefined> {
    if (this.#session || this.#over) return this.#session;
    await new Promise<void>((resolve) => {
      const waiter: Waiter = { resolve };
      const timer = this.#options.clock.after(waitMs, () => {
        this.#waiters.delete(waiter);
        resolve();
      });
      waiter.resolve = () => {
        timer.cancel();
        resolve();
      };
      this.#waiters.add(waiter);
    });
    return this.#session;
  }

  async close(): Promise<void> {
    this.#end(undefined);
    await this.#session?.close();
  }

  #adopt(session: Session): void {
    this.#session = session;
    this.#mended = false;
    const since = this.#options.clock.now();
    const gone = (error: PipegateError): void => {
      this.#session = undefined;
      // A session that held for a while starts the count anew; one that breaks at once must not be dialled in a tight ring.
      if (this.#options.clock.now() - since >= linkDefaults.longestBackoffMs) this.#attempt = 0;
      this.#failed(error);
    };
    session.closed.then(
      () => gone(new PipegateError("session_lost", "the gateway closed the connection")),
      (error: unknown) => gone(error instanceof PipegateError ? error : new PipegateError("internal", String(error))),
    );
    this.#options.events.connected();
    this.#wake();
  }
  #failed(error: PipegateError): void {
    if (this.#over) return;
    if (!mayPass(error)) return void this.#refused(error);
    if (this.#mended) return void this.#again();
    const waitMs = Math.max(backoffMs(this.#attempt++, (this.#options.random ?? Math.random)()), error.retryAfter ?? 0);
    this.#timer = this.#options.clock.after(waitMs, () => void this.#again());
    this.#options.events.away(error, waitMs);
  }
  async #refused(error: PipegateError): Promise<void> {
    const { hope, events } = this.#options;
    if (!hope) return this.#end(error);
    this.#busy = true;
    const verdict = await hope(error);
    this.#busy = false;
    if (this.#over) return;
    if (verdict === "again" || this.#mended) return void this.#again();
    if (verdict === "wait") events.waiting?.(error);
    else this.#end(error);
  }
  async #again(): Promise<void> {
    this.#busy = true;
    this.#mended = false;
    const outcome = await this.#dial();
    this.#busy = false;
    if (outcome instanceof PipegateError) this.#failed(outcome);
    else if (this.#over) await outcome.close();
    else this.#adopt(outcome);
  }
  async #dial(): Promise<Session | PipegateError> {
    try {
      return await this.#options.dial(this.#abort.signal);
    } catch (error) {
      return error instanceof PipegateError ? error : new PipegateError("internal", String(error));
    }
  }
  #end(error: PipegateError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#abort.abort();
    this.#wake();
    this.#options.events.over(error);
  }
  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = new Set();
    for (const waiter of waiters) waiter.resolve();
  }
}
