import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectNet, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PipegateError } from "../../src/base/error.ts";
import { connect } from "../../src/client.ts";
import type { Client, Pipe } from "../../src/client/types.ts";
import type { TargetOptions } from "../../src/target/target.ts";
import {
  cut,
  type BackEnd,
  type BackEndOptions,
  type Behaviour,
  echo,
  resetting,
  silent,
  source,
  sourceBytes,
  startBackEnd,
  u32Responder,
} from "../support/back-ends.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { freePort } from "../support/listeners.ts";
import { createTestCa } from "../support/mint.ts";

const MiB = 1 << 20;
const ca = createTestCa();
const backCa = createTestCa({ cn: "back ends" });
const foreignCa = createTestCa({ cn: "somebody else" });
const day = 86_400_000;

const started: BackEnd[] = [];
/** Where back ends are, in every form: the client may never read one of these. */
const secrets: string[] = [];
/** Everything that a client was told of a failure. */
const told: string[] = [];

async function backEnd(behaviour: Behaviour, options?: BackEndOptions): Promise<BackEnd> {
  const one = await startBackEnd(behaviour, options);
  started.push(one);
  secrets.push(one.path === "" ? String(one.port) : one.path);
  return one;
}

const tcp = (...backEnds: readonly { readonly host: string; readonly port: number }[]) =>
  ({
    kind: "tcp",
    addresses: backEnds.map(({ host, port }) => ({ kind: "tcp" as const, host, port })),
    framing: "u32",
    dialTimeoutMs: 3_000,
  }) as const;

/** A port where nobody listens and nobody will: a connection goes out from it. */
async function refusedPort(): Promise<number> {
  const { host, port } = await backEnd(silent);
  const socket = connectNet({ host, port });
  await new Promise<void>((resolve) => void socket.once("connect", () => resolve()));
  held.push(socket);
  secrets.push(String(socket.localPort));
  return socket.localPort as number;
}
const held: Socket[] = [];

/** A port that is free now. */
async function secretPort(): Promise<number> {
  const port = await freePort();
  secrets.push(String(port));
  return port;
}

const frame = (length: number, payload: string): Buffer => {
  const bytes = Buffer.alloc(4 + payload.length);
  bytes.writeUInt32BE(length);
  bytes.write(payload, 4);
  return bytes;
};

/** Answers the first bytes with `answer` and ends. */
const saying =
  (answer: Uint8Array): Behaviour =>
  (socket) =>
    void socket.once("data", () => socket.end(answer));

const folder = mkdtempSync(join(tmpdir(), "pipegate-back-ends-"));
const children: ChildProcess[] = [];

/** A TLS back end that demands a client certificate and says so by an alert (a server on Deno just closes). */
async function demandingServer(
  own: { readonly certificate: string; readonly key: string },
  port: number,
): Promise<{ readonly host: string; readonly port: number }> {
  const files = { cert: own.certificate, key: own.key, CAfile: backCa.certificate };
  const words = Object.entries(files).flatMap(([name, text]) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return [`-${name}`, join(folder, name)];
  });
  const fixed = ["s_server", "-accept", `127.0.0.1:${port}`, "-Verify", "1", "-verify_return_error", "-quiet"];
  children.push(spawn("openssl", [...fixed, ...words], { stdio: ["pipe", "ignore", "ignore"], timeout: 60_000, killSignal: "SIGKILL" }));
  const reached = (): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = connectNet({ host: "127.0.0.1", port });
      socket.on("connect", () => (socket.destroy(), resolve(true)));
      socket.on("error", () => resolve(false));
    });
  for (let tries = 0; !(await reached()); tries++) {
    if (tries === 200) throw new Error("openssl s_server did not start");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { host: "127.0.0.1", port };
}

let setup: TestGateway;
let client: Client;

beforeAll(async () => {
  const refused = { host: "127.0.0.1", port: await refusedPort() };
  const names = { dns: "localhost", ip: ["127.0.0.1", "::1"] };
  const server = (issued: { readonly certificate: string; readonly key: string }) => ({
    tls: { cert: issued.certificate, key: issued.key },
  });
  const good = backCa.issue({ role: "gateway", ...names });
  const ours = backCa.issue({ role: "client", dns: "gateway.example" });
  const plainEcho = await backEnd(echo);
  const tlsEcho = await backEnd(echo, server(good));
  const demanding = await backEnd(echo, {
    tls: { cert: good.certificate, key: good.key, ca: backCa.certificate, requestCert: true, rejectUnauthorized: true },
  });
  const tls = ({ host, port }: { readonly host: string; readonly port: number }, more: object = {}) =>
    ({ ...tcp({ host, port }), kind: "tls", ca: [backCa.certificate], ...more }) as const;
  const unix = await backEnd(echo, { unix: true });
  const lines: Behaviour = (socket) => void socket.on("data", (chunk: Buffer) => socket.write(chunk.toString().toUpperCase()));
  const targets: Record<string, TargetOptions> = {
    refused: tcp(refused),
    silentTls: { ...tls(await backEnd(silent)), dialTimeoutMs: 400 },
    cutAtConnect: tcp(await backEnd(cut)),
    nowhere: { ...tcp({ host: "nothing-here.invalid", port: 5432 }), dialTimeoutMs: 2_000 },
    closesAtOnce: tcp(await backEnd((socket) => void socket.resume().end())),
    source: tcp(await backEnd(source(MiB))),
    resets: tcp(await backEnd(resetting(Buffer.from("some of it")))),
    resetsInMessage: tcp(await backEnd(resetting(frame(100, "some of it")))),
    echo: tcp(plainEcho),
    messages: tcp(await backEnd(u32Responder())),
    truncated: tcp(await backEnd(saying(frame(100, "ten bytes.")))),
    tooLarge: tcp(await backEnd(saying(frame(2 * MiB, "x")))),
    lines: { ...tcp(await backEnd(lines)), framing: "lines" },
    halfLine: { ...tcp(await backEnd(saying(Buffer.from("one\ntw")))), framing: "lines" },
    unix: { kind: "unix", path: unix.path, framing: "u32", dialTimeoutMs: 3_000 },
    noSocket: { kind: "unix", path: join(unix.path, "..", "nobody"), framing: "u32", dialTimeoutMs: 3_000 },
    turns: tcp(refused, plainEcho),
    tls: tls(tlsEcho),
    tlsExpired: tls(
      await backEnd(echo, server(backCa.issue({ role: "gateway", ...names, notBefore: Date.now() - 2 * day, notAfter: Date.now() - day }))),
    ),
    tlsOtherName: tls(await backEnd(echo, server(backCa.issue({ role: "gateway", dns: "other.example" })))),
    tlsForeign: tls(await backEnd(echo, server(foreignCa.issue({ role: "gateway", ...names })))),
    tlsToPlain: tls(plainEcho),
    tlsProven: tls(demanding, { certificate: ours.certificate, key: ours.key }),
    tlsUnproven: tls(await demandingServer(good, await secretPort())),
  };
  setup = await startGateway({ ca, targets });
  const { certificate, key } = ca.client("alice");
  client = await connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate });
}, 30_000);

afterAll(async () => {
  await client.close();
  await setup.close();
  for (const socket of held) socket.destroy();
  for (const one of started) await one.close();
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

/** What was thrown, kept for the last test. */
async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "none",
    (error: PipegateError) => {
      told.push([error.message, error.next, ...error.details].join(" "));
      return error.code;
    },
  );
}

/** Reads to the end; the code where it broke instead. */
async function readAll(pipe: Pipe): Promise<{ readonly bytes: Buffer; readonly broke: string }> {
  const chunks: Uint8Array[] = [];
  const reading = async (): Promise<void> => {
    for await (const chunk of pipe.readable as unknown as AsyncIterable<Uint8Array>) chunks.push(chunk);
  };
  const broke = await failure(reading());
  return { bytes: Buffer.concat(chunks), broke };
}

async function send(pipe: Pipe, bytes: Uint8Array): Promise<void> {
  const writer = pipe.writable.getWriter();
  writer.closed.catch(() => {});
  await writer.write(bytes);
  writer.releaseLock();
}

/** A whole round through a byte pipe. */
async function echoes(target: string): Promise<void> {
  const pipe = await client.open(target);
  await send(pipe, Buffer.from("there and back"));
  await pipe.writable.close();
  expect(await readAll(pipe)).toEqual({ bytes: Buffer.from("there and back"), broke: "none" });
  await pipe.closed;
}

describe("a back end that cannot be had", () => {
  test.each([
    ["refused", ["target_unavailable"]],
    ["nowhere", ["target_unavailable", "target_timeout"]], // where no resolver answers, it is late
    ["noSocket", ["target_unavailable"]],
    ["silentTls", ["target_timeout"]],
    ["tlsExpired", ["target_unavailable"]],
    ["tlsOtherName", ["target_unavailable"]],
    ["tlsForeign", ["target_unavailable"]],
    ["tlsToPlain", ["target_unavailable", "target_timeout"]], // an echo of our own hello
  ] as const)("%s: the open is refused, and the log says which back end and why", async (target, codes) => {
    const before = setup.lines("refused").length;
    expect(codes).toContain(await failure(client.open(target)));
    const line = setup
      .lines("refused")
      .slice(before)
      .find((fields) => fields["target"] === target);
    expect(codes).toContain(line?.["reason"]);
    expect(String(line?.["detail"])).toMatch(/127\.0\.0\.1:\d+: |nothing-here\.invalid: |unix:/u);
  });

  test("one that resets at connect is never a clean end", async () => {
    const opened = await client.open("cutAtConnect").catch((error: PipegateError) => error.code);
    if (typeof opened === "string") {
      expect(opened).toBe("target_unavailable");
      return;
    }
    expect((await readAll(opened)).broke).toBe("target_reset");
    expect(await failure(opened.closed)).toBe("target_reset");
  });

  test("one that demands a client certificate serves the gateway that has one, and nobody else", async () => {
    await echoes("tlsProven");
    const opened = await client.open("tlsUnproven").catch((error: PipegateError) => error.code);
    if (typeof opened === "string") {
      expect(opened).toBe("target_unavailable");
      return;
    }
    expect((await readAll(opened)).broke).toBe("target_reset"); // in TLS 1.3 the refusal comes after the handshake
  });

  test("a flapping one is refused while it is away, and served as soon as it is back", async () => {
    const port = await secretPort();
    const flapping = await startGateway({ ca, targets: { flapping: tcp({ host: "127.0.0.1", port }) } });
    const { certificate, key } = ca.client("bob");
    const bob = await connect({ gateway: `127.0.0.1:${flapping.port}`, certificate, key, ca: ca.certificate });
    for (let round = 0; round < 3; round++) {
      expect(await failure(bob.open("flapping"))).toBe("target_unavailable");
      const server: Server = createServer({ allowHalfOpen: true }, (socket) => void socket.on("error", () => {}).pipe(socket));
      await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
      const pipe = await bob.open("flapping");
      await send(pipe, Buffer.from("hi"));
      await pipe.writable.close();
      expect((await readAll(pipe)).bytes.toString()).toBe("hi");
      await pipe.closed;
      await new Promise((resolve) => server.close(resolve));
    }
    await bob.close();
    await flapping.close();
  });
});

describe("a back end that is reached", () => {
  test.each(["echo", "unix", "tls", "turns"])("%s: bytes go there and come back, with a clean end", async (target) => {
    await expect(echoes(target)).resolves.toBeUndefined();
  });

  test("addresses are tried in turn, and the log names the one that was reached", async () => {
    await echoes("turns");
    const last = setup.lines("pipe open").findLast((fields) => fields["target"] === "turns");
    expect(last?.["backEnd"]).toBe(setup.lines("pipe open").findLast((fields) => fields["target"] === "echo")?.["backEnd"]);
  });

  test("one that closes at once gives an empty, clean end", async () => {
    const pipe = await client.open("closesAtOnce");
    expect(await readAll(pipe)).toEqual({ bytes: Buffer.alloc(0), broke: "none" });
    await pipe.writable.close();
    await pipe.closed;
  });

  test("all of 1 MiB arrives from one that writes it and closes", async () => {
    const pipe = await client.open("source");
    const { bytes, broke } = await readAll(pipe);
    expect([bytes.equals(sourceBytes(MiB)), broke]).toEqual([true, "none"]);
    await pipe.writable.close();
    await pipe.closed;
  });
});

describe("a back end that breaks off", () => {
  test("is a break for bytes, never an end", async () => {
    const pipe = await client.open("resets");
    await send(pipe, Buffer.from("go"));
    expect((await readAll(pipe)).broke).toBe("target_reset");
    expect(await failure(pipe.closed)).toBe("target_reset");
  });

  test.each([
    ["resetsInMessage", "target_reset"],
    ["truncated", "target_reset"],
    ["halfLine", "target_reset"],
    ["tooLarge", "message_too_large"],
  ])("%s: is a break for messages, and the cut message is not delivered", async (target, code) => {
    const pipe = await client.open(target, { messages: true });
    await pipe.send(Buffer.from("go"));
    const whole: string[] = [];
    const reading = (async () => {
      for await (const message of pipe) whole.push(Buffer.from(message).toString());
    })();
    expect(await failure(reading)).toBe(code);
    expect(await failure(pipe.closed)).toBe(code);
    expect(target === "halfLine" ? ["one"] : []).toEqual(expect.arrayContaining(whole));
    await expect.poll(() => setup.lines("pipe close").findLast((fields) => fields["target"] === target)?.["reason"]).toBe(code);
  });
});

describe("messages to a back end of bytes", () => {
  test("u32: boundaries are kept both ways, for empty, small and the largest messages", async () => {
    const pipe = await client.open("messages", { messages: true });
    const sizes = [0, 1, 63, 4096, 16_376, 16_377, 100_000, MiB, 0, 7];
    const sending = (async () => {
      for (const size of sizes) await pipe.send(sourceBytes(size));
      pipe.closeWrite();
    })();
    const back: Uint8Array[] = [];
    for await (const message of pipe) back.push(message);
    await sending;
    expect(back.map(({ length }) => length)).toEqual(sizes);
    expect(back.every((message) => Buffer.from(message).equals(sourceBytes(message.length)))).toBe(true);
    await pipe.closed;
  });

  test("lines: boundaries are kept, and a message with a line break in it breaks the pipe instead of becoming two", async () => {
    const pipe = await client.open("lines", { messages: true });
    for (const text of ["one", "", "three"]) await pipe.send(Buffer.from(text));
    const back = [await pipe.receive(), await pipe.receive(), await pipe.receive()].map((message) => Buffer.from(message!).toString());
    expect(back).toEqual(["ONE", "", "THREE"]);
    await pipe.send(Buffer.from("DROP\nTABLE"));
    expect(await failure(pipe.closed)).toBe("protocol_error");
    const bytesIn = setup.lines("pipe close").findLast((fields) => fields["target"] === "lines");
    expect(bytesIn?.["reason"]).toBe("protocol_error");
  });

  test("a message over the limit is refused by the library, and by the gateway when sent regardless", async () => {
    const pipe = await client.open("messages", { messages: true });
    expect(await failure(pipe.send(new Uint8Array(MiB + 1)))).toBe("message_too_large");
    await pipe.send(new Uint8Array(3)); // it lives on
    expect((await pipe.receive())?.length).toBe(3);
    await pipe.close();
  });
});

test("no client was ever told where a back end is", () => {
  expect(told.length).toBeGreaterThan(15);
  for (const text of told) {
    for (const secret of secrets) expect(text).not.toContain(secret);
    expect(text).not.toMatch(/127\.0\.0\.1|nothing-here|unix:|ECONN|certificate/u);
  }
});
