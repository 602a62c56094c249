import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { afterAll, describe, expect, test } from "vitest";
import { facts } from "../../src/runtime/facts.ts";
import type { SecureConnection } from "../../src/tls/listener-events.ts";
import { closed, openDoor, type TestDoor } from "../support/door.ts";
import { createTestCa } from "../support/mint.ts";
import { opensslClient } from "../support/openssl-client.ts";

const MiB = 1 << 20;
const ca = createTestCa();
const alice = ca.client("alice");
const stranger = opensslClient(ca.certificate, alice);
const raw = { withoutAlpn: true } as const;
afterAll(() => stranger.remove());

function dial(door: TestDoor, allowHalfOpen = true): TLSSocket {
  const options = {
    host: "127.0.0.1",
    port: door.port,
    ca: ca.certificate,
    cert: alice.certificate,
    key: alice.key,
    servername: "localhost",
    allowHalfOpen,
  };
  const socket = connectTls(options);
  socket.on("error", () => {});
  return socket;
}

async function dialled(door: TestDoor): Promise<TLSSocket> {
  const socket = dial(door);
  await once(socket, "secureConnect");
  return socket;
}

/** Stops reading, the way that works on this runtime. */
function hold({ socket, hold: holdBelow }: SecureConnection): void {
  if (holdBelow === undefined) socket.pause();
  else holdBelow();
}
function release({ socket, release: releaseBelow }: SecureConnection): void {
  if (releaseBelow === undefined) socket.resume();
  else releaseBelow();
}

describe("a raw connection", () => {
  test("can be held: what the client sends waits at the client, then comes whole, and its end behind it", async () => {
    let received = 0;
    let ended = false;
    const hash = createHash("sha256");
    const door = await openDoor({
      ca,
      options: raw,
      serve: (connection) => {
        const { socket } = connection;
        hold(connection);
        socket.on("data", (chunk: Buffer) => void ((received += chunk.length), hash.update(chunk)));
        if (connection.hold === undefined) socket.pause(); // a listener for data starts it
        socket.on("end", () => ((ended = true), socket.end()));
      },
    });
    const sent = randomBytes(64 * MiB);
    const client = await dialled(door);
    const over = closed(client);
    client.end(sent);
    const connection = await door.connection();
    let before = -1;
    for (let now = 0; now !== before; before = now, now = client.bytesWritten) await new Promise((resolve) => setTimeout(resolve, 200));
    expect(received).toBeLessThan(8 * MiB);
    expect(connection.socket.readableLength + received).toBeLessThan(8 * MiB);
    expect(ended).toBe(false);
    release(connection);
    await expect.poll(() => ended, { timeout: 20_000 }).toBe(true);
    expect([received, hash.digest("hex")]).toEqual([sent.length, createHash("sha256").update(sent).digest("hex")]);
    await over;
    await door.close();
  }, 60_000);

  test("held from the first byte on still reports an end that came meanwhile, large or small", async () => {
    for (const size of [0, 1, 70_000, 3 * MiB]) {
      let received = 0;
      let ended = false;
      const door = await openDoor({
        ca,
        options: raw,
        serve: (connection) => {
          hold(connection);
          connection.socket.on("end", () => (ended = true));
          connection.socket.on("data", (chunk: Buffer) => void (received += chunk.length));
          if (connection.hold === undefined) connection.socket.pause();
        },
      });
      const client = await dialled(door);
      client.end(Buffer.alloc(size));
      const connection = await door.connection();
      await new Promise((resolve) => setTimeout(resolve, 100));
      release(connection);
      await expect.poll(() => ended).toBe(true);
      expect(received).toBe(size);
      client.destroy();
      await door.close();
    }
  });

  test("echoes 64 MiB of openssl's, held and released all the while, with equal hashes", async () => {
    const door = await openDoor({
      ca,
      options: raw,
      serve: (connection) => {
        const { socket } = connection;
        socket.on("data", (chunk: Buffer) => {
          if (!socket.write(chunk)) hold(connection);
        });
        socket.on("drain", () => release(connection));
        socket.on("end", () => socket.end());
      },
    });
    const sent = randomBytes(64 * MiB);
    const child = stranger.start(door.port, ["-ign_eof"]);
    const hash = createHash("sha256");
    let received = 0;
    let writing = 0;
    child.stdin.on("error", () => {});
    const feed = (): void => {
      while (writing < sent.length) if (!child.stdin.write(sent.subarray(writing, (writing += MiB)))) return;
    };
    child.stdin.on("drain", feed);
    feed();
    child.stdout.on("data", (chunk: Buffer) => {
      received += chunk.length;
      hash.update(chunk);
      if (received === sent.length) child.kill("SIGKILL");
    });
    await once(child, "close");
    expect([received, hash.digest("hex")]).toEqual([sent.length, createHash("sha256").update(sent).digest("hex")]);
    await door.close();
  }, 60_000);

  test("that is held is destroyed with its socket below, and the other way round", async () => {
    const door = await openDoor({ ca, options: raw, serve: hold });
    for (const which of ["socket", "below"] as const) {
      const client = dial(door, false);
      const connection = await door.connection();
      const over = Promise.all([closed(client), closed(connection.socket), closed(connection.below)]);
      connection[which].destroy();
      await over;
      expect([connection.socket.destroyed, connection.below.destroyed]).toEqual([true, true]);
    }
    await door.close();
  });

  test("has a hold of its own where the TLS socket's pause does not hold, and none where frames are spoken", async () => {
    const framed = await openDoor({ ca });
    const door = await openDoor({ ca, options: raw });
    const clients = [
      dial(door),
      connectTls({
        host: "127.0.0.1",
        port: framed.port,
        ca: ca.certificate,
        cert: alice.certificate,
        key: alice.key,
        servername: "localhost",
        ALPNProtocols: ["pipegate/1"],
      }),
    ];
    for (const client of clients) client.on("error", () => {});
    expect([(await door.connection()).hold === undefined, (await framed.connection()).hold]).toEqual([facts.holdsTlsReads, undefined]);
    for (const client of clients) client.destroy();
    await door.close();
    await framed.close();
  });
});

describe("a listener without descriptors", () => {
  test("does not spin, and serves again when there are some", async () => {
    const program = new URL("../support/programs/starved-door.ts", import.meta.url).pathname;
    const words = "Deno" in globalThis ? ["run", "-A", "--quiet", program] : [program];
    const child = spawn("/bin/sh", ["-c", `ulimit -n 80; exec "$0" "$@"`, process.execPath, ...words], {
      timeout: 25_000,
      killSignal: "SIGKILL",
    });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => void (out += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => void (err += chunk.toString()));
    await once(child, "close");
    expect(err).toBe("");
    const { busy, served } = JSON.parse(out) as { readonly busy: number; readonly served: boolean };
    expect(busy).toBeLessThan(0.5); // of a second, while starved for one
    expect(served).toBe(true);
  }, 40_000);
});
