/**
 * Messages of any sizes through a real gateway to echoing back ends of each kind and framing and back, many at a time, beside slow readers, slow back
 * ends and broken pipes: the same messages come back, and what the log counts of a pipe is what went through it.
 */
import { Buffer } from "node:buffer";
import { expect, onTestFinished, test } from "vitest";
import { connect } from "../../src/client.ts";
import type { Client, MessagePipe } from "../../src/client/types.ts";
import type { Framing, TargetOptions } from "../../src/target/target.ts";
import { type BackEnd, type Behaviour, echo, startBackEnd } from "../support/back-ends.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";

const ROUNDS = Number(process.env["PIPEGATE_RUNS"] ?? 3);
const framings = ["u32", "u16", "varint", "lines"] as const;

/** The same numbers below `limit` in every run. */
function dice(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Deno's own TLS sockets, which are the back end's here, lose the end that comes when they are paused. */
const unpausedEcho: Behaviour = (socket) => {
  socket.on("data", (chunk: Buffer) => void socket.write(chunk));
  socket.on("end", () => socket.end());
};

async function start(): Promise<{ gateway: TestGateway; client: Client; backEnds: readonly BackEnd[] }> {
  const ca = createTestCa();
  const served = ca.issue({ role: "gateway", cn: "back", dns: ["localhost"], ip: ["127.0.0.1"] });
  const tcp = await startBackEnd(echo);
  const unix = await startBackEnd(echo, { unix: true });
  const tls = await startBackEnd(unpausedEcho, { tls: { cert: served.certificate, key: served.key } });
  const dial = { dialTimeoutMs: 5_000 } as const;
  const at = { kind: "tcp", host: "127.0.0.1" } as const;
  const targets: Record<string, TargetOptions> = {};
  for (const framing of framings) {
    targets[`tcp-${framing}`] = { kind: "tcp", addresses: [{ ...at, port: tcp.port }], framing, ...dial };
    targets[`unix-${framing}`] = { kind: "unix", path: unix.path, framing, ...dial };
    targets[`tls-${framing}`] = { kind: "tls", addresses: [{ ...at, port: tls.port }], framing, ca: [ca.certificate], ...dial };
    targets[`limited-${framing}`] = targets[`tcp-${framing}`]!;
  }
  const rules = [
    { clients: ["*"], targets: ["limited-*"], limits: { messages: { perSecond: 20_000, burst: 500 } } },
    { clients: ["*"], targets: ["*"] },
  ];
  const gateway = await startGateway({ ca, targets, rules });
  const { certificate, key } = ca.client("worker");
  const client = await connect({ gateway: `127.0.0.1:${gateway.port}`, certificate, key, ca: ca.certificate });
  const backEnds = [tcp, unix, tls];
  onTestFinished(async () => {
    await client.close();
    await gateway.close();
    for (const one of backEnds) await one.close();
  });
  return { gateway, client, backEnds };
}

/** Messages whose first bytes say which they are, as far as they have so many. */
function messagesFor(framing: Framing, roll: (limit: number) => number): Buffer[] {
  const small = roll(3) === 0;
  return Array.from({ length: small ? 4_000 : 300 }, (_, n) => {
    const length = small ? roll(3) : [0, 0, 1, 60, 256, 1_024, 4_096, 4_097, 16_376, 16_377, 30_000, roll(65_536)][roll(12)]!;
    const message = Buffer.alloc(length, framing === "lines" ? 33 + (n % 90) : n % 256);
    return message;
  });
}

const turn = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Sends all, reads as many as come, sometimes not at once; fails on the first that is another. */
async function through(
  pipe: MessagePipe,
  messages: readonly Buffer[],
  { roll, upTo }: { roll: (limit: number) => number; upTo: number },
): Promise<number> {
  const sending = (async () => {
    for (let n = 0; n < messages.length;) {
      const together = 1 + roll(300);
      await Promise.all(messages.slice(n, n + together).map((message) => pipe.send(message)));
      n += together;
    }
    pipe.closeWrite();
  })().catch(() => {});
  let count = 0;
  for await (const message of pipe) {
    if (!messages[count]!.equals(message)) throw new Error(`message ${count} is another`);
    if (++count === upTo) break;
    if (roll(200) === 0) await turn(roll(8));
  }
  if (count === upTo) pipe.abort();
  await sending;
  return count;
}

interface Round {
  readonly client: Client;
  readonly round: number;
  readonly kind: string;
}

/** One pipe; what it should have been counted as, when it was not given up before its end. */
async function pipeOf({ client, round, kind }: Round, n: number): Promise<string | undefined> {
  const framing = framings[(n + round) % 4]!;
  const roll = dice(round * 100 + n + 1);
  const messages = messagesFor(framing, roll);
  const pipe = await client.open(`${kind}-${framing}`, { messages: true });
  const upTo = roll(4) === 0 ? roll(messages.length) + 1 : messages.length + 1;
  const ended = pipe.closed.catch(() => {});
  const count = await through(pipe, messages, { roll, upTo });
  await ended;
  if (count !== Math.min(upTo, messages.length)) throw new Error(`${count} messages came`);
  return count === upTo ? undefined : `${count} of ${messages.reduce((sum, { length }) => sum + length, 0)}`;
}

test(
  "messages come back as they went, and are counted, whatever the back end, the framing and the readers beside",
  async () => {
    const { gateway, client, backEnds } = await start();
    const roll = dice(7);
    const whole: string[] = [];
    const stalls = setInterval(() => {
      const one = backEnds[roll(2)]!; // not the one under TLS
      one.stall(true);
      setTimeout(() => one.stall(false), roll(20));
    }, 25);
    onTestFinished(() => clearInterval(stalls));
    for (let round = 0; round < ROUNDS; round++) {
      const kinds = Array.from({ length: 12 }, () => ["tcp", "unix", "tls", "limited"][roll(4)]!);
      const ends = await Promise.all(kinds.map((kind, n) => pipeOf({ client, round, kind }, n)));
      whole.push(...ends.filter((end) => end !== undefined));
    }
    expect(whole.length).toBeGreaterThan(ROUNDS);
    await client.close();
    await gateway.close();
    const done = gateway.lines("pipe close").filter(({ reason }) => reason === "done"); // and those given up when all had gone
    const counted = (way: "In" | "Out"): string[] =>
      done.map((line) => `${Number(line[`messages${way}`])} of ${Number(line[`bytes${way}`])}`);
    expect(counted("Out")).toEqual(counted("In"));
    const counts = counted("In");
    for (const one of whole) expect(counts.includes(one) ? counts.splice(counts.indexOf(one), 1) : []).toEqual([one]);
  },
  Math.max(30_000, ROUNDS * 4_000),
);
