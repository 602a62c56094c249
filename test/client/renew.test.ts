import { beforeAll, afterEach, describe, expect, test } from "vitest";
import type { Break } from "../../src/base/channel.ts";
import { dialClient } from "../../src/client.ts";
import { type Client, connect, type ConnectOptions, type Notice, type Pipe } from "../../src/mod.ts";
import type { Stream } from "../../src/protocol/stream.ts";
import { echo } from "../support/echo-stream.ts";
import { startGateway } from "../support/gateway.ts";
import { createTestCa, type Issued, type TestCa } from "../support/mint.ts";
import { type StandIn, standInGateway, type StandInOptions } from "../support/stand-in-gateway.ts";

let ca: TestCa;
let alice: Issued;
let renewed: Issued;
const open: (() => Promise<void>)[] = [];

beforeAll(() => {
  ca = createTestCa();
  alice = ca.client("alice");
  renewed = ca.client("alice");
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
  const client = await connect({ gateway: address, certificate: alice.certificate, key: alice.key, ca: ca.certificate, ...options });
  open.push(() => client.close());
  return client;
}

/** Sends a word and waits until it has come back. */
async function says(pipe: Pipe, word: string): Promise<string> {
  const writer = pipe.writable.getWriter();
  await writer.write(new TextEncoder().encode(word));
  writer.releaseLock();
  const reader = pipe.readable.getReader();
  let text = "";
  while (text.length < word.length) text += new TextDecoder().decode((await reader.read()).value);
  reader.releaseLock();
  return text;
}

/** Ends our direction and reads theirs to its end. */
async function finish(pipe: Pipe): Promise<string> {
  await pipe.writable.close();
  let rest = "";
  for await (const chunk of pipe.readable) rest += new TextDecoder().decode(chunk);
  await pipe.closed;
  return rest;
}

/** What it rejects with, heard from the start. */
const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "it did not fail",
    (error: unknown) => error,
  );

/** Resolves when the gateway's side of the connection is closed. */
const gone = (started: StandIn, index: number): Promise<void> =>
  new Promise((resolve) => {
    const socket = started.sockets[index]!;
    if (socket.destroyed) resolve();
    else socket.once("close", () => resolve());
  });

describe("a client whose certificate is renewed", () => {
  test("opens new pipes with the new one, and lets the old ones finish untouched", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const old = await client.open("echo");
    expect(await says(old, "before")).toBe("before");
    await client.renew(renewed);
    expect(started.serials).toEqual([alice.serial, renewed.serial]);
    const next = await client.open("echo");
    expect(await says(next, "after")).toBe("after");
    expect(started.sessions.map((session) => session.streams.size)).toEqual([1, 1]);
    expect(await says(old, "still here")).toBe("still here");
    expect(await finish(old)).toBe("");
    await gone(started, 0);
    expect(await says(next, "and on")).toBe("and on");
    expect(await finish(next)).toBe("");
    await client.close();
    await client.closed;
  });
  test("closes the old connection at once when nothing is open on it", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    await client.renew(renewed);
    await gone(started, 0);
    expect(await finish(await client.open("echo"))).toBe("");
  });
  test("loses no open that happens meanwhile, also those that wait for a place", async () => {
    const started = await gateway({ session: { maxStreams: 2 } });
    const client = await connected(started.address);
    const talk = async (): Promise<string> => {
      const pipe = await client.open("echo");
      const text = await says(pipe, "hi");
      await finish(pipe);
      return text;
    };
    const talks = Array.from({ length: 20 }, talk);
    const renewing = client.renew(renewed);
    for (let n = 0; n < 20; n++) talks.push(talk());
    await renewing;
    for (let n = 0; n < 20; n++) talks.push(talk());
    expect(await Promise.all(talks)).toEqual(talks.map(() => "hi"));
    await gone(started, 0);
  });
  test("is held by the new connection when the old one breaks", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const old = await client.open("echo");
    await client.renew(renewed);
    started.sessions[0]!.close({ reason: "cert_expired" });
    await expect(old.closed).rejects.toMatchObject({ code: "cert_expired" });
    expect(await says(await client.open("echo"), "hi")).toBe("hi");
    started.sessions[1]!.close({ reason: "revoked" });
    await expect(client.closed).rejects.toMatchObject({ code: "revoked" });
  });
  test("outlives the old one's end while the renewal is under way, and its opens wait for it", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const renewing = client.renew(renewed);
    started.sessions[0]!.close({ reason: "cert_expired" });
    const opening = client.open("echo");
    await renewing;
    expect(await says(await opening, "hi")).toBe("hi");
  });
  test("tells those who open streams themselves when they can", async () => {
    const started = await gateway();
    const client = await dialClient({ gateway: started.address, ...alice, ca: ca.certificate });
    open.push(() => client.close());
    const renewing = client.renew(renewed);
    const outcome = (stream: Stream): Promise<string> =>
      new Promise((resolve) => {
        stream.onBroken = ({ reason }) => resolve(reason);
        if (stream.accepted) resolve("accepted");
        else stream.onAccepted = () => resolve("accepted");
      });
    const early = client.openStream("echo");
    started.sessions[0]!.close({ reason: "cert_expired" });
    expect(await outcome(early)).toBe("cert_expired");
    await client.ready();
    expect(await outcome(client.openStream("echo"))).toBe("accepted");
    await renewing;
  });
  test("closes both connections, and ends the pipes of both", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const old = await client.open("echo");
    await client.renew(renewed);
    const next = await client.open("echo");
    await client.close();
    await client.closed;
    await expect(old.closed).rejects.toMatchObject({ code: "session_lost" });
    await expect(next.closed).rejects.toMatchObject({ code: "session_lost" });
    await Promise.all([gone(started, 0), gone(started, 1)]);
  });
  test("is renewed in the order that was asked for, and the last one stays", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const third = ca.client("alice");
    await Promise.all([client.renew(renewed), client.renew(third)]);
    expect(started.serials).toEqual([alice.serial, renewed.serial, third.serial]);
    await Promise.all([gone(started, 0), gone(started, 1)]);
    expect(await says(await client.open("echo"), "hi")).toBe("hi");
  });
});

describe("a renewal that fails", () => {
  test.each([
    ["a key of another certificate", () => ({ certificate: renewed.certificate, key: alice.key }), "config"],
    ["junk", () => ({ certificate: "junk", key: "junk" }), "config"],
    ["a key that is too short for TLS", () => ca.issue({ uri: "spiffe://dev/agent/alice", keyType: "rsa1024" }), "config"],
    ["a certificate of a foreign CA", () => createTestCa({ cn: "foreign" }).client("alice"), "unknown_issuer"],
    ["an expired one", () => ca.issue({ uri: "spiffe://dev/agent/alice", notBefore: 0, notAfter: 1e12 }), "cert_expired"],
    ["CAs that the gateway is not of", () => ({ ...renewed, ca: createTestCa({ cn: "foreign" }).certificate }), "untrusted_gateway"],
  ] as const)("says why, and everything goes on: %s", async (_, pair, code) => {
    const started = await gateway();
    const client = await connected(started.address);
    const pipe = await client.open("echo");
    await expect(client.renew(pair())).rejects.toMatchObject({ code });
    expect(await says(pipe, "still here")).toBe("still here");
    expect(await says(await client.open("echo"), "new")).toBe("new");
    await client.renew(renewed);
    expect(await says(pipe, "again")).toBe("again");
  });
  test("ends the client when its session broke meanwhile, with the session's reason", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const refused = failureOf(client.renew(createTestCa({ cn: "foreign" }).client("alice")));
    started.sessions[0]!.close({ reason: "cert_expired" });
    const lost = failureOf(client.open("echo"));
    expect(await Promise.all([refused, lost])).toMatchObject([{ code: "unknown_issuer" }, { code: "cert_expired" }]);
    await expect(client.closed).rejects.toMatchObject({ code: "cert_expired" });
    await expect(client.renew(renewed)).rejects.toMatchObject({ code: "cancelled" });
  });
  test("is given up when the client is closed, and leaves no connection behind", async () => {
    const started = await gateway();
    const client = await connected(started.address);
    const given = failureOf(client.renew(renewed));
    await client.close();
    expect(await given).toMatchObject({ code: "cancelled" });
    await client.closed;
  });
});

describe("the gateway's notice", () => {
  test("reaches the program with the moment, and changes nothing", async () => {
    const started = await gateway();
    let told!: (notice: Notice) => void;
    const notice = new Promise<Notice>((resolve) => (told = resolve));
    const client = await connected(started.address, { onNotice: told });
    started.sessions[0]!.notice({ certificateExpiresAt: Date.UTC(2026, 10, 21, 19) + 999 });
    expect(await notice).toEqual({ kind: "certificate_expires", at: new Date(Date.UTC(2026, 10, 21, 19)) });
    expect(await says(await client.open("echo"), "hi")).toBe("hi");
  });
});

test("a pipe that ends with a break lets the old connection go, too", async () => {
  const seen: (Break | undefined)[] = [];
  const started = await gateway({
    open: (stream: Stream) => {
      echo(stream);
      stream.onBroken = (broken) => void seen.push(broken);
    },
  });
  const client = await connected(started.address);
  const pipe = await client.open("echo");
  await client.renew(renewed);
  pipe.abort();
  await gone(started, 0);
  expect(seen).toMatchObject([{ reason: "cancelled" }]);
});

describe("to the gateway a renewed client is the same one", () => {
  test("its pipes count together, and it needs a connection more while it changes", async () => {
    await using started = await startGateway({ rules: [{ clients: ["*"], limits: { pipes: 1, connections: 2 } }] });
    const mint = (): Issued => started.ca.client("alice");
    const client = await connect({ gateway: `127.0.0.1:${started.port}`, ...mint(), ca: started.ca.certificate });
    open.push(() => client.close());
    const old = await client.open("echo");
    await client.renew(mint());
    await expect(client.open("echo")).rejects.toMatchObject({ code: "too_many_pipes" });
    await expect(client.renew(mint())).rejects.toMatchObject({ code: "too_many_connections" });
    expect(await says(old, "still here")).toBe("still here");
    await finish(old);
    expect(await says(await client.open("echo"), "hi")).toBe("hi");
  });
});
