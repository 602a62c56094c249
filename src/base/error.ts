/**
 * The one error type that leaves pipegate: a code from a closed list, a sentence, and a next step.
 * Promises: `message` is one line without control characters and may be printed as it is.
 */
import { explanations, type Reason } from "./reason.ts";
import { printable } from "./text.ts";

/** A reason, or what only an end itself can say: wrong usage or config, gateway not reachable or not proven to be ours, too slow. */
export type ErrorCode = Reason | "usage" | "config" | "unreachable" | "untrusted_gateway" | "timed_out";

export interface PipegateErrorOptions {
  /** What to do next, one sentence. Default: the reason's own. */
  readonly next?: string;
  /** Milliseconds after which another try can succeed (`rate_limited`). */
  readonly retryAfter?: number;
  /** More that belongs to the message, a line each, such as every problem of a config. */
  readonly details?: readonly string[];
  readonly cause?: unknown;
}

export class PipegateError extends Error {
  override readonly name = "PipegateError";
  readonly code: ErrorCode;
  readonly next: string | undefined;
  readonly retryAfter: number | undefined;
  readonly details: readonly string[];

  constructor(code: ErrorCode, message?: string, options: PipegateErrorOptions = {}) {
    const known = Object.hasOwn(explanations, code) ? explanations[code as Reason] : undefined;
    super(printable(message ?? known?.meaning ?? code), options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.next = options.next ?? known?.next;
    this.retryAfter = options.retryAfter;
    this.details = (options.details ?? []).map((line) => printable(line, 1024));
  }
}
