/**
 * How the command ends: one status a kind of end, as the manual lists them, and the one line that goes with it.
 * Promises: a pipe that broke never ends with 0. Leaves to others: printing, and what led here.
 */
import { PipegateError } from "../base/error.ts";
import { isReason } from "../base/reason.ts";

/** 0 done; 2 wrong usage or config; 3 cannot reach the gateway; 4 refused; 5 the pipe broke; 6 timed out; 1 a fault of ours, or an answer that could not be written. */
export const Status = { done: 0, fault: 1, usage: 2, unreachable: 3, refused: 4, broke: 5, timedOut: 6 } as const;
export type Status = (typeof Status)[keyof typeof Status];

/** A pipe that was open and broke: whatever the reason, that is not a refusal any more. */
export class PipeBroke extends Error {
  override readonly name = "PipeBroke";
  readonly error: PipegateError;
  /** Nothing needs to be said: whoever read our output went away and knows it. */
  readonly quietly: boolean;

  constructor(error: PipegateError, { quietly = false }: { readonly quietly?: boolean } = {}) {
    super(error.message, { cause: error });
    this.error = error;
    this.quietly = quietly;
  }
}

export interface Ending {
  readonly status: Status;
  /** What a person is told; undefined: nothing. */
  readonly line: string | undefined;
  /** Lines that follow it. */
  readonly more?: readonly string[];
}

function stackOf(error: unknown): string[] {
  return error instanceof Error ? (error.stack ?? "").split("\n").slice(1) : [];
}

export function endingOf(error: unknown): Ending {
  if (error instanceof PipeBroke) {
    return { status: Status.broke, line: error.quietly ? undefined : `pipegate: the pipe broke: ${told(error.error)}` };
  }
  if (error instanceof PipegateError) {
    const status = statusOf(error);
    return { status, line: `pipegate: ${heads[status]}${told(error)}`, more: error.details };
  }
  return { status: Status.fault, line: `pipegate: a fault of pipegate itself, please report it: ${String(error)}`, more: stackOf(error) };
}

const heads: Readonly<Record<Status, string>> = {
  [Status.done]: "",
  [Status.fault]: "",
  [Status.usage]: "",
  [Status.unreachable]: "cannot reach the gateway: ",
  [Status.refused]: "refused: ",
  [Status.broke]: "the pipe broke: ",
  [Status.timedOut]: "timed out: ",
};

/** The status of an error that came before a pipe was open. */
function statusOf({ code }: PipegateError): Status {
  switch (code) {
    case "usage":
    case "config":
      return Status.usage;
    case "unreachable":
    case "untrusted_gateway":
    case "not_tls":
    case "session_lost":
      return Status.unreachable;
    case "timed_out":
    case "handshake_timeout":
    case "preface_timeout":
    case "target_timeout":
      return Status.timedOut;
    case "cancelled":
      return Status.broke;
    default:
      return isReason(code) ? Status.refused : Status.fault;
  }
}

/** The sentence and the next step: `<meaning>. <Next>`. */
function told({ code, message, next, retryAfter }: PipegateError): string {
  // Rounded up: who comes at the time that is shown does not come too early.
  const wait = retryAfter === undefined ? undefined : `try again after ${(Math.max(1, Math.ceil(retryAfter / 100)) / 10).toFixed(1)} s`;
  const steps = (code === "rate_limited" && wait !== undefined ? [wait] : [next, wait]).filter((step) => step !== undefined);
  return `${[message, ...steps.map((step) => `${step.charAt(0).toUpperCase()}${step.slice(1)}`)].join(". ")}.`;
}
