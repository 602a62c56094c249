/**
 * Time as a value that is handed in. `systemClock` is the real one; tests use test/support/fake-clock.ts.
 * Promises: timers of `systemClock` do not keep the process alive; its `now` is the same in all threads of the process.
 */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the epoch, for validity and logs. */
  wall(): number;
  /** Monotonic milliseconds (fractions possible), for rates and deadlines. From when they count means nothing. */
  now(): number;
  /** Calls `act` once after `ms` milliseconds. */
  after(ms: number, act: () => void): Timer;
  /** Calls `act` once, after everything that this turn of the event loop still brings. */
  soon(act: () => void): void;
}

const longest = 2 ** 31 - 1; // setTimeout fires at once beyond this

class SystemTimer implements Timer {
  readonly #handle: ReturnType<typeof setTimeout>;

  constructor(act: () => void, ms: number) {
    this.#handle = setTimeout(act, ms);
    (this.#handle as { unref?: () => void }).unref?.();
  }
  cancel(): void {
    clearTimeout(this.#handle);
  }
}

// Where threads count from their own starts (Deno), the starts are of the wall clock: a step of it between two starts stays between them.
const { timeOrigin } = performance;

export const systemClock: Clock = {
  wall: () => Date.now(),
  now: () => timeOrigin + performance.now(),
  after(ms, act) {
    return new SystemTimer(act, Math.min(Math.max(0, Math.ceil(ms)), longest));
  },
  soon: (act) => void setImmediate(act),
};

/** Resolves when `done` does, or after `ms`; rejects as `done` does, when it does before. */
export async function within(done: Promise<unknown>, { ms, clock }: { readonly ms: number; readonly clock: Clock }): Promise<void> {
  let timer: Timer | undefined;
  const enough = new Promise<void>((resolve) => (timer = clock.after(ms, resolve)));
  try {
    await Promise.race([done, enough]);
  } finally {
    timer?.cancel();
  }
}
