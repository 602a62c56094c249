/** Clients that send without end to a back end that hashes: whether what went through is whole, and with which reason it stopped. */
import { createHash } from "node:crypto";
import { connect as connectTls } from "node:tls";
import { connect, type PipegateError } from "../../src/mod.ts";
import type { Behaviour } from "./back-ends.ts";
import type { Issued } from "./mint.ts";

/** Answers the SHA-256 of what came, in hex, once its client has ended. */
export const hashing: Behaviour = (socket) => {
  const hash = createHash("sha256");
  socket.on("data", (chunk) => void hash.update(chunk));
  socket.on("end", () => void socket.end(hash.digest("hex")));
};

export interface Pump {
  /** Settles when the pipe is over: undefined when it ended whole, else the code of what broke it. */
  readonly over: Promise<string | undefined>;
  /** Bytes sent so far. */
  readonly sent: () => number;
  /** Ends the pipe and compares what the back end saw with what was sent. */
  finish(): Promise<"whole" | "differs">;
}

export interface PumpOptions {
  readonly port: number;
  readonly own: Issued;
  /** PEM of the CA of the gateway. */
  readonly ca: string;
  readonly target?: string;
}

const CHUNK = 8 << 10;
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5)); // a steady load, not all that the machine gives

export async function startPump({ port, own, ca, target = "hash" }: PumpOptions): Promise<Pump> {
  const client = await connect({ gateway: `127.0.0.1:${port}`, certificate: own.certificate, key: own.key, ca });
  const pipe = await client.open(target);
  const writer = pipe.writable.getWriter();
  const hash = createHash("sha256");
  let sent = 0;
  let running = true;
  const pumped = (async () => {
    const chunk = new Uint8Array(CHUNK);
    while (running) {
      chunk.fill(sent >>> 13);
      await writer.write(chunk.slice());
      hash.update(chunk);
      sent += CHUNK;
      await pause();
    }
    await writer.close();
  })();
  pumped.catch(() => {});
  const answer = new Response(pipe.readable).text();
  answer.catch(() => {});
  const over = pipe.closed.then(
    () => undefined,
    (error: PipegateError) => {
      running = false;
      return error.code;
    },
  );
  return {
    over,
    sent: () => sent,
    async finish() {
      running = false;
      await pumped;
      const seen = await answer;
      await over;
      await client.close();
      return seen === hash.digest("hex") ? "whole" : "differs";
    },
  };
}

/** The same from a client that knows nothing of pipegate; its end has no code but `reset` or `ended`. */
export async function startRawPump({ port, own, ca }: Omit<PumpOptions, "target">): Promise<Pick<Pump, "over" | "sent">> {
  const socket = connectTls({ host: "127.0.0.1", port, servername: "localhost", cert: own.certificate, key: own.key, ca });
  let sent = 0;
  let running = true;
  const over = new Promise<string | undefined>((resolve) => {
    socket.on("error", () => resolve("reset"));
    socket.on("close", (failed) => resolve(failed ? "reset" : "ended"));
  });
  void over.then(() => (running = false));
  await new Promise<void>((resolve, reject) => {
    socket.once("secureConnect", resolve);
    socket.once("error", reject);
  });
  void (async () => {
    while (running) {
      socket.write(new Uint8Array(CHUNK));
      sent += CHUNK;
      await pause();
    }
  })();
  socket.resume();
  return { over, sent: () => sent };
}
