/**
 * A session on a TLS socket, for both ends. The socket is always read (its credit bounds what arrives), never paused.
 * Promises: the socket's end, error or close ends the session once. Leaves to others: the handshake, who the peer is.
 */
import type { Buffer } from "node:buffer";
import type { TLSSocket } from "node:tls";
import { Session, type SessionOptions } from "../protocol/session.ts";

export function sessionOver(socket: TLSSocket, options: Omit<SessionOptions, "transport">): Session {
  const session = new Session({
    ...options,
    transport: {
      write: (chunk, written) => void socket.write(chunk, written),
      end: () => void socket.end(),
      destroy: () => void socket.destroy(),
    },
  });
  socket.on("data", (chunk: Buffer) => session.receive(chunk));
  socket.on("end", () => session.transportClosed("the other end closed the connection"));
  socket.on("error", (error: Error) => session.transportClosed(error.message));
  socket.on("close", () => session.transportClosed());
  return session;
}
