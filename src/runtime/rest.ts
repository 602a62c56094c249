/**
 * A pause of reading that lasts to the next turn of the event loop. Node reads up to 2 MiB of a socket before it looks at another.
 * Promises: reading goes on by itself; the stream's own pause and flow are not touched. Where the runtime takes its reads in turn
 * (Deno), or does not let us, nothing happens.
 */
import type { Socket } from "node:net";
import { facts } from "./facts.ts";

interface Handle {
  readStop?(): unknown;
  readStart?(): unknown;
}

const handleOf = (socket: Socket): Handle | null | undefined => (socket as { readonly _handle?: Handle | null })._handle;

export function restReading(socket: Socket): void {
  const handle = handleOf(socket);
  if (facts.name !== "node" || handle?.readStop === undefined || handle.readStart === undefined) return;
  handle.readStop();
  setImmediate(() => {
    if (!socket.destroyed && handleOf(socket) === handle) handle.readStart?.();
  });
}
