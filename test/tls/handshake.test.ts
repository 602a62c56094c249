import { Buffer } from "node:buffer";
import { once } from "node:events";
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FakeClock } from "../support/fake-clock.ts";
import { closed, openDoor, rawClient, type TestDoor } from "../support/door.ts";
import { clientOptions } from "../support/door-options.ts";
import { clientHello } from "../support/hello.ts";
import { createTestCa } from "../support/mint.ts";
import { opensslClient } from "../support/openssl-client.ts";

const ca = createTestCa();
const alice = ca.client("alice");
const stranger = opensslClient(ca.certificate, alice);
let hello: Buffer;
let framed: TestDoor;
let raw: TestDoor;

beforeAll(async () => {
  hello = await clientHello();
  framed = await openDoor({ ca });
  raw = await openDoor({ ca, options: { withoutAlpn: true, alpn: ["pipegate/1", "postgresql"] } });
});
afterAll(async () => {
  stranger.remove();
  await framed.close();
  await raw.close();
});

function dial(door: TestDoor, options: ConnectionOptions = {}): TLSSocket {
  const socket = connectTls({
    host: "127.0.0.1",
    port: door.port,
    ...clientOptions(ca, alice),
    ...options,
  });
  socket.on("error", () => {});
  return socket;
}

const tls12Hello = Buffer.from("160301002f0100002b0303" + "5a".repeat(32) + "000004c02b00ff" + "0100", "hex");
const noise = Buffer.from(Array.from({ length: 512 }, (_, index) => (index * 7919 + 13) & 0xff));
const strangers: readonly (readonly [what: string, bytes: Uint8Array | string])[] = [
  ["HTTP", "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"],
  ["an SSH banner", "SSH-2.0-OpenSSH_9.9\r\n"],
  ["noise", noise],
  ["zeros", Buffer.alloc(512)],
  ["a record that is too long", Buffer.from("160301ffff0100fffa0303", "hex")],
  ["a TLS 1.2 hello", tls12Hello],
  ["a frame of pipegate/1 without TLS", Buffer.from("0004010000000000deadbeef", "hex")],
];

describe.each(["framed", "raw"] as const)("a %s listener", (kind) => {
  const door = (): TestDoor => (kind === "framed" ? framed : raw);

  test.each(strangers)("refuses %s as not_tls, and closes", async (_, bytes) => {
    const client = await rawClient(door().port, bytes);
    expect(await door().refusal()).toMatchObject({ reason: "not_tls", source: { text: expect.stringMatching(/^127\.0\.0\.1:\d+$/) } });
    expect((await client.gone).length).toBeLessThan(64); // an alert at most
  });

  test.each(["-tls1_2", "-tls1_1", "-tls1"])("refuses openssl %s as not_tls", async (version) => {
    await stranger.run(door().port, "", [version, "-cipher", "ALL:@SECLEVEL=0"]);
    expect((await door().refusal()).reason).toBe("not_tls");
  });

  test.each([
    ["nothing", 0],
    ["half a hello", 60],
    ["a whole hello", undefined],
  ] as const)("refuses as session_lost who ends or resets after %s, at once", async (_, length) => {
    for (const leave of ["end", "resetAndDestroy"] as const) {
      const client = await rawClient(door().port, hello.subarray(0, length));
      if (length === undefined) await once(client.socket, "data");
      client.socket[leave]();
      expect(await door().refusal()).toMatchObject({ reason: "session_lost", detail: expect.stringContaining("during the handshake") });
      await client.gone;
    }
  });

  test("takes a hello that comes byte by byte", async () => {
    const client = await rawClient(door().port);
    client.socket.setNoDelay(true);
    for (const byte of hello) {
      client.socket.write(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    const [answer] = (await once(client.socket, "data")) as [Buffer];
    expect(answer[0]).toBe(22); // a server's hello
    client.socket.resetAndDestroy();
    expect((await door().refusal()).reason).toBe("session_lost");
  });

  test("takes a client that ends right after its handshake, a hundred times", async () => {
    const before = door().refusals.length;
    for (let round = 0; round < 20; round++) {
      const clients = Array.from({ length: 5 }, () => dial(door()));
      for (const client of clients) client.once("secureConnect", () => client.end("x"));
      await Promise.all(clients.map(closed));
      for (const _ of clients) await door().connection();
    }
    expect(door().refusals.length).toBe(before);
  }, 60_000);

  test("refuses a client whose ALPN is not offered", async () => {
    const client = dial(door(), { ALPNProtocols: ["h2", "pipegate/2"] });
    await closed(client);
    expect((await door().refusal()).reason).toBe("alpn");
  });

  test("refuses no_certificate without one", async () => {
    const client = dial(door(), { cert: undefined, key: undefined });
    await closed(client);
    const refusal = await door().refusal();
    expect(refusal).toMatchObject({ reason: "no_certificate" });
    expect(refusal.connection).toBeUndefined();
  });

  test("hands over a believed connection with who, what and whence", async () => {
    const client = dial(door(), { servername: "LocalHost" });
    await once(client, "secureConnect");
    const connection = await door().connection();
    expect(connection).toMatchObject({
      alpn: "pipegate/1",
      serverName: "localhost",
      identity: { principal: "spiffe://dev/agent/alice", fingerprint: alice.fingerprint },
    });
    expect(connection.source).toMatchObject({ key: "127.0.0.1", text: expect.stringMatching(/^127\.0\.0\.1:\d+$/) });
    expect([connection.socket.getProtocol(), connection.below.remotePort]).toEqual(["TLSv1.3", client.localPort]);
    client.destroy();
  });

  test.each([
    ["a name with underscores", "__proto__", "__proto__"],
    ["a long one in capitals", `${"A".repeat(63)}.${"B".repeat(63)}`, `${"a".repeat(63)}.${"b".repeat(63)}`],
    ["an address", "127.0.0.1", undefined],
    ["none", undefined, undefined],
  ])("takes %s for a server name", async (_, asked, seen) => {
    await stranger.run(door().port, "", ["-alpn", "pipegate/1", ...(asked === undefined ? ["-noservername"] : ["-servername", asked])]);
    expect((await door().connection()).serverName).toBe(seen);
  });

  test.each(["a_b..c", "a b", ".", "-a.example", "x".repeat(64)])("refuses %j for a server name as not_tls", async (name) => {
    await stranger.run(door().port, "", ["-alpn", "pipegate/1", "-servername", name]);
    expect((await door().refusal()).reason).toBe("not_tls");
  });

  test("serves on after all of that, and keeps no handshake", async () => {
    const client = dial(door());
    const [bytes] = (await once(client, "data")) as [Buffer];
    expect(bytes.toString()).toBe("hello\n");
    client.destroy();
    await door().connection();
  });
});

describe("a listener", () => {
  test("refuses a client without ALPN where every protocol has a name, and takes it where not", async () => {
    const before = raw.connections.length;
    await closed(dial(framed, { ALPNProtocols: undefined as unknown as string[] }));
    expect((await framed.refusal()).reason).toBe("alpn");
    const client = dial(raw, { ALPNProtocols: undefined as unknown as string[] });
    await once(client, "data");
    expect(raw.connections[before]).toMatchObject({ alpn: undefined });
    client.destroy();
    await raw.connection();
  });

  test("hands over its refusal to who speaks pipegate/1 with a connection to tell it on, to others without", async () => {
    const twoNames = ca.issue({ uri: ["spiffe://dev/a", "spiffe://dev/b"] });
    const options = { cert: twoNames.certificate, key: twoNames.key };
    const told = dial(raw, options);
    await once(told, "secureConnect");
    const refusal = await raw.refusal();
    expect(refusal).toMatchObject({ reason: "bad_san", fingerprint: twoNames.fingerprint, serverName: "localhost" });
    expect(refusal.connection!.socket.destroyed).toBe(false);
    refusal.connection!.socket.end("because");
    expect(String((await once(told, "data"))[0])).toBe("because");
    told.destroy();
    const cut = dial(raw, { ...options, ALPNProtocols: ["postgresql"] });
    await closed(cut);
    const other = await raw.refusal();
    expect([other.reason, other.connection]).toEqual(["bad_san", undefined]);
  });

  test("destroys a connection whose handler throws, and lives on", async () => {
    const door = await openDoor({
      ca,
      serve: () => {
        throw new Error("a fault of ours");
      },
    });
    await closed(dial(door));
    expect(await door.refusal()).toMatchObject({ reason: "internal", detail: expect.stringContaining("a fault of ours") });
    await closed(dial(door));
    expect((await door.refusal()).reason).toBe("internal");
    await door.close();
  });

  test("lets a key update pass", async () => {
    const child = stranger.start(framed.port, ["-alpn", "pipegate/1", "-ign_eof"].slice(0, 2));
    await once(child.stdout, "data");
    child.stdin.write("K\nstill here\n");
    const { socket } = await framed.connection();
    socket.write("and there\n");
    const [bytes] = (await once(child.stdout, "data")) as [Buffer];
    expect(bytes.toString()).toBe("and there\n");
    child.stdin.end();
    await once(child, "close");
  });

  test("refuses to start without any protocol", async () => {
    await expect(openDoor({ ca, options: { alpn: [], withoutAlpn: false } })).rejects.toMatchObject({ code: "config" });
  });
});

describe.each([false, true])("the deadline of a handshake (raw listener: %s)", (withoutAlpn) => {
  test.each([
    ["silence", 0],
    ["half a hello", 60],
    ["a hello without the rest", undefined],
  ] as const)("destroys after %s, and not before", async (_, length) => {
    const clock = new FakeClock(Date.now());
    const door = await openDoor({ ca, options: { clock, withoutAlpn, handshakeTimeoutMs: 5_000 } });
    const client = await rawClient(door.port, hello.subarray(0, length));
    if (length === undefined) await once(client.socket, "data");
    await expect.poll(() => clock.waiting).toBe(1);
    clock.advance(4_999);
    expect([door.refusals.length, client.socket.destroyed]).toEqual([0, false]);
    clock.advance(1);
    expect(door.refusals.map(({ reason }) => reason)).toEqual(["handshake_timeout"]);
    await client.gone;
    await new Promise((resolve) => setTimeout(resolve, 50)); // what the TLS stack says later is not told again
    expect([door.refusals.length, clock.waiting]).toEqual([1, 0]);
    await door.close();
  });
});
