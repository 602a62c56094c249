/**
 * How V8 keeps the memory of a process that carries bytes, for the command's own processes (docs/bench.md, "V8's settings"); what must be
 * set earlier is in scripts/flags.mjs. Promises: nothing but speed and size depends on it. The settings are the process's: the library
 * leaves them to its program.
 */
import { setFlagsFromString } from "node:v8";

/**
 * Call it before anything else is loaded. Node has its own modules compiled, for the flags that V8 has by itself: under any other it compiles
 * each of them anew. The heap has taken its sizes from these flags before; tuneMemory sets them again, for the heaps of other threads.
 */
export function forgetSizes(): void {
  setFlagsFromString("--initial-old-space-size=0");
  setFlagsFromString("--max-semi-space-size=0");
}

/** Call it once everything is loaded, and before sockets are used. Node 24 and 26 and Deno 2.9 know these flags. */
export function tuneMemory(): void {
  // Else every 64 MiB of socket buffers that came and went start a collection of the whole heap, about 30 a GB.
  setFlagsFromString("--external-memory-accounted-in-global-limit");
  // What carries bytes makes garbage that dies at once: a nursery that stays at its first 1 MiB stays in the processor's cache.
  setFlagsFromString("--semi-space-growth-factor=1");
  setFlagsFromString("--initial-old-space-size=64");
  // A regular expression is compiled once, not twice: the one by which Node knows IPv6 takes 8 ms otherwise.
  setFlagsFromString("--no-regexp-tier-up");
}
