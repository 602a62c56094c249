/**
 * What a runtime that we start ourselves is told, so that every way of starting the command does the same: `npm run pipegate`, its deno
 * task, the bench. The first line of src/cli/main.ts says it for the installed command; a test holds the two together.
 */

/**
 * Sizes that a heap takes when it is made (src/runtime/memory.ts says what follows). Buffers that come and go count as old space: with V8's own
 * first size it collects the whole heap 10 to 20 times a GB (docs/performance.md). The nursery stays at its first 1 MiB.
 */
const sizes = ["--initial-old-space-size=64", "--max-semi-space-size=1"];

/** No debugger on SIGUSR1. */
export const nodeFlags = ["--disable-sigusr1", ...sizes];
export const denoFlags = [`--v8-flags=${sizes.join(",")}`];
