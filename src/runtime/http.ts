/**
 * A small HTTP/1.1 server for answers that are made whole: the admin socket. GET and POST, one request a connection, few connections, bounded
 * bodies, short deadlines, so that nobody who may open the socket can hold the process up. Leaves to others: what the answers are.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { SocketAddress } from "../base/address.ts";
import { systemClock, type Clock, type Timer } from "../base/clock.ts";
import { listenLocally } from "./local-listener.ts";
import { createServer } from "./node-http.ts";

export interface Question {
  readonly method: "GET" | "POST";
  /** Without its query. */
  readonly path: string;
  /** Empty for GET. */
  readonly body: string;
}

export interface Answer {
  readonly status: number;
  readonly type: "application/json" | "text/plain; version=0.0.4";
  readonly body: string;
  /** With 405: what there is. */
  readonly allow?: "GET" | "POST";
}

const MAX_CONNECTIONS = 16;
/** From accept to the end of the request, and from the answer to the close, ms. */
const EXCHANGE_MS = 10_000;
/** For making an answer, ms: a reload may take its time. */
const ANSWER_MS = 60_000;
/** Who asks hears something by then, ms: whoever waits a little longer than this gives up after the server, never before. */
export const longestExchangeMs: number = EXCHANGE_MS + ANSWER_MS + EXCHANGE_MS;
const MAX_BODY = 1 << 20;

export interface HttpOptions {
  answer(question: Question): Promise<Answer>;
  readonly clock?: Clock;
}

/** Serves answers until `close`. Rejects with a PipegateError `config` when the address cannot be had. */
export async function serveHttp(address: SocketAddress, { answer, clock = systemClock }: HttpOptions): Promise<{ close(): void }> {
  const open = new Map<Socket, { within(ms: number): void; asked: boolean }>();
  const server = createServer({ keepAliveTimeout: 1_000, maxHeaderSize: 8_192 }, (request, response) => {
    const connection = open.get(request.socket);
    if (connection === undefined || connection.asked) return; // the answer to its first request closes it
    connection.asked = true;
    respond(request, response, { answer, clock, within: connection.within }).catch(() => response.destroy());
  });
  server.on("clientError", (_error, socket) => void socket.destroy());
  const listener = await listenLocally(address, (socket) => {
    if (open.size >= MAX_CONNECTIONS) return void socket.destroy();
    socket.on("error", () => socket.destroy());
    // The server's own deadlines need it to listen itself, and a socket's timeout begins anew with each byte.
    let deadline: Timer | undefined;
    const within = (ms: number): void => {
      deadline?.cancel();
      if (!socket.destroyed) deadline = clock.after(ms, () => socket.destroy());
    };
    within(EXCHANGE_MS);
    open.set(socket, { within, asked: false });
    socket.on("close", () => {
      deadline?.cancel();
      open.delete(socket);
    });
    server.emit("connection", socket);
    socket.resume(); // it came paused
  });
  return {
    close: () => {
      listener.close();
      for (const socket of open.keys()) socket.destroy();
    },
  };
}

interface Exchange {
  answer(question: Question): Promise<Answer>;
  readonly clock: Clock;
  within(ms: number): void;
}

async function respond(request: IncomingMessage, response: ServerResponse, { answer, clock, within }: Exchange): Promise<void> {
  const { method } = request;
  const path = (request.url ?? "/").split("?")[0] as string;
  if (method !== "GET" && method !== "POST") {
    request.resume();
    return send(response, fault(405, "GET and POST only"));
  }
  const body = await readBody(request);
  if (body === undefined) return send(response, fault(413, `the body is larger than ${MAX_BODY} bytes`));
  within(ANSWER_MS + EXCHANGE_MS);
  const made = await inTime(answer({ method, path, body: method === "GET" ? "" : body }), clock);
  within(EXCHANGE_MS);
  send(response, made);
}

/** What takes too long goes on, but nobody waits for it any more. */
async function inTime(answer: Promise<Answer>, clock: Clock): Promise<Answer> {
  let timer: Timer | undefined;
  const late = new Promise<Answer>((resolve) => {
    timer = clock.after(ANSWER_MS, () => resolve(fault(504, `no answer came of it within ${ANSWER_MS / 1000} s; it may yet`)));
  });
  return Promise.race([answer, late]).finally(() => timer?.cancel());
}

/** Undefined: it is too large. That is told when all of it has come, kept by nobody: who is still sending would not hear it. */
function readBody(request: IncomingMessage): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let length = 0;
    request.on("error", reject);
    request.on("data", (part: Buffer) => {
      length += part.length;
      if (length <= MAX_BODY) parts.push(part);
      else parts.length = 0;
    });
    request.on("end", () => resolve(length > MAX_BODY ? undefined : Buffer.concat(parts).toString("utf8")));
  });
}

function fault(status: number, error: string): Answer {
  return { status, type: "application/json", body: `${JSON.stringify({ error })}\n` };
}

function send(response: ServerResponse, { status, type, body, allow }: Answer): void {
  const length = Buffer.byteLength(body);
  const headers = { "content-type": type, "content-length": length, "cache-control": "no-store", connection: "close" };
  response.writeHead(status, allow === undefined ? headers : { ...headers, allow });
  response.end(body);
}
