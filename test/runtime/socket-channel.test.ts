import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import type { Channel } from "../../src/base/channel.ts";
import { prepareTls } from "../../src/runtime/dial-tls.ts";
import { socketChannel } from "../../src/runtime/socket-channel.ts";
import {
  answering,
  type BackEnd,
  type Behaviour,
  echo,
  halfClosing,
  silent,
  sink,
  source,
  sourceBytes,
  startBackEnd,
} from "../support/back-ends.ts";
import { ChannelWatch } from "../support/channel-watch.ts";
import { collect, collectUntil } from "../support/collect.ts";
import { createTestCa } from "../support/mint.ts";
import { dial } from "../support/dialled.ts";

const MiB = 1 << 20;
const ca = createTestCa();
const issued = ca.gateway();

const open: (BackEnd | Channel)[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) {
    if ("close" in each) await each.close();
    else each.reset({ reason: "cancelled" });
  }
});

const transports = ["tcp", "unix", "tls 1.3", "tls 1.2"] as const;
type Transport = (typeof transports)[number];

/** A back end, and a channel to it. */
async function reach(transport: Transport, behaviour: Behaviour): Promise<{ readonly backEnd: BackEnd; readonly channel: Channel }> {
  const tls = transport.startsWith("tls");
  const backEnd = await startBackEnd(behaviour, {
    unix: transport === "unix",
    ...(tls ? { tls: { cert: issued.certificate, key: issued.key, ...(transport === "tls 1.2" ? { maxVersion: "TLSv1.2" } : {}) } } : {}),
  });
  open.push(backEnd);
  const address = backEnd.path
    ? { kind: "unix" as const, path: backEnd.path }
    : { kind: "tcp" as const, host: backEnd.host, port: backEnd.port };
  const { channel } = await dial([address], {
    timeoutMs: 10_000,
    ...(tls ? { tls: prepareTls({ ca: [ca.certificate] }) } : {}),
  });
  open.push(channel);
  return { backEnd, channel };
}

function pieces(content: Uint8Array): Uint8Array[] {
  const all: Uint8Array[] = [];
  for (let at = 0, turn = 0; at < content.length; turn++) {
    const length = [1, 300, 16_384, 70_000, 9, 2_000][turn % 6]!;
    all.push(content.subarray(at, at + length));
    at += length;
  }
  return all;
}

const turn = (ms = 0): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));

async function until(when: () => boolean): Promise<void> {
  while (!when()) await turn(2);
}

/** Resolves when `value` did not change over some turns of the event loop. */
async function settled(value: () => number): Promise<void> {
  for (let same = 0, last = value(); same < 20; same = value() === last ? same + 1 : 0) {
    last = value();
    await turn(5);
  }
}

for (const transport of transports) {
  describe(`a ${transport} socket as a channel`, () => {
    test("4 MiB in all sizes of chunks come back whole, then the end, then closed, once each", async () => {
      const { channel } = await reach(transport, echo);
      const watch = new ChannelWatch(channel);
      const content = randomBytes(4 * MiB);
      await watch.send(pieces(content));
      channel.closeWrite();
      await watch.closed();
      expect(watch.content.equals(content)).toBe(true);
      expect([watch.ended, watch.broken, watch.faults]).toEqual([true, undefined, []]);
    });

    test("4 MiB that are answered after our half-close arrive whole", async () => {
      const { channel, backEnd } = await reach(transport, answering(4 * MiB));
      const watch = new ChannelWatch(channel);
      await watch.send([Buffer.alloc(100_000, 1)]);
      channel.closeWrite();
      await watch.closed();
      expect([backEnd.connections, backEnd.received, watch.content.equals(sourceBytes(4 * MiB)), watch.ended, watch.broken]).toEqual([
        1,
        100_000,
        true,
        true,
        undefined,
      ]);
    });

    test("1 MiB from a back end that writes and closes arrives whole, with an end", async () => {
      const { channel } = await reach(transport, source(MiB));
      const watch = new ChannelWatch(channel);
      await watch.until(() => watch.ended);
      expect(watch.content.equals(sourceBytes(MiB))).toBe(true);
      channel.closeWrite();
      await watch.closed();
      expect([watch.broken, watch.faults]).toEqual([undefined, []]);
    });

    test("our direction goes on after theirs ended", async () => {
      const { channel, backEnd } = await reach(transport, halfClosing);
      const watch = new ChannelWatch(channel);
      await watch.until(() => watch.ended);
      await watch.send(pieces(randomBytes(MiB)));
      expect(watch.isClosed).toBe(false);
      channel.closeWrite();
      await watch.closed();
      expect(watch.broken).toBeUndefined();
      await settled(() => backEnd.received);
      expect(backEnd.received).toBe(MiB);
    });

    test("while paused nothing is delivered and little is taken in; after it comes all, and the end behind it", async () => {
      const total = 24 * MiB;
      let handed = 0;
      const { channel } = await reach(transport, (socket) => {
        const chunk = Buffer.alloc(64 << 10, 7);
        const pump = (): void => {
          while (handed < total) {
            handed += chunk.length;
            if (!socket.write(chunk)) return void socket.once("drain", pump);
          }
          socket.end();
        };
        pump();
      });
      const watch = new ChannelWatch(channel);
      await watch.until(() => watch.bytes > 100_000);
      watch.pause();
      await settled(() => handed);
      expect(handed).toBeLessThan(total); // the kernel's buffers hold some MiB, but not all of it
      expect(watch.faults).toEqual([]);
      watch.resume();
      await watch.until(() => watch.ended);
      expect(watch.bytes).toBe(total);
    });

    test("who pauses at each chunk hears of the end after he went on from the last one, also when the socket is closed by then", async () => {
      const { channel } = await reach(transport, answering(300_000));
      channel.closeWrite();
      const watch = new ChannelWatch(channel);
      watch.onData = () => {
        watch.pause();
        setTimeout(() => watch.resume(), 3);
      };
      await watch.closed();
      expect([watch.content.equals(sourceBytes(300_000)), watch.ended, watch.broken, watch.faults]).toEqual([true, true, undefined, []]);
    });

    test("a channel that nobody listens to yet keeps what comes, and its end", async () => {
      const { channel } = await reach(transport, source(300_000));
      await turn(50);
      const watch = new ChannelWatch(channel, { paused: true });
      await turn(20);
      expect(watch.bytes).toBe(0);
      watch.resume();
      await watch.until(() => watch.ended);
      expect([watch.content.equals(sourceBytes(300_000)), watch.faults]).toEqual([true, []]);
    });

    test("a back end that does not read makes write ask for a pause, within a bound; reading on brings drained", async () => {
      const { channel, backEnd } = await reach(transport, silent);
      const watch = new ChannelWatch(channel);
      await until(() => backEnd.connections === 1);
      const chunk = Buffer.alloc(50_000);
      let written = 0;
      for (let stuck = false; !stuck;) {
        const { drains } = watch;
        while (channel.write(chunk, false)) written += chunk.length;
        await Promise.race([watch.until(() => watch.drains > drains), turn(200)]);
        stuck = watch.drains === drains;
        if (written > 64 * MiB) break;
      }
      expect(written).toBeLessThan(64 * MiB); // the kernel's buffers hold some MiB
      const { drains } = watch;
      backEnd.stall(false);
      for (const socket of backEnd.sockets) socket.resume();
      await watch.until(() => watch.drains > drains);
      expect(watch.faults).toEqual([]);
    });

    test("our reset ends at once, also when the other side does not read, and is closed with its own reason", async () => {
      const { channel } = await reach(transport, silent);
      const watch = new ChannelWatch(channel);
      for (let at = 0; at < 200 && channel.write(Buffer.alloc(MiB), false); at++) await turn();
      channel.reset({ reason: "idle_timeout", detail: "told" });
      channel.reset({ reason: "internal" });
      await watch.closed();
      channel.write(Buffer.alloc(10), false);
      channel.closeWrite();
      channel.pause();
      channel.resume();
      await turn(10);
      expect([watch.broken, watch.ended, watch.faults]).toEqual([{ reason: "idle_timeout", detail: "told" }, false, []]);
    });
  });
}

for (const transport of transports.filter((each) => each !== "unix")) {
  describe(`a ${transport} socket that is cut`, () => {
    test("a RST from the back end is a break with the channel's reason, never an end", async () => {
      const { channel, backEnd } = await reach(transport, (socket) => void socket.write(sourceBytes(1_000)));
      const watch = new ChannelWatch(channel);
      await watch.until(() => watch.bytes === 1_000);
      backEnd.reset();
      await watch.closed();
      expect([watch.broken?.reason, watch.ended, watch.faults]).toEqual(["target_reset", false, []]);
    });

    test("a RST while paused is a break, never an end", async () => {
      const { channel, backEnd } = await reach(transport, (socket) => void socket.write(sourceBytes(1_000)));
      const watch = new ChannelWatch(channel);
      await watch.until(() => watch.bytes === 1_000);
      watch.pause();
      backEnd.reset();
      await turn(20);
      watch.resume();
      await watch.closed();
      expect([watch.broken?.reason, watch.ended, watch.faults]).toEqual(["target_reset", false, []]);
    });

    test("our reset is a RST to the back end, never an end", async () => {
      const seen: string[] = [];
      const { channel } = await reach(transport, (socket) => {
        socket.on("data", (chunk: Buffer) => seen.push(`${chunk.length}`));
        socket.on("end", () => seen.push("end"));
        socket.on("error", (error: NodeJS.ErrnoException) => seen.push(error.code ?? error.message));
        socket.on("close", () => seen.push("close"));
      });
      const watch = new ChannelWatch(channel);
      channel.write(Buffer.alloc(500), false);
      await until(() => seen.length > 0);
      channel.reset({ reason: "cancelled" });
      await watch.closed();
      await until(() => seen.includes("close"));
      expect(seen).toEqual(["500", "ECONNRESET", "close"]);
    });
  });
}

describe("a channel over any socket", () => {
  /** A socket that keeps what it is told to write, a write each. */
  class Recorder extends Duplex {
    readonly writes: number[] = [];
    readonly content: Buffer[] = [];
    /** Set to keep the first write from being done. */
    stuck = false;
    release: (() => void) | undefined;
    override _read(): void {}
    override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
      this.#take([chunk], done);
    }
    override _writev(chunks: { readonly chunk: Buffer }[], done: () => void): void {
      this.#take(
        Array.from(chunks, (each) => each.chunk),
        done,
      );
    }
    #take(chunks: Buffer[], done: () => void): void {
      this.writes.push(chunks.length);
      this.content.push(...chunks);
      if (this.stuck) this.release = done;
      else done();
    }
  }
  const over = (socket: Duplex): Channel => socketChannel(socket as unknown as Socket, { broken: "session_lost" });

  test("what one turn brings leaves in one write, small chunks joined", async () => {
    const socket = new Recorder();
    const channel = over(socket);
    const sent = [Buffer.alloc(10, 1), Buffer.alloc(20, 2), Buffer.alloc(16_384, 3), Buffer.alloc(30, 4), Buffer.alloc(40, 5)];
    for (const chunk of sent) channel.write(chunk, false);
    expect(socket.writes).toEqual([]);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect(socket.writes).toEqual([3]);
    expect(Buffer.concat(socket.content).equals(Buffer.concat(sent))).toBe(true);
  });

  test("a socket that waits is given one batch at a time, and tiny chunks for it cost little more than their bytes", async () => {
    const socket = new Recorder();
    const channel = over(socket);
    socket.stuck = true;
    channel.write(Buffer.from("first"), false);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    for (let at = 0; at < 10_000; at++) {
      channel.write(new Uint8Array(16 << 10).fill(at, 0, 1).subarray(0, 1), false);
      if (at % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(socket.writes).toEqual([1]);
    socket.stuck = false;
    socket.release?.();
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect(socket.writes).toEqual([1, 1]);
    expect(socket.content[1]).toHaveLength(10_000);
    expect(socket.content[1]!.buffer.byteLength).toBeLessThan(64 << 10);
  });

  test("who was told to wait hears of it, also when more was written meanwhile and would have had room", async () => {
    const socket = new Recorder();
    socket.stuck = true;
    const watch = new ChannelWatch(over(socket));
    const turns = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect(watch.channel.write(Buffer.alloc(160 << 10), false)).toBe(true);
    await turns();
    expect(watch.channel.write(Buffer.alloc(150 << 10), false)).toBe(false);
    socket.release?.(); // 150 KiB are left: less than asks for a pause, more than ends one
    await turns();
    expect([watch.channel.write(Buffer.alloc(10), false), watch.drains]).toEqual([false, 0]);
    socket.stuck = false;
    socket.release?.();
    await turns();
    expect(watch.drains).toBe(1);
  });

  test("small chunks of many channels in turns stay with their channel", async () => {
    const sockets = Array.from({ length: 7 }, () => new Recorder());
    const channels = sockets.map(over);
    for (let at = 0; at < 70_000; at++) channels[at % 7]!.write(Buffer.alloc(1 + (at % 5), at % 7), false);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    for (const [index, socket] of sockets.entries()) {
      const content = Buffer.concat(socket.content);
      expect([content.length, content.every((byte) => byte === index)]).toEqual([30_000, true]);
    }
  });

  test("a close without an end is a break, and so is one before all was sent", async () => {
    const cut = new Recorder();
    const first = new ChannelWatch(over(cut));
    cut.destroy();
    await first.closed();
    expect([first.broken?.reason, first.ended]).toEqual(["session_lost", false]);
    const early = new Recorder();
    const second = new ChannelWatch(over(early));
    early.push(null);
    await second.until(() => second.ended);
    early.destroy();
    await second.closed();
    expect([second.broken?.reason, second.ended, second.faults]).toEqual(["session_lost", true, []]);
  });

  test("who pauses at each chunk of what waited when its socket closed loses none and is not overrun", async () => {
    const socket = new Recorder();
    const channel = socketChannel(socket as unknown as Socket, { broken: "session_lost", hold: () => {}, release: () => {} });
    const watch = new ChannelWatch(channel, { paused: true });
    for (const byte of [1, 2, 3]) socket.push(Buffer.alloc(1_000, byte));
    socket.push(null);
    channel.closeWrite();
    await new Promise((resolve) => void socket.once("close", resolve));
    watch.onData = () => {
      watch.pause();
      setTimeout(() => watch.resume());
    };
    watch.resume();
    await watch.closed();
    expect([watch.bytes, watch.ended, watch.broken, watch.faults]).toEqual([3_000, true, undefined, []]);
  });

  test("a reset of who paused before the end, and whose socket has closed since, is told as any other", async () => {
    const socket = new Recorder();
    const channel = over(socket);
    const watch = new ChannelWatch(channel);
    watch.onData = () => watch.pause();
    socket.push(Buffer.alloc(1_000));
    socket.push(null);
    channel.closeWrite();
    await new Promise((resolve) => void socket.once("close", resolve));
    await turn(5);
    expect([watch.bytes, watch.ended, watch.isClosed]).toEqual([1_000, false, false]);
    channel.reset({ reason: "revoked" });
    await watch.closed();
    await turn(5);
    expect([watch.broken, watch.ended, watch.faults]).toEqual([{ reason: "revoked" }, false, []]);
  });

  test("an end and a close from before anybody listened are told after attach, in order", async () => {
    const backEnd = await startBackEnd(sink);
    open.push(backEnd);
    const socket = connect({ host: backEnd.host, port: backEnd.port, allowHalfOpen: true });
    await new Promise((resolve) => void socket.once("connect", resolve));
    const channel = over(socket);
    channel.closeWrite();
    await new Promise((resolve) => void socket.once("close", resolve));
    const watch = new ChannelWatch(channel);
    await watch.closed();
    expect([watch.ended, watch.broken, watch.faults]).toEqual([true, undefined, []]);
  });
});

test.each([500, 5_000])(
  "chunks of %i bytes that wait for a peer who does not read keep little more alive than themselves",
  async (length) => {
    const { channel } = await reach("tcp", silent);
    while (channel.write(Buffer.alloc(16 << 10), false)) await turn();
    const held = (): number => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
    const count = MiB / length;
    collect();
    const before = held();
    for (let n = 0; n < count; n++) channel.write(new Uint8Array(64 << 10).subarray(n, n + length), false);
    expect(await collectUntil(2 * MiB, () => held() - before)).toBeLessThan(2 * MiB);
  },
);
