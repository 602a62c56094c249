/**
 * A channel held for the program: attached and paused at once, kept in view until a face takes it (web streams, a Node Duplex,
 * messages). Promises: what happened before a face took it is told to the face; writes settle when the channel takes more;
 * `closed` is told once and never becomes an unhandled rejection; the first reason wins.
 * Leaves to others: how bytes look to the program (bytes.ts, duplex.ts, messages.ts).
 */
import type { Break, Channel } from "../base/channel.ts";
import type { Clock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import { explanations } from "../base/reason.ts";

/** What a face wants to hear. Each is called at most once but `data`; `broke` and `end` exclude each other. */
export interface Face {
  data(chunk: Uint8Array, last: boolean): void;
  end(): void;
  broke(error: PipegateError): void;
}

export interface HeldEndOptions {
  readonly clock: Clock;
  /** How long `close` waits for the other side's end before it breaks the pipe off. */
  readonly closeGraceMs: number;
}

export const heldEndDefaults = { closeGraceMs: 5_000 } as const;

/** The error that a program sees for a break. */
export function errorOf(broken: Break): PipegateError {
  const { meaning } = explanations[broken.reason];
  return new PipegateError(broken.reason, broken.detail ? `${meaning} (${broken.detail})` : meaning, {
    ...(broken.retryAfter === undefined ? {} : { retryAfter: broken.retryAfter }),
  });
}

interface Waiting {
  resolve(): void;
  reject(error: PipegateError): void;
}

export class HeldEnd {
  readonly #channel: Channel;
  readonly #options: HeldEndOptions;
  #face: Face | undefined;
  #faceName: string | undefined;
  #waiting: Waiting[] = [];
  #full = false;
  #ended = false;
  #finished = false;
  #isClosed = false;
  #error: PipegateError | undefined;
  readonly #outcome: Promise<void>;
  #resolve!: () => void;
  #reject!: (error: PipegateError) => void;

  constructor(channel: Channel, options: HeldEndOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#outcome = new Promise<void>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#outcome.catch(() => {}); // told; whether anybody listens is the program's matter
    channel.pause();
    channel.attach({
      data: (chunk, last) => this.#face?.data(chunk, last),
      end: () => this.#onEnd(),
      drained: () => this.#onDrained(),
      closed: (broken) => this.#onClosed(broken),
    });
  }

  /** Resolves when both directions ended cleanly; rejects with a PipegateError when the pipe broke. */
  get closed(): Promise<void> {
    return this.#outcome;
  }
  /** Whether our direction was ended. */
  get finished(): boolean {
    return this.#finished;
  }
  /** Whether their direction was ended. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Gives the end to a face, named as the program knows it; a second one is refused, for bytes can only go one way. */
  take(name: string, face: Face): void {
    if (this.#faceName !== undefined) {
      throw new PipegateError("usage", `the pipe is already read through ${this.#faceName}, not ${name}`, {
        next: "use one of them",
      });
    }
    this.#faceName = name;
    this.#face = face;
    if (this.#error) face.broke(this.#error);
    else if (this.#ended) face.end();
  }

  pause(): void {
    this.#channel.pause();
  }
  resume(): void {
    this.#channel.resume();
  }

  /** Hands a copy over: the program may use its buffer again. Undefined, or a promise that settles when more may come. */
  write(chunk: Uint8Array, last: boolean): Promise<void> | undefined {
    if (this.#error) return Promise.reject(this.#error);
    if (this.#finished || this.#isClosed) {
      return Promise.reject(new PipegateError("usage", "the pipe's writing side was closed before", { next: "write before closing it" }));
    }
    if (!this.#channel.write(new Uint8Array(chunk), last)) this.#full = true;
    if (!this.#full) return undefined;
    return new Promise<void>((resolve, reject) => void this.#waiting.push({ resolve, reject }));
  }

  closeWrite(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#channel.closeWrite();
  }

  /** Breaks both directions off. */
  reset(broken: Break): void {
    this.#channel.reset(broken);
  }

  /** Ends our direction, throws away what still comes, and waits for their end; after the grace, breaks off. */
  async close(): Promise<void> {
    this.closeWrite();
    this.#faceName ??= "close()";
    const face = this.#face;
    this.#face = { data: () => {}, end: () => face?.end(), broke: (error) => face?.broke(error) };
    this.#channel.resume();
    const timer = this.#options.clock.after(this.#options.closeGraceMs, () => this.#channel.reset({ reason: "cancelled" }));
    await this.#outcome.catch(() => {});
    timer.cancel();
  }

  /** Leaving the scope: a pipe whose writing side the program did not end is broken off, so that half a payload never looks whole. */
  async dispose(): Promise<void> {
    if (this.#finished) return this.close();
    this.#channel.reset({ reason: "cancelled" });
    await this.#outcome.catch(() => {});
  }

  #onEnd(): void {
    this.#ended = true;
    this.#face?.end();
  }
  #onDrained(): void {
    this.#full = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve } of waiting) resolve();
  }
  #onClosed(broken: Break | undefined): void {
    this.#isClosed = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    if (!broken) {
      for (const { resolve } of waiting) resolve();
      this.#resolve();
      return;
    }
    this.#error = errorOf(broken);
    for (const { reject } of waiting) reject(this.#error);
    this.#face?.broke(this.#error);
    this.#reject(this.#error);
  }
}
