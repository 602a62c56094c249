/**
 * Small back ends for tests, over TCP, a unix socket or TLS: `await startBackEnd(echo)`. Each behaviour is told one accepted socket.
 * Promises: errors of a socket are swallowed (a test looks at the gateway's side); `close` cuts what is still open.
 */
import { Buffer } from "node:buffer";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { facts } from "../../src/runtime/facts.ts";
import { Gate } from "../../src/runtime/gate.ts";
import type { TargetOptions } from "../../src/target/target.ts";

export type Behaviour = (socket: Socket, backEnd: BackEnd) => void;

export interface BackEnd {
  readonly host: string;
  readonly port: number;
  /** Of the unix socket; empty for TCP. */
  readonly path: string;
  /** Connections that were accepted so far, and bytes that were read by behaviours which count. */
  connections: number;
  received: number;
  /** The accepted sockets that are open. */
  readonly sockets: ReadonlySet<Socket>;
  /** Stops reading from all connections, or goes on. */
  stall(stalled: boolean): void;
  /** Cuts all connections with a RST, under TLS too. */
  reset(): void;
  close(): Promise<void>;
}

export interface BackEndOptions {
  /** Default: TCP on 127.0.0.1. */
  readonly unix?: boolean;
  /** TLS over TCP, with these options of node:tls. */
  readonly tls?: TlsOptions;
}

/** A target that is this back end, over TCP; its messages have their length before them. */
export function targetOf({ host, port }: Pick<BackEnd, "host" | "port">): TargetOptions & { readonly kind: "tcp" } {
  return { kind: "tcp", addresses: [{ kind: "tcp", host, port }], framing: "u32", dialTimeoutMs: 5_000 };
}

export async function startBackEnd(behaviour: Behaviour, options: BackEndOptions = {}): Promise<BackEnd> {
  const sockets = new Set<Socket>();
  const below = new Set<Socket>(); // the TCP sockets, those under TLS too
  const gates = new Set<Gate>();
  const accept = (socket: Socket): void => {
    socket.on("error", () => socket.destroy());
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    backEnd.connections++;
    behaviour(socket, backEnd);
  };
  const shake = options.tls === undefined ? undefined : createTlsServer({ ...options.tls, allowHalfOpen: true } as TlsOptions, accept);
  shake?.on("tlsClientError", (_error: Error, socket: Socket) => socket.destroy());
  const server: Server = createNetServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    below.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => below.delete(socket));
    if (shake === undefined) return accept(socket);
    if (facts.holdsTlsReads) return void shake.emit("connection", socket);
    const gate = new Gate(socket); // Deno's own TLS sockets do not stop reading, and show a RST as an end
    gates.add(gate);
    gate.on("error", () => {});
    gate.on("close", () => gates.delete(gate));
    shake.emit("connection", gate);
  });
  const folder = options.unix ? await mkdtemp(join(tmpdir(), "pipegate-back-end-")) : "";
  const path = folder && join(folder, "s");
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    if (path) server.listen(path, resolve);
    else server.listen(0, "127.0.0.1", resolve);
  });
  const port = path ? 0 : (server.address() as AddressInfo).port;
  const backEnd: BackEnd = {
    host: "127.0.0.1",
    port,
    path,
    connections: 0,
    received: 0,
    sockets,
    stall(stalled) {
      for (const gate of gates) {
        if (stalled) gate.hold();
        else gate.release();
      }
      for (const socket of sockets) {
        if (stalled) socket.pause();
        else socket.resume();
      }
    },
    reset() {
      for (const socket of below) socket.resetAndDestroy();
    },
    async close() {
      for (const socket of [...sockets, ...below]) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      if (folder) await rm(folder, { recursive: true, force: true });
    },
  };
  return backEnd;
}

/** Sends back what comes, and ends after its client did. */
export const echo: Behaviour = (socket) => {
  socket.on("data", (chunk: Buffer) => {
    if (!socket.write(chunk)) socket.pause();
  });
  socket.on("drain", () => socket.resume());
  socket.on("end", () => socket.end());
};

/** Reads and counts, answers nothing, ends after its client did. */
export const sink: Behaviour = (socket, backEnd) => {
  socket.on("data", (chunk) => (backEnd.received += chunk.length));
  socket.on("end", () => socket.end());
};

/** Accepts and does nothing: neither reads nor writes. */
export const silent: Behaviour = (_socket, backEnd) => backEnd.stall(true);

const endlessly = Buffer.alloc(64 << 10, "endless");

/** Writes without end, and never reads. */
export const endless: Behaviour = (socket) => {
  socket.pause();
  const fill = (): void => {
    while (!socket.destroyed && socket.write(endlessly));
  };
  socket.on("drain", fill);
  fill();
};

/** Byte `at` of what `source` and `answering` send. */
export function sourceByte(at: number): number {
  return (at * 31 + (at >>> 8)) & 0xff;
}

export function sourceBytes(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => sourceByte(at));
}

/** Sends so many bytes and closes, without waiting for the client. */
export function source(length: number): Behaviour {
  return (socket) => {
    socket.resume();
    socket.end(sourceBytes(length));
  };
}

/** Reads to the client's end, then answers with so many bytes and ends. */
export function answering(length: number): Behaviour {
  return (socket, backEnd) => {
    socket.on("data", (chunk) => (backEnd.received += chunk.length));
    socket.on("end", () => socket.end(sourceBytes(length)));
  };
}

/** Ends its own direction at once and goes on reading and counting. */
export const halfClosing: Behaviour = (socket, backEnd) => {
  socket.on("data", (chunk) => (backEnd.received += chunk.length));
  socket.end();
};

/** A RST and nothing else: `resetAndDestroy` sends a FIN first, which may be seen as an end. */
export function cut(socket: Socket): void {
  Object.assign(socket, { resetAndClosing: true, _resetAndClosing: true });
  socket.destroy();
}

/** Sends `before`, waits for a byte of the client, and cuts the connection with a RST. */
export function resetting(before: Uint8Array = new Uint8Array(0)): Behaviour {
  return (socket) => {
    if (before.length > 0) socket.write(before);
    socket.once("data", () => cut(socket));
  };
}

/** Answers each u32-framed message with `answer(message)`, framed alike; with the message itself by default. */
export function u32Responder(answer: (message: Uint8Array) => Uint8Array = (message) => message): Behaviour {
  return (socket) => {
    let held: Buffer = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      held = Buffer.concat([held, chunk]);
      const out: Uint8Array[] = [];
      let at = 0;
      while (held.length - at >= 4) {
        const length = held.readUInt32BE(at);
        if (held.length - at - 4 < length) break;
        const message = answer(held.subarray(at + 4, at + 4 + length));
        const prefix = Buffer.alloc(4);
        prefix.writeUInt32BE(message.length);
        out.push(prefix, message);
        at += 4 + length;
      }
      held = held.subarray(at);
      if (out.length > 0) socket.write(Buffer.concat(out));
    });
    socket.on("end", () => socket.end());
  };
}
