/**
 * Clients that do not read what bulk back ends send them, against a gateway in a process of its own, and an honest one beside them. Promises:
 * each kind is measured for itself once the gateway takes no more for it; everybody is gone at the end. Leaves to others: how many, what is too much.
 */
import { once } from "node:events";
import { connect as connectNet } from "node:net";
import { createInterface } from "node:readline";
import { connect as connectTls } from "node:tls";
import { connect } from "../../src/client.ts";
import type { Client } from "../../src/client/types.ts";
import { Type } from "../../src/protocol/frame.ts";
import { Gate } from "../../src/runtime/gate.ts";
import { endless, startBackEnd } from "./back-ends.ts";
import type { Measured, MeasuredStart } from "./programs/measured-gateway.ts";
import { runtimeWords, startProgram } from "./this-runtime.ts";
import { WireClient } from "./wire-client.ts";

const KiB = 1 << 10;

/**
 * Bytes of the gateway that one reader may hold, by what it does: `held` by JavaScript, and `resident` with what the runtime and its allocator add.
 * Whatever it does, a back end is read 64 KiB at a time, the read that crosses a bound is taken, and one more waits in the back end's socket.
 * - `deaf` speaks frames, grants all the credit there is and reads nothing: 64 + 64 + 64 KiB of the stream, 192 KiB of the writer, and 80 KiB for
 *   a session with its pipe and back end. Of the write under way (128 KiB) TLS has a copy.
 * - `mean` speaks frames, reads them and grants 64 KiB once: the same without the writer.
 * - `raw` speaks no frames and reads nothing: 256 + 64 + 64 KiB of the channel, and 60 KiB for the connection. TLS has a copy of what the channel waits for.
 */
export const slowReaderBounds = {
  mean: { held: 272 * KiB, resident: 384 * KiB },
  raw: { held: 444 * KiB, resident: 896 * KiB },
  deaf: { held: 464 * KiB, resident: 704 * KiB }, // the last: a heartbeat later the gateway cuts them off
} as const;

export type SlowReaderKind = keyof typeof slowReaderBounds;
export const slowReaderKinds = Object.keys(slowReaderBounds) as readonly SlowReaderKind[];

export interface SlowReadersResult {
  /** Bytes that the gateway grew by for each reader of a kind. */
  readonly cost: Readonly<Record<SlowReaderKind, { readonly held: number; readonly resident: number }>>;
  /** Bytes more than before the first came, once all have gone. */
  readonly left: number;
  /** That stood at the end; and readers whom the gateway had cut off by then, since they had read nothing for a heartbeat (30 s). */
  readonly pipes: number;
  readonly cut: number;
  /** Round trips of 64 bytes, sorted, ms: before anybody came, and beside all of them. */
  readonly alone: readonly number[];
  readonly beside: readonly number[];
}

interface Reader {
  destroy(): void;
}

/** Handshakes under way at once. */
const AT_ONCE = 16;
const SAME_BYTES = 1 << 20;
const exposeGc = "Deno" in globalThis ? "--v8-flags=--expose-gc" : "--expose-gc";
const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** So many of each kind. */
export async function measureSlowReaders(each: number): Promise<SlowReadersResult> {
  const bulk = await startBackEnd(endless);
  const gateway = await startMeasured({
    targets: {
      echo: { kind: "builtin", builtin: "echo" },
      bulk: { kind: "tcp", addresses: [{ kind: "tcp", host: bulk.host, port: bulk.port }], dialTimeoutMs: 5_000 },
    },
    raw: ["bulk"],
    clients: ["honest", "slow"],
  });
  const { start, measured } = gateway;
  const who = (name: string) => ({ ...start.clients[name]!, ca: start.ca, port: start.port });
  const readers: Reader[] = [];
  const honest = await connect({ ...who("honest"), gateway: `127.0.0.1:${start.port}` });
  try {
    await roundTrips(honest, 50); // warm
    const alone = await roundTrips(honest, 200);
    const before = await settled(measured);
    const cost: Partial<Record<SlowReaderKind, { held: number; resident: number }>> = {};
    let last = before;
    for (const kind of slowReaderKinds) {
      const come = kind === "raw" ? () => rawReader(start) : () => framedReader(who("slow"), kind);
      for (let there = 0; there < each; there += AT_ONCE)
        readers.push(...(await Promise.all(Array.from({ length: Math.min(AT_ONCE, each - there) }, come))));
      const now = await settled(measured);
      cost[kind] = { held: (now.held - last.held) / each, resident: (now.rss - last.rss) / each };
      last = now;
    }
    const beside = await roundTrips(honest, 200);
    const { pipes, ends } = await measured();
    await honest.close();
    for (const reader of readers.splice(0)) reader.destroy();
    for (let looks = 0; looks < 200 && (await measured()).connections > 0; looks++) await wait(50);
    const { held } = await settled(measured);
    return { cost: cost as SlowReadersResult["cost"], left: held - before.held, pipes, cut: ends["slow_reader"] ?? 0, alone, beside };
  } finally {
    for (const reader of readers) reader.destroy();
    gateway.end();
    await bulk.close();
  }
}

async function startMeasured(setup: object): Promise<{ start: MeasuredStart; measured(): Promise<Measured>; end(): void }> {
  const child = startProgram("test/support/programs/measured-gateway.ts", [JSON.stringify(setup)], {
    words: [...runtimeWords, exposeGc],
    timeoutMs: 290_000,
  });
  child.stderr.on("data", (chunk: Buffer) => void process.stderr.write(chunk));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async <Line>(): Promise<Line> => {
    const { value, done } = await lines.next();
    if (done === true) throw new Error("the gateway ended");
    return JSON.parse(value) as Line;
  };
  const start = await next<MeasuredStart>();
  return {
    start,
    measured: () => {
      child.stdin.write("now\n");
      return next<Measured>();
    },
    end: () => void child.stdin.end(),
  };
}

/** Once the gateway holds the same, but for a little, from one look to the next. */
async function settled(measured: () => Promise<Measured>): Promise<Measured> {
  let last = await measured();
  for (let looks = 0; looks < 20; looks++) {
    await wait(300);
    const now = await measured();
    if (Math.abs(now.held - last.held) < SAME_BYTES && Math.abs(now.rss - last.rss) < 4 * SAME_BYTES) return now;
    last = now;
  }
  return last;
}

async function framedReader(who: Parameters<typeof WireClient.dial>[0], kind: "deaf" | "mean"): Promise<Reader> {
  const isDeaf = kind === "deaf";
  const client = await WireClient.dial({ ...who, parameters: isDeaf ? { sessionLimit: 2 ** 40 } : {} });
  client.open(1, { target: "bulk", window: isDeaf ? 1 << 30 : 64 << 10 });
  await client.seen(Type.ACCEPT);
  if (isDeaf) client.hold();
  return client;
}

/** Over a gate on both runtimes, so that its TLS takes in nothing more once that is held. */
async function rawReader({ rawPorts, clients, ca }: MeasuredStart): Promise<Reader> {
  const { certificate: cert, key } = clients["slow"]!;
  const below = connectNet({ host: "127.0.0.1", port: rawPorts[0]!, noDelay: true, allowHalfOpen: true }).on("error", () => {});
  await once(below, "connect");
  const gate = new Gate(below).on("error", () => {});
  const socket = connectTls({ cert, key, ca, servername: "localhost", minVersion: "TLSv1.3", socket: gate }).on("error", () => {});
  await Promise.race([once(socket, "data"), once(socket, "close").then(() => Promise.reject(new Error("a raw reader was turned away")))]);
  gate.hold();
  socket.pause();
  return socket;
}

async function roundTrips(client: Client, count: number): Promise<number[]> {
  const pipe = await client.open("echo", { messages: true });
  const times: number[] = [];
  for (let n = 0; n < count; n++) {
    const from = performance.now();
    await pipe.send(new Uint8Array(64));
    await pipe.receive();
    times.push(performance.now() - from);
    await wait(2);
  }
  await pipe.close();
  return times.sort((a, b) => a - b);
}
