/** Floods of clients that never finish their handshake, against a door in a process of its own, and an honest client meanwhile. */
import type { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { clientHello } from "./hello.ts";
import { startProgram } from "./this-runtime.ts";

export interface FloodResult {
  /** Of the door's process: before the flood, at its height, after it. */
  readonly descriptors: { readonly before: number; readonly most: number; readonly after: number };
  /** What is held after it and was not before. */
  readonly left: readonly string[];
  /** By reason. */
  readonly refused: Readonly<Record<string, number>>;
  /** What was said of some who were refused for something else than the deadline. */
  readonly strange: readonly string[];
  /** From its start to its end as each of the flood saw it, ms, the shortest first. */
  readonly lives: readonly number[];
  /** Handshakes of the honest client while the flood was there, ms, the shortest first. */
  readonly handshakes: readonly number[];
}

export type FloodKind = "silent" | "half a hello" | "byte by byte";
export const floodKinds: readonly FloodKind[] = ["silent", "half a hello", "byte by byte"];

interface Seen {
  readonly held: readonly string[];
  readonly refused: Readonly<Record<string, number>>;
  readonly strange: readonly string[];
}

const BYTE_EVERY_MS = 100;
const HONEST_EVERY_MS = 20;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const ascending = (numbers: readonly number[]): number[] => numbers.toSorted((one, other) => one - other);

/** `clients` of each kind at once; resolves when the door has cut all of them and holds what it held before, or 10 s after the deadline. */
export async function flood({ clients, deadlineMs }: { readonly clients: number; readonly deadlineMs: number }): Promise<FloodResult> {
  const hello = await clientHello();
  const total = clients * floodKinds.length;
  const door = startProgram("test/support/programs/flooded-door.ts", [String(total + 100), String(deadlineMs)], { timeoutMs: 120_000 });
  let errors = "";
  door.stderr.on("data", (chunk: Buffer) => void (errors += chunk.toString()));
  const ended = new Promise<void>((resolve) => void door.on("close", () => resolve()));
  const lines = createInterface({ input: door.stdout })[Symbol.asyncIterator]();
  const next = async <Line>(): Promise<Line> => {
    const { value, done } = await lines.next();
    if (done === true) throw new Error(`the door ended: ${errors}`);
    return JSON.parse(value) as Line;
  };
  const { port, client } = await next<{ readonly port: number; readonly client: ConnectionOptions }>();
  await shake({ ...client, port }); // what is loaded or opened once is loaded and open
  await sleep(200);
  let seen = await next<Seen>();
  for (let n = 0; n < 4; n++) seen = await next<Seen>();
  const { held } = seen;
  const before = held.length;
  let most = before;

  const lives = Promise.all(floodKinds.flatMap((kind) => Array.from({ length: clients }, () => attack(port, { kind, hello }))));
  let isOver = false;
  void lives.then(() => (isOver = true));
  const handshakes: number[] = [];
  const honest = (async () => {
    while (!isOver) {
      handshakes.push(await shake({ ...client, port }));
      await sleep(HONEST_EVERY_MS);
    }
  })();
  const giveUpAt = performance.now() + deadlineMs + 10_000;
  while (performance.now() < giveUpAt && !(isOver && seen.held.length <= before)) {
    seen = await next<Seen>();
    most = Math.max(most, seen.held.length);
  }
  if (!isOver) door.kill("SIGKILL");
  await honest;
  door.stdin.end();
  await ended;
  return {
    descriptors: { before, most, after: seen.held.length },
    left: more(seen.held, held),
    refused: seen.refused,
    strange: seen.strange,
    lives: ascending(await lives),
    handshakes: ascending(handshakes),
  };
}

/** Those of `now` that `then` had not, or not so many of. */
function more(now: readonly string[], then: readonly string[]): readonly string[] {
  const rest = [...then];
  return now.filter((one) => {
    const at = rest.indexOf(one);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
}

/** How long the door let it live, ms. */
function attack(port: number, { kind, hello }: { readonly kind: FloodKind; readonly hello: Buffer }): Promise<number> {
  return new Promise((resolve) => {
    const from = performance.now();
    const socket: Socket = connect({ host: "127.0.0.1", port, noDelay: true }).on("error", () => {});
    let [sent, timer]: [number, ReturnType<typeof setInterval> | undefined] = [0, undefined];
    socket.on("connect", () => {
      if (kind === "half a hello") socket.write(hello.subarray(0, hello.length >> 1));
      if (kind !== "byte by byte") return;
      timer = setInterval(() => void (sent < hello.length - 1 && socket.write(hello.subarray(sent, ++sent))), BYTE_EVERY_MS);
    });
    socket.resume().on("close", () => {
      clearInterval(timer);
      resolve(performance.now() - from);
    });
  });
}

/** A whole handshake, until the door has said hello, ms. */
function shake(options: ConnectionOptions): Promise<number> {
  return new Promise((resolve) => {
    const from = performance.now();
    const socket = connectTls({ host: "127.0.0.1", ...options });
    const done = (ms: number): void => {
      resolve(ms);
      socket.destroy();
    };
    socket.on("error", () => done(Number.POSITIVE_INFINITY));
    socket.once("data", () => done(performance.now() - from));
    socket.once("close", () => done(Number.POSITIVE_INFINITY));
  });
}

/** The value below which so much of `sorted` lies. */
export function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.POSITIVE_INFINITY;
}
