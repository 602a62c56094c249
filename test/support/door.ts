/** A listener of this process on loopback with what it said: for tests of the door. Connections are closed with it; sockets are counted. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { expect } from "vitest";
import { listen, type Listener } from "../../src/tls/listener.ts";
import type { AnswerableRefusal, ListenerRefusal, SecureConnection } from "../../src/tls/listener-events.ts";
import type { ListenerOptions } from "../../src/tls/listener-options.ts";
import { doorOptions } from "./door-options.ts";
import type { TestCa } from "./mint.ts";

export interface DoorSetup {
  readonly ca: TestCa;
  readonly options?: Partial<ListenerOptions>;
  /** What to do with a connection; default: answer `hello` and its end with ours. */
  readonly serve?: (connection: SecureConnection) => void;
}

/** With what a socket does not say any more once it is closed. */
export interface SeenConnection extends SecureConnection {
  readonly resumed: boolean;
}

export interface TestDoor extends AsyncDisposable {
  readonly listener: Listener;
  readonly port: number;
  readonly connections: readonly SeenConnection[];
  readonly refusals: readonly ListenerRefusal[];
  /** Those of them that were to be told. */
  readonly answers: readonly AnswerableRefusal[];
  /** Waits for the next refusal that was not waited for, and gives it. */
  refusal(): Promise<ListenerRefusal>;
  connection(): Promise<SeenConnection>;
  close(): Promise<void>;
}

export async function openDoor({ ca, options = {}, serve = answer }: DoorSetup): Promise<TestDoor> {
  const connections: SeenConnection[] = [];
  const refusals: ListenerRefusal[] = [];
  const answers: AnswerableRefusal[] = [];
  let [nextRefusal, nextConnection] = [0, 0];
  const listener = await listen(
    {
      ...doorOptions(ca),
      ...options,
    },
    {
      connection: (connection) => {
        connections.push({ ...connection, resumed: connection.socket.isSessionReused() });
        serve(connection);
      },
      refused: (refusal) => void refusals.push(refusal),
      answer: (refusal) => void answers.push(refusal),
    },
  );
  const close = async (): Promise<void> => {
    await listener.close();
    for (const { socket } of connections) socket.destroy();
    for (const { connection } of refusals) connection?.socket.destroy();
  };
  const nth = async <T>(list: readonly T[], index: number): Promise<T> => {
    await expect.poll(() => list.length, { timeout: 10_000, interval: 5 }).toBeGreaterThan(index);
    return list[index] as T;
  };
  return {
    listener,
    port: listener.address.kind === "tcp" ? listener.address.port : 0,
    connections,
    refusals,
    answers,
    refusal: () => nth(refusals, nextRefusal++),
    connection: () => nth(connections, nextConnection++),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Says hello, and ends when the client does. */
export function answer({ socket }: SecureConnection): void {
  socket.resume();
  socket.on("end", () => socket.end());
  setImmediate(() => socket.write("hello\n"));
}

/** A TCP connection that sends `bytes`; `gone` resolves with what came back, when the other side has closed it. */
export async function rawClient(
  port: number,
  bytes: Uint8Array | string = "",
): Promise<{ readonly socket: Socket; readonly gone: Promise<Buffer> }> {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => void chunks.push(chunk));
  const gone = new Promise<Buffer>((resolve) => {
    const over = (): void => {
      resolve(Buffer.concat(chunks));
      socket.destroy();
    };
    socket.on("end", over);
    socket.on("close", over);
  });
  await once(socket, "connect");
  if (bytes.length > 0) socket.write(bytes);
  return { socket, gone };
}

/** Resolves when it is closed, whatever it thinks of that. */
export function closed(socket: Socket): Promise<void> {
  socket.on("error", () => {});
  socket.resume();
  return new Promise((resolve) => void socket.once("close", () => resolve()));
}
