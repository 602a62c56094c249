/**
 * A small HTTP/1.1 server for answers that are made whole: the admin socket. GET only, few connections, short deadlines, so that nobody
 * who may open the socket can hold the process up. Leaves to others: what the answers are.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { SocketAddress } from "../base/address.ts";
import { listenLocally } from "./local-listener.ts";

export interface Answer {
  readonly status: number;
  readonly type: "application/json" | "text/plain; version=0.0.4";
  readonly body: string;
}

const MAX_CONNECTIONS = 16;
/** From accept to close, ms. */
const CONNECTION_MS = 10_000;

/** Serves `answer` (given the path, without its query) until `close`. Rejects with a PipegateError `config` when the address cannot be had. */
export async function serveHttp(address: SocketAddress, answer: (path: string) => Promise<Answer>): Promise<{ close(): void }> {
  const open = new Set<Socket>();
  const server = createServer({ keepAliveTimeout: 1_000, maxHeaderSize: 8_192 }, (request, response) => {
    respond(request, response, answer).catch(() => response.destroy());
  });
  server.on("clientError", (_error, socket) => void socket.destroy());
  const listener = await listenLocally(address, (socket) => {
    if (open.size >= MAX_CONNECTIONS) return void socket.destroy();
    open.add(socket);
    socket.on("error", () => socket.destroy());
    // The server's own deadlines need it to listen itself, and a socket's timeout begins anew with each byte.
    const deadline = setTimeout(() => socket.destroy(), CONNECTION_MS);
    deadline.unref();
    socket.on("close", () => {
      clearTimeout(deadline);
      open.delete(socket);
    });
    server.emit("connection", socket);
    socket.resume(); // it came paused
  });
  return {
    close: () => {
      listener.close();
      for (const socket of open) socket.destroy();
    },
  };
}

async function respond(request: IncomingMessage, response: ServerResponse, answer: (path: string) => Promise<Answer>): Promise<void> {
  request.resume();
  const { status, type, body } =
    request.method === "GET"
      ? await answer((request.url ?? "/").split("?")[0] as string)
      : { status: 405, type: "application/json" as const, body: `{"error":"GET only"}\n` };
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body), "cache-control": "no-store" });
  response.end(body);
}
