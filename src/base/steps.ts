/**
 * Long work that can be left and taken up again: a generator that yields every millisecond or so, written once and driven either way.
 * Promises: `paced` never keeps the event loop for much longer than a step and SLICE_MS; what the work throws comes out of both.
 * Leaves to others: how long a step is.
 */
export type Steps<Result> = Generator<void, Result, void>;

const SLICE_MS = 8;

/** Does it now, all of it. */
export function atOnce<Result>(steps: Steps<Result>): Result {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Does it between other events. */
export async function paced<Result>(steps: Steps<Result>): Promise<Result> {
  for (;;) {
    const until = performance.now() + SLICE_MS;
    do {
      const step = steps.next();
      if (step.done === true) return step.value;
    } while (performance.now() < until);
    await new Promise<void>((resolve) => void setImmediate(resolve));
  }
}
