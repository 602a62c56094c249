/**
 * The load for framed pipes: a client of pipegate/1 over the project's own session, in a process of its own.
 *
 *   framed.ts PORT messages-in SIZE COUNT STREAMS   COUNT messages to the target `bulk`, until it has counted them
 *   framed.ts PORT messages-out SIZE COUNT STREAMS  COUNT messages from the target `bulk`
 *   framed.ts PORT bulk-up SIZE COUNT               COUNT payloads of SIZE bytes through one pipe to `bulk`
 *   framed.ts PORT bulk-down SIZE COUNT             as many bytes from `bulk`
 *   framed.ts PORT opens COUNT AT_ONCE TARGET       open TARGET, one byte echoed, close both ways
 *   framed.ts PORT echo SIZE WARM COUNT             round trips one after the other
 *   framed.ts PORT echo-beside SIZE WARM COUNT      the same, while another pipe of the session sends what it can (`bulkRate`, GB/s)
 *   framed.ts PORT hold SESSIONS                    keeps sessions open until stdin ends, and does what its lines say:
 *                                                   `pipes TARGET COUNT` keeps pipes open, spread over the sessions, each with one
 *                                                   byte echoed; `messages SIZE COUNT` is messages-in over the first session
 *
 * Certificates come from $CERTS. Answers are lines of JSON; the request to the bulk port is described in load.c.
 */
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { ChannelEvents } from "../src/base/channel.ts";
import { dialClient, type StreamClient } from "../src/client.ts";
import type { Stream } from "../src/protocol/stream.ts";

const [, , port, mode, ...words] = process.argv;
const [first = 0, second = 0, third = 0] = words.slice(0, 3).map(Number);
const folder = process.env["CERTS"] ?? ".";
const say = (answer: Readonly<Record<string, number>>): void => void process.stdout.write(`${JSON.stringify(answer)}\n`);

function connect(): Promise<StreamClient> {
  const [ca, certificate, key] = ["ca.pem", "client.pem", "client-key.pem"].map((name) => readFileSync(join(folder, name), "utf8"));
  return dialClient({ gateway: `127.0.0.1:${port}`, serverName: "localhost", ca: ca!, certificate: certificate!, key: key! });
}

/** Attaches; what is not given does nothing. The promise settles when the stream closed. */
function attach(stream: Stream, events: Partial<ChannelEvents>): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.attach({
      data: (chunk, last) => events.data?.(chunk, last),
      end: () => events.end?.(),
      drained: () => events.drained?.(),
      closed: (broken) => (broken ? reject(new Error(`the pipe broke: ${broken.reason} ${broken.detail ?? ""}`)) : resolve()),
    });
  });
}

function request(kind: "u" | "d", { bytes, size }: { readonly bytes: number; readonly size: number }): Buffer {
  const message = Buffer.alloc(17);
  message.write(kind, 0, "latin1");
  message.writeBigUInt64BE(BigInt(bytes), 1);
  message.writeBigUInt64BE(BigInt(size), 9);
  return message;
}

interface Messages {
  readonly size: number;
  readonly count: number;
}

async function messagesIn(client: StreamClient, { size, count }: Messages): Promise<void> {
  const stream = client.openStream("bulk", { messages: true });
  const message = Buffer.alloc(size);
  const bytes = count * (size + 4);
  let sent = 0;
  let answer = Buffer.alloc(0);
  const send = (): void => {
    while (sent < count) {
      sent++;
      if (!stream.write(message, true)) return;
    }
  };
  const closed = attach(stream, {
    drained: send,
    data: (chunk, last) => {
      answer = Buffer.concat([answer, chunk]);
      if (last) stream.closeWrite();
    },
  });
  stream.write(request("u", { bytes, size: 0 }), true);
  send();
  await closed;
  if (answer.length !== 8 || answer.readBigUInt64BE() !== BigInt(bytes)) throw new Error(`the target counted ${answer.toString("hex")}`);
}

async function messagesOut(client: StreamClient, { size, count }: Messages): Promise<void> {
  const stream = client.openStream("bulk", { messages: true });
  let messages = 0;
  let bytes = 0;
  const closed = attach(stream, {
    data: (chunk, last) => {
      bytes += chunk.length;
      if (last && ++messages === count) stream.closeWrite();
    },
  });
  stream.write(request("d", { bytes: count * (size + 4), size }), true);
  await closed;
  if (messages !== count || bytes !== count * size) throw new Error(`${messages} messages of ${count} came`);
}

/** The messages shared out over streams of the session. */
async function overStreams(act: (share: Messages) => Promise<void>, all: Messages & { readonly streams: number }): Promise<void> {
  const share = { size: all.size, count: Math.ceil(all.count / all.streams) };
  await Promise.all(Array.from({ length: all.streams }, () => act(share)));
}

/** The request as bytes of a pipe that keeps no messages. */
function asBytes(message: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(message.length);
  return Buffer.concat([head, message]);
}

async function bulkUp(client: StreamClient, { size, count }: Messages): Promise<void> {
  const stream = client.openStream("bulk");
  const payload = Buffer.alloc(size);
  let sent = 0;
  let answer = 0;
  const send = (): void => {
    while (sent < count) {
      sent++;
      if (!stream.write(payload, false)) return;
    }
  };
  const closed = attach(stream, {
    drained: send,
    data: (chunk) => {
      answer += chunk.length;
      if (answer === 12) stream.closeWrite();
    },
  });
  stream.write(asBytes(request("u", { bytes: size * count, size: 0 })), false);
  send();
  await closed;
}

async function bulkDown(client: StreamClient, { size, count }: Messages): Promise<void> {
  const stream = client.openStream("bulk");
  let left = size * count;
  const closed = attach(stream, {
    data: (chunk) => {
      left -= chunk.length;
      if (left === 0) stream.closeWrite();
    },
  });
  stream.write(asBytes(request("d", { bytes: left, size: 0 })), false);
  await closed;
  if (left !== 0) throw new Error(`${left} bytes did not come`);
}

const byte = Buffer.from("x");

/** Opens the target and has one byte come back; resolves to the stream, which is open. */
async function echoed(client: StreamClient, target: string): Promise<{ readonly stream: Stream; readonly closed: Promise<void> }> {
  const stream = client.openStream(target);
  let came!: () => void;
  const back = new Promise<void>((resolve) => (came = resolve));
  const closed = attach(stream, { data: () => came() });
  stream.write(byte, false);
  await Promise.race([back, closed]);
  return { stream, closed };
}

async function opens(
  client: StreamClient,
  { count, atOnce, target }: { readonly count: number; readonly atOnce: number; readonly target: string },
): Promise<void> {
  let left = count;
  const work = async (): Promise<void> => {
    while (left-- > 0) {
      const { stream, closed } = await echoed(client, target);
      stream.closeWrite();
      await closed;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

async function echo(
  client: StreamClient,
  { size, warm, count }: { readonly size: number; readonly warm: number; readonly count: number },
): Promise<Readonly<Record<string, number>>> {
  const stream = client.openStream("echo");
  let left = 0;
  let whole!: () => void;
  const closed = attach(stream, {
    data: (chunk) => {
      left -= chunk.length;
      if (left === 0) whole();
    },
  });
  const took: number[] = [];
  // Whoever ends this for being late learns whether it stood still.
  const told = setInterval(() => process.stderr.write(`${took.length} of ${count} round trips\n`), 15_000);
  for (let index = -warm; index < count; index++) {
    const started = performance.now();
    left = size;
    const back = new Promise<void>((resolve) => (whole = resolve));
    stream.write(Buffer.alloc(size), false);
    await Promise.race([back, closed]);
    if (index >= 0) took.push(performance.now() - started);
  }
  clearInterval(told);
  stream.closeWrite();
  await closed;
  took.sort((a, b) => a - b);
  return { p50us: took[count >> 1]! * 1000, p99us: took[Math.floor(count * 0.99)]! * 1000 };
}

/** Sends to `bulk` until the process ends. What it returns says how many bytes so far. */
function flood(client: StreamClient): () => number {
  const stream = client.openStream("bulk");
  const chunk = Buffer.alloc(64 << 10);
  let sent = 0;
  const send = (): void => {
    do sent += chunk.length;
    while (stream.write(chunk, false));
  };
  attach(stream, { drained: send }).catch(() => {});
  stream.write(asBytes(request("u", { bytes: Number.MAX_SAFE_INTEGER, size: 0 })), false);
  send();
  return () => sent;
}

async function hold(sessions: number): Promise<void> {
  const lines = createInterface({ input: process.stdin });
  const clients: StreamClient[] = [];
  for (let index = 0; index < sessions; index++) clients.push(await connect());
  say({ sessions });
  for await (const line of lines) {
    const [what, ...rest] = line.split(" ");
    const started = performance.now();
    if (what === "messages") await messagesIn(clients[0]!, { size: Number(rest[0]), count: Number(rest[1]) });
    else {
      for (let index = 0; index < Number(rest[1]); index++) (await echoed(clients[index % sessions]!, rest[0]!)).closed.catch(() => {});
    }
    say({ seconds: (performance.now() - started) / 1000 });
  }
}

const timed: Readonly<Record<string, (client: StreamClient) => Promise<void>>> = {
  "messages-in": (client) => overStreams((share) => messagesIn(client, share), { size: first, count: second, streams: third }),
  "messages-out": (client) => overStreams((share) => messagesOut(client, share), { size: first, count: second, streams: third }),
  "bulk-up": (client) => bulkUp(client, { size: first, count: second }),
  "bulk-down": (client) => bulkDown(client, { size: first, count: second }),
  opens: (client) => opens(client, { count: first, atOnce: second, target: words[2]! }),
};

async function main(): Promise<void> {
  if (mode === "hold") return hold(first);
  const act = timed[mode ?? ""];
  const client = await connect();
  if (act !== undefined) {
    const started = performance.now();
    await act(client);
    say({ seconds: (performance.now() - started) / 1000 });
  } else if (mode === "echo" || mode === "echo-beside") {
    const flooded = mode === "echo-beside" ? flood(client) : undefined;
    const started = performance.now();
    const found = await echo(client, { size: first, warm: second, count: third });
    say(flooded === undefined ? found : { ...found, bulkRate: flooded() / (performance.now() - started) / 1e6 });
  } else throw new Error("usage: see the head of framed.ts");
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
