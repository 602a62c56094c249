/**
 * What a runtime that we start ourselves is told, so that every way of starting the command does the same: `npm run pipegate`, its deno
 * task, the bench. The first line of src/cli/main.ts says it for the installed command; a test holds the two together.
 */

/** Buffers that come and go count as old space: with V8's own first size it collects the whole heap 10 to 20 times a GB (docs/performance.md). */
const oldSpace = "--initial-old-space-size=64";

/** No debugger on SIGUSR1. */
export const nodeFlags = ["--disable-sigusr1", oldSpace];
export const denoFlags = [`--v8-flags=${oldSpace}`];
