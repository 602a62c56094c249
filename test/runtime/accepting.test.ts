import { once } from "node:events";
import { createConnection, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { TcpAddress } from "../../src/base/address.ts";
import { createProbeMemory, shareProbes, watchAccepting, type AcceptWatch } from "../../src/runtime/accepting.ts";
import { bindServer } from "../../src/runtime/bind.ts";
import { facts } from "../../src/runtime/facts.ts";
import { FakeClock } from "../support/fake-clock.ts";

let clock: FakeClock;
/** Connections that are over: those that a server knew as made by a watch, and others. */
let seen: { own: number; others: number };
const troubles: Error[] = [];
const open: { readonly server: Server; readonly watch: AcceptWatch }[] = [];

/** Where probes come from, the last one first: from ports that nobody has, as chance would now and then choose one that is taken. */
let foreseen: number[] = [];

async function foreseePorts(): Promise<void> {
  const holders = Array.from({ length: 60 }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(holders.map((holder) => once(holder, "listening")));
  const ports = holders.map((holder) => (holder.address() as AddressInfo).port).filter((port) => port < 60_768);
  await Promise.all(holders.map((holder) => once(holder.close(), "close")));
  foreseen = ports;
  vi.spyOn(Math, "random").mockImplementation(() => (ports.pop()! - 32_768 + 0.5) / 28_000);
}

beforeEach(async () => {
  clock = new FakeClock();
  seen = { own: 0, others: 0 };
  await foreseePorts();
});
afterEach(() => {
  vi.restoreAllMocks();
  stop();
});

function stop(): void {
  for (const { server, watch } of open.splice(0)) {
    watch.stop();
    server.close();
  }
}

async function watched({ port, shared }: { readonly port: number; readonly shared: boolean }): Promise<TcpAddress> {
  const server = createServer();
  const address = (await bindServer(server, { kind: "tcp", host: "127.0.0.1", port }, { shared })) as TcpAddress;
  const watch = watchAccepting(server, { address, clock, shared, troubled: (error) => void troubles.push(error) });
  server.on("connection", (socket: Socket) => {
    const who = watch.takeOwn(socket) ? "own" : "others";
    socket.resume().end();
    void once(socket, "close").then(() => seen[who]++);
  });
  open.push({ server, watch });
  return address;
}

/** Until so many were taken up and hung up on, at both ends. */
async function over(count: number): Promise<void> {
  await expect.poll(() => seen.own, { interval: 5, timeout: 5_000 }).toBe(count);
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test("a server that was quiet is dialled where a runtime may have ceased to accept, and knows that from a client", async () => {
  await watched({ port: 0, shared: false });
  expect(clock.waiting).toBe(facts.keepsAccepting ? 0 : 1);
  if (facts.keepsAccepting) return;
  for (let dialled = 1; dialled <= 3; dialled++) {
    clock.advance(3_000); // the first time it is new, then the one that was dialled has proven it well
    await over(dialled - 1);
    clock.advance(3_000);
    await over(dialled);
    clock.advance(1_000);
  }
  stop();
  expect([clock.waiting, seen.others, troubles]).toEqual([0, 0, []]);
});

describe.skipIf(facts.keepsAccepting)("a client that has the port of a probe is a client", () => {
  /** Comes from `localPort`, and is gone when it was hung up on. */
  async function comes(port: number, localPort: number): Promise<void> {
    const client = createConnection({ host: "127.0.0.1", port, localAddress: "127.0.0.1", localPort });
    await once(client.resume(), "close");
  }

  test.each([false, true])("once the probe was taken up (shared: %s)", async (shared) => {
    shareProbes(shared ? createProbeMemory() : new SharedArrayBuffer(0));
    const { port } = await watched({ port: 0, shared });
    clock.advance(3_000);
    const from = foreseen.at(-1)!;
    clock.advance(3_000);
    await over(1);
    await comes(port, from);
    await expect.poll(() => seen, { interval: 5, timeout: 5_000 }).toEqual({ own: 1, others: 1 });
  });

  test("where the probe could not have it", async () => {
    const { port } = await watched({ port: 0, shared: false });
    clock.advance(3_000);
    const from = foreseen.at(-1)!;
    const holder = createServer().listen(from, "127.0.0.1");
    await once(holder, "listening");
    clock.advance(3_000);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve)); // the probe failed
    await once(holder.close(), "close");
    await comes(port, from);
    await expect.poll(() => seen, { interval: 5, timeout: 5_000 }).toEqual({ own: 0, others: 1 });
  });
});

test("servers that share a port know each other's, and none of them listens anew because the other was dialled", async () => {
  const memory = createProbeMemory();
  shareProbes(memory);
  const { port } = await watched({ port: 0, shared: true });
  await watched({ port, shared: true });
  let dialled = 0;
  for (let second = 0; second < 40; second++) {
    clock.advance(1_000); // for so long a probe has to be taken up
    dialled += new Int32Array(memory).filter((from) => from !== 0).length;
    await over(dialled);
  }
  expect(dialled > 0).toBe(!facts.keepsAccepting);
  stop();
  expect([clock.waiting, seen.others, troubles]).toEqual([0, 0, []]);
});

describe("a server that stopped accepting listens anew", () => {
  /** After how many milliseconds of quiet; undefined: not within 20 s. */
  async function after(begin: (watch: AcceptWatch, server: Server) => void): Promise<number | undefined> {
    const server = createServer();
    const address = await bindServer(server, { kind: "tcp", host: "127.0.0.1", port: 0 });
    const emit = server.emit.bind(server);
    server.emit = (name: string, ...rest: unknown[]): boolean => {
      if (name !== "connection") return emit(name, ...rest);
      (rest[0] as Socket).destroy();
      return true; // nobody hears of it, as if it had not been accepted
    };
    let closedAt: number | undefined; // to listen anew
    const close = server.close.bind(server);
    server.close = () => {
      closedAt ??= clock.now();
      return close();
    };
    const watch = watchAccepting(server, { address, clock, troubled: (error) => void troubles.push(error) });
    open.push({ server, watch });
    begin(watch, server);
    for (let turn = 0; turn < 200 && troubles.length === 0; turn++) {
      clock.advance(100);
      await new Promise((resolve) => setTimeout(resolve, 1)); // it binds, perhaps at a second try; what is dialled is refused
    }
    expect([server.listening, troubles.splice(0).length]).toEqual([true, closedAt === undefined ? 0 : 1]);
    return closedAt;
  }

  test("after some seconds when nothing was amiss", async () => {
    expect(await after(() => {})).toBe(facts.keepsAccepting ? undefined : 7_000);
  });

  test("within 0.9 s while descriptors are scarce: before a client that was not heard dials the second time", async () => {
    expect(await after((watch) => watch.scarce())).toBe(facts.keepsAccepting ? undefined : 900);
  });

  test("also when it cannot have its address at first, and descriptors are scarce by then", async () => {
    const at = await after((watch, server) => {
      vi.spyOn(server, "listen").mockImplementationOnce(() => {
        queueMicrotask(() => server.emit("error", Object.assign(new Error("as planned"), { code: "EADDRINUSE" })));
        setImmediate(() => watch.scarce()); // it waits for its next try
        return server;
      });
    });
    expect(at).toBe(facts.keepsAccepting ? undefined : 7_000);
  });
});
