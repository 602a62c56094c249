/**
 * Keeps what a TLS peer sends for whoever reads it later. Promises: at most 128 KiB wait; whoever sends more, or ends, where the runtime reads on
 * regardless (Deno) is cut. Leaves to others: for how long.
 */
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { facts } from "./facts.ts";
import { cutSocket } from "./socket-channel.ts";

export interface Unread {
  /** Not read from by anybody yet. */
  readonly socket: TLSSocket;
  readonly below: Socket;
  /** Of its gate, where there is one. */
  readonly hold: (() => void) | undefined;
  readonly release: (() => void) | undefined;
}

const MAX_BYTES = 128 << 10;

/** What it returns lets all that came be read: by whoever listens before the callback that runs is over. */
export function keepUnread({ socket, below, hold, release }: Unread): () => void {
  if (hold !== undefined && release !== undefined) {
    hold();
    return release;
  }
  if (facts.holdsTlsReads) return () => {}; // nobody reads, so the runtime stops at its high-water mark
  const kept: Buffer[] = [];
  let bytes = 0;
  const onData = (chunk: Buffer): void => {
    kept.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_BYTES) cutSocket(socket, below);
  };
  const onEnd = (): void => cutSocket(socket, below);
  socket.on("data", onData);
  socket.on("end", onEnd);
  return () => {
    socket.off("data", onData);
    socket.off("end", onEnd);
    if (socket.destroyed) return;
    socket.pause();
    if (bytes > 0) socket.unshift(Buffer.concat(kept));
    socket.resume();
  };
}
