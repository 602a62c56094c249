/**
 * Time as a value that is handed in. `systemClock` is the real one; tests use test/support/fake-clock.ts.
 * Promises: timers of `systemClock` do not keep the process alive.
 */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the epoch, for validity and logs. */
  wall(): number;
  /** Monotonic milliseconds (fractions possible), for rates and deadlines. */
  now(): number;
  /** Calls `act` once after `ms` milliseconds. */
  after(ms: number, act: () => void): Timer;
  /** Calls `act` once, after everything that this turn of the event loop still brings. */
  soon(act: () => void): void;
}

const longest = 2 ** 31 - 1; // setTimeout fires at once beyond this

export const systemClock: Clock = {
  wall: () => Date.now(),
  now: () => performance.now(),
  after(ms, act) {
    const handle = setTimeout(act, Math.min(Math.max(0, Math.ceil(ms)), longest));
    (handle as { unref?: () => void }).unref?.();
    return { cancel: () => clearTimeout(handle) };
  },
  soon: (act) => void setImmediate(act),
};
