/** One deadline and the program's signal as one signal. Promises: its reason is a PipegateError that says which of them it was. */
import { systemClock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";

/** One deadline and the program's signal as one signal, whose reason is a PipegateError. */
export class TimeLimit {
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
