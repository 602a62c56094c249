/**
 * How V8 counts the buffers of sockets. By default every 64 MiB of them that came and went start a collection of the whole heap, about 30
 * a GB, which costs a third of the CPU of carrying it (docs/bench.md). Counted with the heap's own limit, they start one when they stay.
 * For a process of our own only: the setting is the process's, so the library leaves it to its program.
 */
import { setFlagsFromString } from "node:v8";

/** Both Node 24 and 26 know the flag, and Deno 2.9. Call it before sockets are used. */
export function countBuffersWithHeap(): void {
  setFlagsFromString("--external-memory-accounted-in-global-limit");
}
