import { Buffer } from "node:buffer";
import { afterEach, describe, expect, test } from "vitest";
import { PipegateError } from "../../src/base/error.ts";
import type { SocketAddress } from "../../src/base/address.ts";
import { Dialler, type Dialling, type DialOptions } from "../../src/runtime/dial.ts";
import { prepareTls } from "../../src/runtime/dial-tls.ts";
import { facts } from "../../src/runtime/facts.ts";
import { type BackEnd, type BackEndOptions, type Behaviour, echo, silent, sink, startBackEnd } from "../support/back-ends.ts";
import { ChannelWatch } from "../support/channel-watch.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { freePort } from "../support/listeners.ts";
import { createTestCa, type Issued, type LeafOptions } from "../support/mint.ts";
import { dial } from "../support/dialled.ts";

const ca = createTestCa();
const day = 24 * 3_600_000;

const open: BackEnd[] = [];
afterEach(async () => {
  for (const backEnd of open.splice(0)) await backEnd.close();
});

async function start(behaviour: Behaviour, options: BackEndOptions = {}): Promise<BackEnd> {
  const backEnd = await startBackEnd(behaviour, options);
  open.push(backEnd);
  return backEnd;
}

async function failure(promise: Promise<unknown>): Promise<PipegateError> {
  try {
    await promise;
  } catch (error) {
    expect(error).toBeInstanceOf(PipegateError);
    return error as PipegateError;
  }
  throw new Error("it succeeded");
}

const how = (more: Partial<DialOptions> = {}): DialOptions => ({ timeoutMs: 10_000, ...more });
const local = ({ port }: { readonly port: number }): SocketAddress => ({ kind: "tcp", host: "127.0.0.1", port });

async function roundTrip(addresses: readonly SocketAddress[], options: DialOptions): Promise<string> {
  const { channel, text } = await dial(addresses, options);
  const watch = new ChannelWatch(channel);
  channel.write(Buffer.from("hi"), false);
  channel.closeWrite();
  await watch.closed();
  expect([watch.content.toString(), watch.broken, watch.faults]).toEqual(["hi", undefined, []]);
  return text;
}

const turns = async (count = 20): Promise<void> => {
  for (let at = 0; at < count; at++) await Promise.resolve();
};
const until = async (when: () => boolean): Promise<void> => {
  while (!when()) await new Promise((resolve) => void setTimeout(resolve, 2));
};

describe("dialling a back end", () => {
  test("TCP, a unix socket and a name are reached, and told for the log", async () => {
    const tcp = await start(echo);
    const unix = await start(echo, { unix: true });
    expect(await roundTrip([local(tcp)], how())).toBe(`127.0.0.1:${tcp.port}`);
    expect(await roundTrip([{ kind: "unix", path: unix.path }], how())).toBe(`unix:${unix.path}`);
    expect(await roundTrip([{ kind: "tcp", host: "localhost", port: tcp.port }], how())).toBe(`127.0.0.1:${tcp.port}`);
  });

  test("a refused connection is target_unavailable, with the address and the cause in the detail", async () => {
    const port = await freePort();
    const error = await failure(dial([{ kind: "tcp", host: "127.0.0.1", port }], how()));
    expect(error.code).toBe("target_unavailable");
    expect(error.message).toContain(`127.0.0.1:${port}`);
    expect(error.message).toContain("ECONNREFUSED");
  });

  test("a unix socket that is not there is target_unavailable", async () => {
    const error = await failure(dial([{ kind: "unix", path: "/nowhere/at/all.sock" }], how()));
    expect([error.code, error.message.includes("unix:/nowhere/at/all.sock"), error.message.includes("ENOENT")]).toEqual([
      "target_unavailable",
      true,
      true,
    ]);
  });

  test("a name that does not exist is target_unavailable, and the next address is tried", async () => {
    const error = await failure(dial([{ kind: "tcp", host: "no-such-host.invalid", port: 1 }], how()));
    expect(error.code).toBe("target_unavailable");
    expect(error.message).toMatch(/no-such-host\.invalid.*(ENOTFOUND|EAI_AGAIN)/);
    const backEnd = await start(echo);
    expect(await roundTrip([{ kind: "tcp", host: "no-such-host.invalid", port: 1 }, local(backEnd)], how())).toBe(
      `127.0.0.1:${backEnd.port}`,
    );
  });

  test("addresses are tried in turn, and a later one is not dialled once one stands", async () => {
    const first = await start(echo);
    const second = await start(echo);
    const refused: SocketAddress = { kind: "tcp", host: "127.0.0.1", port: await freePort() };
    expect(await roundTrip([refused, local(first), local(second)], how())).toBe(`127.0.0.1:${first.port}`);
    expect([first.connections, second.connections]).toEqual([1, 0]);
    const error = await failure(dial([refused, { kind: "unix", path: "/nowhere.sock" }], how()));
    expect([error.message.includes(String(refused.port)), error.message.includes("/nowhere.sock")]).toEqual([true, true]);
  });

  test("one that hangs leaves the next its share of the time; when all hang it is target_timeout", async () => {
    const backEnd = await start(echo);
    const clock = new FakeClock();
    const going = dial([local(backEnd), local(backEnd)], how({ clock, timeoutMs: 1_000 }));
    await turns();
    expect(clock.waiting).toBe(1);
    clock.advance(500); // before the event loop turns, no connection stands
    const { channel } = await going;
    channel.reset({ reason: "cancelled" });
    expect([clock.now(), clock.waiting]).toEqual([500, 0]);

    const all = failure(dial([local(backEnd), local(backEnd)], how({ clock, timeoutMs: 1_000 })));
    await turns();
    clock.advance(500);
    await turns();
    clock.advance(500);
    const error = await all;
    expect(error.code).toBe("target_timeout");
    expect(error.message).toContain("no answer within 500 ms");
    expect(clock.waiting).toBe(0);
  });

  test("a cancel gives up at once: nothing is told any more, and no connection and no timer is left", async () => {
    const backEnd = await start(silent);
    const clock = new FakeClock();
    const told: string[] = [];
    const tls = prepareTls({ ca: [ca.certificate] });
    const dialler = new Dialler([local(backEnd)], { timeoutMs: 10_000, clock, tls });
    const dialling = (): Dialling =>
      dialler.dial({ connected: () => void told.push("connected"), failed: ({ code }) => void told.push(code) });
    dialling().cancel();
    expect(clock.waiting).toBe(0);
    const { connections } = backEnd;
    const late = dialling();
    await until(() => backEnd.connections > connections); // it shakes hands
    late.cancel();
    late.cancel();
    expect(clock.waiting).toBe(0);
    backEnd.stall(false);
    await until(() => [...backEnd.sockets].every((socket) => socket.readableEnded));
    clock.advance(20_000);
    expect(told).toEqual([]);
  });
});

describe("dialling a back end over TLS", () => {
  const serve = async (leaf: Issued | LeafOptions, more: BackEndOptions["tls"] = {}, behaviour: Behaviour = echo): Promise<BackEnd> => {
    const { certificate, key } = "privateKey" in leaf && "der" in leaf ? leaf : ca.issue({ role: "gateway", ...leaf });
    return start(behaviour, { tls: { cert: certificate, key, ...more } });
  };
  const trusting = (more: Partial<Parameters<typeof prepareTls>[0]> = {}): DialOptions =>
    how({ tls: prepareTls({ ca: [ca.certificate], ...more }) });

  test("a back end of the configured CA is reached by address, by name, and by the name that is set", async () => {
    const backEnd = await serve(ca.gateway());
    expect(await roundTrip([local(backEnd)], trusting())).toMatch(/:\d+$/);
    expect(await roundTrip([{ kind: "tcp", host: "localhost", port: backEnd.port }], trusting())).toMatch(/:\d+$/);
    const other = await serve({ dns: "db.internal" });
    expect(await roundTrip([local(other)], trusting({ serverName: "db.internal" }))).toMatch(/:\d+$/);
  });

  test("TLS 1.2 back ends are taken", async () => {
    const backEnd = await serve(ca.gateway(), { maxVersion: "TLSv1.2" });
    expect(await roundTrip([local(backEnd)], trusting())).toMatch(/:\d+$/);
  });

  test("a foreign CA, an expired certificate, a wrong name and a client's certificate are refused, and not a byte goes there", async () => {
    const foreign = createTestCa().gateway();
    const wrong: readonly (Issued | LeafOptions)[] = [
      foreign,
      { dns: "localhost", ip: "127.0.0.1", notBefore: Date.now() - 3 * day, notAfter: Date.now() - day },
      { dns: "elsewhere.example" },
      { dns: "localhost", ip: "127.0.0.1", role: "client" },
    ];
    for (const [index, leaf] of wrong.entries()) {
      const backEnd = await serve(leaf, {}, sink);
      const error = await failure(dial([local(backEnd)], trusting()));
      expect([index, error.code, error.message.includes(String(backEnd.port))]).toEqual([index, "target_unavailable", true]);
      expect(backEnd.received).toBe(0);
    }
  });

  test("without a configured CA the public roots count, and ours is not among them", async () => {
    const backEnd = await serve(ca.gateway());
    expect((await failure(dial([local(backEnd)], trusting({ ca: [] })))).code).toBe("target_unavailable");
  });

  test("our certificate is shown to a back end that asks for one", async () => {
    const { certificate, key } = ca.issue({ role: "client", uri: "spiffe://dev/gateway" });
    const backEnd = await serve(ca.gateway(), { ca: [ca.certificate], requestCert: true, rejectUnauthorized: true });
    expect(await roundTrip([local(backEnd)], trusting({ certificate, key }))).toMatch(/:\d+$/);
  });

  test("a back end that does not speak TLS is target_unavailable, and one that says nothing is target_timeout", async () => {
    const plain = await start((socket) => void socket.end("220 mail.example ESMTP\r\n"));
    expect((await failure(dial([local(plain)], trusting()))).code).toBe("target_unavailable");
    const quiet = await start(silent);
    const clock = new FakeClock();
    const going = failure(dial([local(quiet)], { ...trusting(), clock, timeoutMs: 5_000 }));
    await until(() => quiet.connections === 1);
    clock.advance(5_000);
    expect([(await going).code, clock.waiting]).toEqual(["target_timeout", 0]);
  });

  test("credentials that cannot work are refused when the target is made, not when it is dialled", () => {
    const ours = ca.issue({ role: "client" });
    const theirs = ca.issue({ role: "client" });
    for (const options of [
      { ca: ["junk"] },
      { ca: [ca.certificate], certificate: ours.certificate },
      { ca: [ca.certificate], certificate: ours.certificate, key: theirs.key },
      { ca: [ca.certificate], certificate: "junk", key: ours.key },
    ]) {
      expect(() => prepareTls(options)).toThrow(expect.objectContaining({ code: "config" }));
    }
  });

  test("credentials that the TLS stack throws at are refused when the target is made (Node), or fail its dials (Deno)", async () => {
    const weak = ca.issue({ role: "client", keyType: "rsa1024" });
    const make = (): DialOptions => how({ tls: prepareTls({ ca: [ca.certificate], certificate: weak.certificate, key: weak.key }) });
    if (facts.name === "node") return expect(make).toThrow(expect.objectContaining({ code: "config" }));
    const own = ca.gateway();
    const backEnd = await start(silent, { tls: { cert: own.certificate, key: own.key } });
    expect((await failure(dial([local(backEnd)], make()))).code).toBe("target_unavailable");
  });
});
