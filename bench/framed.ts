/**
 * The load for framed pipes: a client of pipegate/1 over the project's own session, in a process of its own.
 *
 *   framed.ts PORT messages-in SIZE COUNT       COUNT messages to the target `bulk`, until it has counted them
 *   framed.ts PORT messages-out SIZE COUNT      COUNT messages from the target `bulk`
 *   framed.ts PORT opens COUNT AT_ONCE          open `echo`, one byte echoed, close both ways
 *   framed.ts PORT echo SIZE WARM COUNT         round trips one after the other
 *   framed.ts PORT echo-beside SIZE WARM COUNT  the same, while another pipe of the session sends what it can
 *   framed.ts PORT hold SESSIONS PIPES          keeps sessions, then (after a line on stdin) pipes open, until stdin ends
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
const [first = 0, second = 0, third = 0] = words.map(Number);
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

async function messagesIn(client: StreamClient, { size, count }: { readonly size: number; readonly count: number }): Promise<void> {
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

async function messagesOut(client: StreamClient, { size, count }: { readonly size: number; readonly count: number }): Promise<void> {
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

const byte = Buffer.from("x");

/** Opens `echo` and has one byte come back; resolves to the stream, which is open. */
async function echoed(client: StreamClient): Promise<{ readonly stream: Stream; readonly closed: Promise<void> }> {
  const stream = client.openStream("echo");
  let came!: () => void;
  const back = new Promise<void>((resolve) => (came = resolve));
  const closed = attach(stream, { data: () => came() });
  stream.write(byte, false);
  await Promise.race([back, closed]);
  return { stream, closed };
}

async function opens(client: StreamClient, { count, atOnce }: { readonly count: number; readonly atOnce: number }): Promise<void> {
  let left = count;
  const work = async (): Promise<void> => {
    while (left-- > 0) {
      const { stream, closed } = await echoed(client);
      stream.closeWrite();
      await closed;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}

async function echo(
  client: StreamClient,
  { size, warm, count }: { readonly size: number; readonly warm: number; readonly count: number },
): Promise<void> {
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
  for (let index = -warm; index < count; index++) {
    const started = performance.now();
    left = size;
    const back = new Promise<void>((resolve) => (whole = resolve));
    stream.write(Buffer.alloc(size), false);
    await Promise.race([back, closed]);
    if (index >= 0) took.push(performance.now() - started);
  }
  stream.closeWrite();
  await closed;
  took.sort((a, b) => a - b);
  say({ p50us: took[count >> 1]! * 1000, p99us: took[Math.floor(count * 0.99)]! * 1000 });
}

/** Sends to `bulk` until the process ends. */
function flood(client: StreamClient): void {
  const stream = client.openStream("bulk");
  const chunk = Buffer.alloc(64 << 10);
  const send = (): void => {
    while (stream.write(chunk, false)) continue;
  };
  attach(stream, { drained: send }).catch(() => {});
  const head = Buffer.alloc(4);
  head.writeUInt32BE(17);
  stream.write(Buffer.concat([head, request("u", { bytes: Number.MAX_SAFE_INTEGER, size: 0 })]), false);
  send();
}

async function hold({ sessions, pipes }: { readonly sessions: number; readonly pipes: number }): Promise<void> {
  const lines = createInterface({ input: process.stdin });
  const clients: StreamClient[] = [];
  for (let index = 0; index < sessions; index++) clients.push(await connect());
  say({ sessions });
  await new Promise<void>((resolve) => lines.once("line", () => resolve()));
  for (let index = 0; index < pipes; index++) (await echoed(clients[index % sessions]!)).closed.catch(() => {});
  say({ pipes });
  await new Promise<void>((resolve) => lines.once("close", () => resolve()));
}

async function main(): Promise<void> {
  if (mode === "hold") return hold({ sessions: first, pipes: second });
  const client = await connect();
  const started = performance.now();
  const seconds = (): void => say({ seconds: (performance.now() - started) / 1000 });
  if (mode === "messages-in") await messagesIn(client, { size: first, count: second }).then(seconds);
  else if (mode === "messages-out") await messagesOut(client, { size: first, count: second }).then(seconds);
  else if (mode === "opens") await opens(client, { count: first, atOnce: second }).then(seconds);
  else if (mode === "echo" || mode === "echo-beside") {
    if (mode === "echo-beside") flood(client);
    await echo(client, { size: first, warm: second, count: third });
  } else throw new Error("usage: see the head of framed.ts");
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
