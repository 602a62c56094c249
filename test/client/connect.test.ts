import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Stream } from "../../src/protocol/stream.ts";
import { type Client, connect, type ConnectOptions, PipegateError } from "../../src/mod.ts";
import { echo } from "../support/echo-stream.ts";
import { createTestCa, type Issued, type TestCa } from "../support/mint.ts";
import { type StandIn, standInGateway, type StandInOptions } from "../support/stand-in-gateway.ts";

let ca: TestCa;
let foreign: TestCa;
let alice: Issued;
const open: (() => Promise<void>)[] = [];

beforeAll(async () => {
  ca = createTestCa({ cn: "our CA" });
  foreign = createTestCa({ cn: "foreign CA" });
  alice = ca.client("alice");
});
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function gateway(options: Partial<StandInOptions> = {}): Promise<StandIn> {
  const started = await standInGateway({ ca, ...options });
  open.push(() => started.close());
  return started;
}

async function connected(address: string, options: Partial<ConnectOptions> = {}): Promise<Client> {
  const client = await connect({ gateway: address, ...alice, ca: ca.certificate, timeoutMs: 10_000, ...options });
  open.push(() => client.close());
  return client;
}

/** What connecting fails with. */
async function failure(address: string, options: Partial<ConnectOptions> = {}): Promise<PipegateError> {
  try {
    await connected(address, options);
  } catch (error) {
    expect(error).toBeInstanceOf(PipegateError);
    return error as PipegateError;
  }
  throw new Error("it connected");
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("a connected client", () => {
  test("carries bytes through a pipe and back, unchanged, with a clean end", async () => {
    const client = await connected((await gateway()).address);
    const pipe = await client.open("echo");
    const sent = randomBytes(3_000_000);
    const writer = pipe.writable.getWriter();
    const write = (async () => {
      for (let at = 0; at < sent.length; at += 70_000) await writer.write(sent.subarray(at, at + 70_000));
      await writer.close();
    })();
    const hash = createHash("sha256");
    for await (const chunk of pipe.readable) hash.update(chunk);
    await write;
    await pipe.closed;
    expect(hash.digest("hex")).toBe(createHash("sha256").update(sent).digest("hex"));
  });
  test("keeps messages apart, from empty ones to the largest", async () => {
    const client = await connected((await gateway()).address);
    const calls = await client.open("jobs", { messages: true });
    const sizes = [0, 1, 16_376, 16_377, 100_000, calls.maxMessageBytes];
    const sending = (async () => {
      for (const size of sizes) await calls.send(new Uint8Array(size).fill(size % 251));
      calls.closeWrite();
    })();
    const got: number[] = [];
    for await (const message of calls) {
      expect(message.every((byte) => byte === message.length % 251)).toBe(true);
      got.push(message.length);
    }
    await sending;
    expect(got).toEqual(sizes);
    await calls.closed;
  });
  test("gives each pipe to the program as a Node stream, too", async () => {
    const client = await connected((await gateway()).address);
    const duplex = (await client.open("echo")).duplex();
    duplex.end("hello");
    let text = "";
    for await (const chunk of duplex) text += String(chunk);
    expect(text).toBe("hello");
  });
  test("sees the reason of a refusal, and when to come again", async () => {
    const refuse = (stream: Stream): void => {
      stream.reset({
        reason: stream.target === "busy" ? "rate_limited" : "forbidden",
        retryAfter: stream.target === "busy" ? 1500 : undefined!,
      });
      stream.release();
    };
    const client = await connected((await gateway({ open: refuse })).address);
    await expect(client.open("busy")).rejects.toMatchObject({ code: "rate_limited", retryAfter: 1500 });
    await expect(client.open("db")).rejects.toMatchObject({ code: "forbidden", next: expect.stringMatching(/rule/u) });
  });
  test("gives up opening after the time it was given, or when the signal fires", async () => {
    const client = await connected((await gateway({ open: () => {} })).address);
    await expect(client.open("slow", { timeoutMs: 30 })).rejects.toMatchObject({ code: "timed_out" });
    await expect(client.open("slow", { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "cancelled" });
    const controller = new AbortController();
    const opening = client.open("slow", { signal: controller.signal });
    controller.abort();
    await expect(opening).rejects.toMatchObject({ code: "cancelled" });
    await expect(client.open("slow", { signal: AbortSignal.timeout(30) })).rejects.toMatchObject({ code: "timed_out" });
  });
  test("breaks a pipe off when its signal fires later", async () => {
    const client = await connected((await gateway()).address);
    const controller = new AbortController();
    const pipe = await client.open("echo", { signal: controller.signal });
    controller.abort();
    await expect(pipe.closed).rejects.toMatchObject({ code: "cancelled" });
  });
  test("breaks its pipes when the connection is lost, and never ends them cleanly", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const pipe = await client.open("echo");
    await pipe.writable.getWriter().write(bytes("half"));
    const reader = pipe.readable.getReader();
    await reader.read();
    const rest = reader.read();
    started.sockets[0]!.destroy();
    await expect(rest).rejects.toMatchObject({ code: "session_lost" });
    await expect(client.closed).rejects.toMatchObject({ code: "session_lost" });
    await expect(client.open("echo")).rejects.toMatchObject({ code: "session_lost" });
  });
  test("closes in order: its own pipes break, `closed` resolves, the gateway sees no fault", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const pipe = await client.open("echo");
    await client.close();
    await expect(pipe.closed).rejects.toBeInstanceOf(PipegateError);
    await client.closed;
    await client[Symbol.asyncDispose]();
  });
  test("refuses a target's name that cannot travel", async () => {
    const client = await connected((await gateway()).address);
    await expect(client.open("")).rejects.toMatchObject({ code: "usage" });
    await expect(client.open("ä".repeat(128))).rejects.toMatchObject({ code: "usage" });
  });
  test("is closed by the signal that it was connected with", async () => {
    const controller = new AbortController();
    const client = await connected((await gateway()).address, { signal: controller.signal });
    controller.abort();
    await expect(client.closed).resolves.toBeUndefined();
  });
  test("is told that the gateway drains", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const pipe = await client.open("echo");
    started.sessions[0]!.drain(60_000);
    await pipe.writable.getWriter().write(bytes("x"));
    await pipe.readable.getReader().read(); // the goodbye came before this
    await expect(client.open("echo")).rejects.toMatchObject({ code: "draining" });
  });
  test("opens a hundred pipes at once over one connection", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const answers = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const pipe = await client.open("echo");
        const writer = pipe.writable.getWriter();
        await writer.write(bytes(`pipe ${index}`));
        await writer.close();
        return new Response(pipe.readable).text();
      }),
    );
    expect(answers).toEqual(Array.from({ length: 100 }, (_, index) => `pipe ${index}`));
    expect(started.sockets).toHaveLength(1);
  });
  test("never resumes a TLS session, so that each connection is judged whole", async () => {
    const started = await gateway();
    for (let index = 0; index < 3; index++) await (await connected(started.address)).close();
    expect(started.resumed).toEqual([false, false, false]);
  });
});

describe("connecting fails", () => {
  test("when nothing listens", async () => {
    const started = await gateway();
    await started.close();
    open.length = 0;
    expect(await failure(started.address)).toMatchObject({ code: "unreachable", message: `nothing listens at ${started.address}` });
  });
  test("when the gateway is not of our CA, and names the CA that we trust", async () => {
    const error = await failure((await gateway({ ca: foreign, trust: ca })).address);
    expect(error).toMatchObject({ code: "untrusted_gateway", next: expect.stringMatching(/--ca/u) });
    expect(error.message).toMatch(/CN=our CA/u);
  });
  test("when the gateway has another name, and says which names it has", async () => {
    const { address } = await gateway();
    const error = await failure(address, { serverName: "gw.example" });
    expect(error.code).toBe("untrusted_gateway");
    expect(error.message).toMatch(/is not for gw\.example, but for DNS:localhost/u);
    await connected(address, { serverName: "localhost" });
  });
  test("when our certificate is not of the gateway's CA, and says who issued it", async () => {
    const error = await failure((await gateway()).address, foreign.client("alice"));
    expect(error.code).toBe("unknown_issuer");
    expect(error.message).toMatch(/does not accept our certificate: issued by CN=foreign CA/u);
  });
  test("when our certificate has expired", async () => {
    const expired = ca.issue({ role: "client", uri: "spiffe://dev/agent/old", notBefore: 0, notAfter: Date.UTC(2020, 0, 1) });
    const error = await failure((await gateway()).address, expired);
    expect(error).toMatchObject({ code: "cert_expired", message: expect.stringMatching(/expired 2020-01-01T00:00Z/u) });
  });
  test("with the gateway's own reason when it refuses us itself", async () => {
    const refusal = { reason: "revoked", detail: "" } as const;
    expect(await failure((await gateway({ session: { refusal } })).address)).toMatchObject({ code: "revoked" });
  });
  test("when the listener speaks another protocol, or none by name", async () => {
    expect((await failure((await gateway({ tls: { ALPNProtocols: ["http/1.1"] } })).address)).code).toBe("alpn");
    expect((await failure((await gateway({ tls: { ALPNProtocols: [] }, instead: () => {} })).address)).code).toBe("alpn");
  });
  test("when it does not speak TLS 1.3, or no TLS at all", async () => {
    const old = await gateway({ tls: { minVersion: "TLSv1.2", maxVersion: "TLSv1.2" } });
    expect((await failure(old.address)).code).toBe("not_tls");
    const plain = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    await new Promise<void>((resolve) => void plain.listen(0, "127.0.0.1", resolve));
    open.push(() => new Promise((resolve) => void plain.close(() => resolve())));
    expect((await failure(`127.0.0.1:${(plain.address() as AddressInfo).port}`)).code).toBe("not_tls");
  });
  test("when what answers speaks TLS but not the protocol", async () => {
    const started = await gateway({ instead: (socket) => void socket.write("HTTP/1.1 400 Bad Request\r\n\r\n") });
    expect((await failure(started.address)).code).toBe("protocol_error");
  });
  test("when it does not let us in within the time, and leaves no connection behind", async () => {
    let gone!: () => void;
    const left = new Promise<void>((resolve) => (gone = resolve));
    const started = await gateway({ instead: (socket) => void socket.on("close", gone).resume() });
    expect(await failure(started.address, { timeoutMs: 200 })).toMatchObject({ code: "timed_out" });
    await left;
  });
  test("when the signal fires on the way", async () => {
    const started = await gateway({ instead: (socket) => void socket.resume() });
    const controller = new AbortController();
    const connecting = failure(started.address, { signal: controller.signal });
    setTimeout(() => controller.abort(), 50);
    expect(await connecting).toMatchObject({ code: "cancelled" });
    expect(await failure(started.address, { signal: AbortSignal.abort() })).toMatchObject({ code: "cancelled" });
  });
  const noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  test.each([
    ["a key of another certificate", () => ({ key: ca.client("bob").key }), /key does not belong to certificate/u],
    ["a path instead of a certificate", () => ({ certificate: "certs/alice.pem" }), /certificate holds no certificate/u],
    ["noise in a certificate", () => ({ certificate: alice.certificate.replace(/M.{40}/u, "AAAA") }), /certificate that cannot be parsed/u],
    ["noise behind a certificate", () => ({ certificate: alice.certificate + noise }), /certificate that cannot be parsed/u],
    ["no key", () => ({ key: "junk" }), /key holds no private key/u],
    [
      "an encrypted key",
      () => ({ key: "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n" }),
      /key is encrypted/u,
    ],
    ["no CA", () => ({ ca: "" }), /ca holds no certificate/u],
  ] as const)("before the network is touched: %s", async (_, change, message) => {
    const error = await failure("127.0.0.1:1", change());
    expect(error.code).toBe("config");
    expect(error.message).toMatch(message);
  });
});

test("a pipe can be left in the middle without a trace", async () => {
  const closed: (string | undefined)[] = [];
  const started = await gateway({
    open: (stream) => {
      echo(stream);
      stream.onBroken = () => void closed.push(stream.target);
    },
  });
  const client = await connected(started.address);
  const pipe = await client.open("echo");
  await pipe.writable.getWriter().write(bytes("half"));
  await pipe[Symbol.asyncDispose]();
  expect(await (await client.open("second")).close()).toBeUndefined();
  expect(closed).toEqual(["echo"]);
});
