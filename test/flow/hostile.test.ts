import { Buffer } from "node:buffer";
import { once } from "node:events";
import { connect as connectNet } from "node:net";
import { createInterface } from "node:readline";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createLogWriter } from "../../src/base/log-writer.ts";
import { connect } from "../../src/client.ts";
import type { Client } from "../../src/client/types.ts";
import * as wire from "../../src/protocol/frame.ts";
import { Flag, Type } from "../../src/protocol/frame.ts";
import { type BackEnd, type Behaviour, echo, endless, silent, startBackEnd, targetOf, u32Responder } from "../support/back-ends.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { clientHello } from "../support/hello.ts";
import { createTestCa } from "../support/mint.ts";
import type { Measured, MeasuredStart } from "../support/programs/measured-gateway.ts";
import { dataFrame, rawFrame } from "../support/raw-peer.ts";
import { runtimeWords, startProgram } from "../support/this-runtime.ts";
import { WireClient, type WireCredentials } from "../support/wire-client.ts";

/** So that what is held is told from what is only not collected yet. */
const exposeGc = "Deno" in globalThis ? "--v8-flags=--expose-gc" : "--expose-gc";
const MiB = 1 << 20;
const mib = (bytes: number): string => `${(bytes / MiB).toFixed(0)} MiB`;
const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const backEnds: BackEnd[] = [];
const tcp = async (behaviour: Behaviour) => {
  const one = await startBackEnd(behaviour);
  backEnds.push(one);
  return targetOf(one);
};
afterAll(async () => {
  for (const one of backEnds) await one.close();
});

describe("a gateway in a process of its own", () => {
  let child: ReturnType<typeof startProgram>;
  let start: MeasuredStart;
  const answers: ((line: string) => void)[] = [];
  const who = (name: string): WireCredentials & { readonly port: number } => ({ ...start.clients[name]!, ca: start.ca, port: start.port });
  const dialled: { destroy(): void }[] = [];
  const dial = async (name: string, parameters: object = {}): Promise<WireClient> => {
    const client = await WireClient.dial({ ...who(name), parameters });
    dialled.push(client);
    return client;
  };
  const library = async (name: string): Promise<Client> => {
    const client = await connect({ ...who(name), gateway: `127.0.0.1:${start.port}` });
    dialled.push({ destroy: () => void client.close() });
    return client;
  };

  async function measured(): Promise<Measured> {
    const line = new Promise<string>((resolve) => void answers.push(resolve));
    child.stdin.write("now\n");
    return JSON.parse(await line) as Measured;
  }
  /** Asks until nothing is left of anybody. */
  async function quiet(): Promise<Measured> {
    await expect.poll(measured, { timeout: 8_000, interval: 50 }).toMatchObject({ connections: 0, pipes: 0 });
    return measured();
  }

  /** HELLO byte by byte. */
  let slowloris: Promise<readonly number[]>;

  beforeAll(async () => {
    const targets = {
      echo: { kind: "builtin", builtin: "echo" },
      endless: await tcp(endless),
      deaf: await tcp(silent),
      messages: await tcp(u32Responder()),
    };
    const rules = [{ clients: ["spiffe://dev/agent/*"], targets: Object.keys(targets) }];
    const words = [JSON.stringify({ targets, rules, clients: ["honest", "mallory", "drip"] })];
    child = startProgram("test/support/programs/measured-gateway.ts", words, { words: [...runtimeWords, exposeGc], timeoutMs: 110_000 });
    child.stderr.on("data", (chunk: Buffer) => void process.stderr.write(chunk));
    createInterface({ input: child.stdout }).on("line", (line) => answers.shift()?.(line));
    start = JSON.parse(await new Promise<string>((resolve) => void answers.push(resolve))) as MeasuredStart;

    const drip = async (): Promise<number> => {
      const client = await WireClient.dial({ ...who("drip"), silent: true });
      const from = performance.now();
      const hello = wire.encodeHello({ min: 1, max: 1 }, []);
      for (let at = 0; at < hello.length && !client.closed; at++) {
        client.send(hello.subarray(at, at + 1));
        await Promise.race([client.end(), wait(1_000)]);
      }
      await client.end();
      return performance.now() - from;
    };
    slowloris = Promise.all(Array.from({ length: 20 }, drip));
  }, 30_000);
  afterEach(() => {
    for (const client of dialled.splice(0)) client.destroy(); // a test that fails leaves nothing to the next one
  });
  afterAll(() => void child.stdin.end());

  test("who sends a HELLO byte by byte is gone after 5 s", async () => {
    const took = await slowloris;
    expect(Math.min(...took)).toBeGreaterThan(4_000);
    expect(Math.max(...took)).toBeLessThan(9_000);
    expect((await quiet()).ends).toEqual({ preface_timeout: 20 });
  });

  test("256 pipes that are opened and never read cost bounded memory, whatever credit they grant", async () => {
    const before = await quiet();
    const client = await dial("mallory", { sessionLimit: 2 ** 40 });
    const opening = client.openMany(256, { target: "endless", window: 1 << 30 });
    await opening;
    client.hold();
    await wait(500);
    const now = await measured();
    expect(now.pipes).toBe(256);
    process.stderr.write(`256 pipes that are never read: held ${mib(now.held - before.held)}\n`);
    expect(now.held - before.held).toBeLessThan(128 * MiB);
    client.destroy();
    await quiet();
  }, 20_000);

  test("256 pipes to a back end that reads nothing cost no more than the session's window", async () => {
    const before = await quiet();
    const client = await dial("mallory");
    const ids = await client.openMany(256, { target: "deaf" });
    const filled = await fill(client, { ids, bytes: MiB, patienceMs: 300 });
    const now = await measured();
    process.stderr.write(`256 pipes to a deaf back end: ${mib(filled)} sent, held ${mib(now.held - before.held)}\n`);
    expect(now.held - before.held).toBeLessThan(160 * MiB); // 16 MiB of window, and 256 KiB for each socket
    client.destroy();
    await quiet();
  }, 20_000);

  test("unfinished messages are held in bounded memory at the cost of who leaves them so, while honest ones of 1 MiB get through", async () => {
    const before = await quiet();
    const hoarders = [await dial("mallory"), await dial("mallory")];
    const honest = await library("honest");
    const resets = (): number => hoarders.flatMap(({ frames }) => frames.filter(({ type }) => type === Type.RESET)).length;
    const hoarding = hoarders.map(async (client) => {
      const ids = await client.openMany(192, { target: "messages", messages: true });
      await fill(client, { ids, bytes: 1_000_000, patienceMs: 3_000 });
    });
    const message = Buffer.alloc(MiB, "whole");
    const lane = async (): Promise<void> => {
      const pipe = await honest.open("messages", { messages: true });
      for (let n = 0; n < 2; n++) {
        await pipe.send(message);
        if (!message.equals((await pipe.receive())!)) throw new Error("another message came back");
      }
      await pipe.close();
    };
    await Promise.all([...hoarding, ...Array.from({ length: 24 }, lane)]);
    const now = await measured();
    const cut = now.pipeEnds["spiffe://dev/agent/mallory excessive_load"] ?? 0;
    process.stderr.write(`hoarding: ${cut} of 384 pipes cut, held ${mib(now.held - before.held)}, resident ${mib(now.rss - before.rss)}\n`);
    expect(cut).toBeGreaterThan(50);
    await expect.poll(resets, { timeout: 5_000 }).toBeGreaterThanOrEqual(cut); // each is told
    expect(now.held - before.held).toBeLessThan(380 * MiB);
    expect(Object.keys(now.pipeEnds).filter((name) => name.startsWith("spiffe://dev/agent/honest"))).toEqual([
      "spiffe://dev/agent/honest done",
    ]);
    for (const client of hoarders) client.destroy();
    await honest.close();
    const after = await quiet();
    expect(after.held - before.held).toBeLessThan(64 * MiB); // it is given back
  }, 40_000);

  test("a flood of control frames of any kind by a peer that reads nothing ends its connection", async () => {
    const floods: readonly (() => Buffer)[] = [
      () => wire.encodePing(Type.PING, Buffer.alloc(8)),
      () => wire.encodePing(Type.PONG, Buffer.alloc(8)),
      () => wire.encodeStreamCredit(1, 0),
      () => wire.encodeSessionCredit(0, 0),
      () => wire.encodeReset(1, { code: 19 }), // the first is for an open stream, the others for a closed one
      () => wire.encodeGoaway({ lastStreamId: 0, code: 0, grace: 0, text: "", final: false }),
      () => rawFrame(0x7f, 0, 0, "x"), // of a type that is to be ignored
    ];
    const before = (await measured()).ends["excessive_load"] ?? 0;
    const clients = await Promise.all(
      floods.map(async (make) => {
        const client = await dial("mallory");
        client.open(1);
        await client.seen(Type.ACCEPT);
        client.hold();
        client.send(...Array.from({ length: 4_000 }, make));
        return client;
      }),
    );
    await expect.poll(async () => (await measured()).ends["excessive_load"] ?? 0, { timeout: 5_000 }).toBe(before + floods.length);
    for (const client of clients) client.destroy();
    await quiet();
  });

  test("a flood of empty messages by a peer that reads nothing runs out of credit", async () => {
    const before = await quiet();
    const client = await dial("mallory");
    client.open(1, { messages: true, window: 64 << 10 });
    await client.seen(Type.ACCEPT);
    client.hold();
    client.send(...Array.from({ length: 100_000 }, () => dataFrame(1, "", Flag.END_MESSAGE)));
    await expect.poll(async () => (await measured()).ends["flow_control"] ?? 0, { timeout: 5_000 }).toBe(1);
    client.destroy();
    expect((await quiet()).held - before.held).toBeLessThan(64 * MiB);
  });

  test("a flood of refusals does not flood the log, and none goes uncounted", async () => {
    const before = await quiet();
    const from = performance.now();
    const clients = await Promise.all(Array.from({ length: 10 }, () => dial("mallory")));
    await Promise.all(clients.map((client) => client.openMany(400, { target: "guess" })));
    const seconds = (performance.now() - from) / 1000;
    const flooded = await measured();
    const lines = flooded.refusedLines - before.refusedLines;
    expect(lines).toBeLessThanOrEqual(101 + 20 * Math.ceil(seconds));
    expect(flooded.refusals["unknown_target"]).toBe(4_000);
    await wait(200);
    const [last] = clients as [WireClient];
    last.open(801, { target: "guess" });
    await last.seen(Type.RESET, 801);
    const after = await measured();
    expect(after.suppressed).toBeGreaterThan(3_000);
    expect(after.refusedLines - before.refusedLines + after.suppressed).toBe(4_001);
    for (const client of clients) client.destroy();
  }, 20_000);
});

/** Sends up to `bytes` on each stream without ever ending it, as far as the gateway's credit goes; until all are full or cut; gives up when no credit came for a while. */
async function fill(
  client: WireClient,
  how: { readonly ids: readonly number[]; readonly bytes: number; readonly patienceMs: number },
): Promise<number> {
  const used = new Map(how.ids.map((id) => [id, { cost: 0, bytes: 0 }]));
  const payload = Buffer.alloc(16_376, "hoard");
  let [total, last] = [0, performance.now()];
  while (!client.closed && used.size > 0 && performance.now() - last < how.patienceMs) {
    let sent = false;
    for (const [id, stream] of used) {
      const room = Math.min((client.streamLimits.get(id) ?? 0) - stream.cost, client.sessionLimit - total) - wire.FRAME_COST;
      const length = Math.min(room, payload.length, how.bytes - stream.bytes);
      if (length <= 0) continue;
      await client.push(dataFrame(id, payload.subarray(0, length)));
      stream.cost += wire.FRAME_COST + length;
      total += wire.FRAME_COST + length;
      stream.bytes += length;
      sent = true;
      const cut = client.frames.some(({ type, id: on }) => type === Type.RESET && on === id);
      if (cut || stream.bytes === how.bytes) used.delete(id);
    }
    if (sent) last = performance.now();
    await wait(1);
  }
  return total;
}

describe("a gateway in this process", () => {
  const ca = createTestCa();
  const mallory = ca.client("mallory");
  const credentials: WireCredentials = { certificate: mallory.certificate, key: mallory.key, ca: ca.certificate };
  let setup: TestGateway;

  beforeAll(async () => {
    const silentTls = { ...(await tcp(silent)), kind: "tls", ca: [ca.certificate] } as const;
    setup = await startGateway({
      ca,
      targets: {
        echo: { kind: "builtin", builtin: "echo" },
        tcp: await tcp(echo),
        endless: await tcp(endless),
        dialling: silentTls,
        secret: { kind: "builtin", builtin: "echo" },
      },
      rules: [{ clients: ["*"], targets: ["echo", "tcp", "endless", "dialling"] }],
      raw: ["tcp", "dialling"],
    });
  });
  afterAll(() => setup.close());

  const dial = (): Promise<WireClient> => WireClient.dial({ ...credentials, port: setup.port });

  const opened = async (target: string): Promise<WireClient> => {
    const client = await dial();
    client.open(1, { target });
    if (target === "dialling") await wait(20);
    else await client.seen(Type.ACCEPT);
    return client;
  };
  const stages: Readonly<Record<string, () => Promise<WireClient>>> = {
    "TLS stood": () => WireClient.dial({ ...credentials, port: setup.port, silent: true }),
    "half of HELLO": async () => {
      const client = await WireClient.dial({ ...credentials, port: setup.port, silent: true });
      client.send(wire.encodeHello({ min: 1, max: 1 }, []).subarray(0, 9));
      return client;
    },
    WELCOME: dial,
    "OPEN, while the gateway dials": () => opened("dialling"),
    ACCEPT: () => opened("tcp"),
    "half of a DATA frame": async () => {
      const client = await opened("tcp");
      client.send(dataFrame(1, Buffer.alloc(1000)).subarray(0, 500));
      return client;
    },
    FIN: async () => {
      const client = await opened("echo");
      client.send(dataFrame(1, "x", Flag.FIN));
      return client;
    },
    "a bulk answer has begun": async () => {
      const client = await opened("endless");
      await client.until(() => client.received > 10_000);
      return client;
    },
    "its own GOAWAY": async () => {
      const client = await opened("tcp");
      client.send(wire.encodeGoaway({ lastStreamId: 0, code: 0, grace: 0, text: "", final: true }));
      return client;
    },
  };

  test.each(Object.keys(stages))("survives clients that reset, close or vanish after: %s; and nothing of them is left", async (stage) => {
    for (const leave of ["reset", "destroy", "end"] as const) {
      const clients = await Promise.all(Array.from({ length: 5 }, () => stages[stage]!()));
      for (const client of clients) {
        if (leave === "end") client.socket.end();
        else client[leave]();
      }
      await expect.poll(() => setup.gateway.status(), { timeout: 3_000, interval: 10 }).toMatchObject({ connections: 0, pipes: [] });
      for (const client of clients) client.destroy();
    }
  });

  test.each(["echo", "tcp", "endless"])("a FIN and a RESET in one breath, to %s, leave no pipe behind", async (target) => {
    const client = await dial();
    const ids = await client.openMany(40, { target });
    for (const id of ids) client.send(dataFrame(id, "x", Flag.FIN), wire.encodeReset(id, { code: 19 }));
    await expect.poll(() => setup.gateway.status().pipes, { timeout: 3_000 }).toEqual([]);
    client.destroy();
    await expect.poll(() => setup.gateway.status().connections, { timeout: 3_000 }).toBe(0);
  });

  test("survives TCP connections that are reset before, in and after the TLS handshake, on framed and raw listeners", async () => {
    const hello = await clientHello();
    for (const port of [setup.port, ...setup.rawPorts]) {
      for (const bytes of [
        Buffer.alloc(0),
        hello.subarray(0, 3),
        hello.subarray(0, 100),
        hello,
        Buffer.concat([hello, Buffer.alloc(200)]),
      ]) {
        const socket = connectNet({ host: "127.0.0.1", port });
        socket.on("error", () => {});
        await once(socket, "connect");
        if (bytes.length > 0) await new Promise((resolve) => socket.write(bytes, resolve));
        socket.resetAndDestroy();
      }
    }
    const honest = await dial();
    honest.open(1);
    await honest.seen(Type.ACCEPT);
    honest.destroy();
    await expect.poll(() => setup.gateway.status(), { timeout: 3_000 }).toMatchObject({ connections: 0, pipes: [] });
  });

  test("an unknown target and a forbidden one look the same and take the same time", async () => {
    const client = await dial();
    const times: Record<string, number[]> = { secret: [], absent: [] };
    const looks: Record<string, Set<string>> = { secret: new Set(), absent: new Set() };
    for (let n = 0; n < 360; n++) {
      const target = n % 2 === 0 ? "secret" : "absent";
      const id = 2 * n + 1;
      const from = performance.now();
      client.open(id, { target });
      const { payload, flags } = (await client.seen(Type.RESET, id))!;
      times[target]!.push(performance.now() - from);
      looks[target]!.add(`${flags} ${payload.toString("hex")}`);
    }
    expect([...looks["secret"]!]).toEqual([...looks["absent"]!]);
    expect(looks["secret"]!.size).toBe(1);
    const median = (name: string): number => times[name]!.slice(20).sort((a, b) => a - b)[80]!;
    process.stderr.write(`refused: forbidden in ${median("secret").toFixed(3)} ms, unknown in ${median("absent").toFixed(3)} ms\n`);
    expect(Math.abs(median("secret") - median("absent"))).toBeLessThan(Math.max(0.1, 0.5 * median("absent")));
    client.destroy();
    // In the log they are told apart.
    const reasons = setup.lines("refused").map(({ reason, target }) => `${String(target)} ${String(reason)}`);
    expect(reasons).toEqual(expect.arrayContaining(["secret forbidden", "absent unknown_target"]));
  });

  test("names of targets cannot forge a line of the log, and metadata never reaches it", async () => {
    const names = [
      'x","level":"error","event":"gateway ready',
      "\u202Egpj.exe",
      "a\u2028b",
      "\uFEFF",
      "__proto__",
      "constructor",
      "x".repeat(255),
      "${jndi:x}",
      "%s%n",
      "\u{1F480}",
    ];
    const from = setup.log.length;
    await wait(3_000 / 20); // the flood above has used up the lines of refusals
    for (const target of names) {
      const client = await dial();
      client.open(1, { target, metadata: [{ key: 0x7001, value: Buffer.from('evil\n{"level":"error"}') }] });
      await client.seen(Type.RESET, 1);
      client.destroy();
      await wait(60);
    }
    const lines: string[] = [];
    for (const format of ["json", "pretty"] as const) {
      const writer = createLogWriter({
        level: "debug",
        format,
        destination: { write: (line) => void lines.push(line), flush: () => {} },
        colour: false,
      });
      for (const { level, event, fields } of setup.log.slice(from)) writer[level](event, fields);
    }
    expect(lines.length).toBe(2 * (setup.log.length - from));
    for (const line of lines) {
      expect(line.trimEnd().split(/[\n\r\u2028\u2029]/u).length).toBe(1);
      expect(line.trimEnd()).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]|evil/u);
      expect(line.length).toBeLessThan(4_000);
    }
    const told = setup.lines("refused").map(({ target }) => target);
    expect(told).toEqual(expect.arrayContaining(names));
    for (const line of lines.filter((each) => each.startsWith("{")))
      expect((JSON.parse(line) as { event: string }).event).not.toBe("gateway ready");
  });

  test("names with control characters and names that are no UTF-8 end the connection", async () => {
    for (const name of [
      Buffer.from("a\nb"),
      Buffer.from("a\u0000b"),
      Buffer.from("a\u0085b"),
      Buffer.from([0xc0, 0xaf]),
      Buffer.from([0xed, 0xa0, 0x80]),
    ]) {
      const client = await dial();
      const head = Buffer.from([0, 0, 0x10, 0, 0, 16, 0, name.length]);
      client.send(rawFrame(Type.OPEN, 0, 1, Buffer.concat([head, name])));
      expect(await client.end()).toBe("protocol_error");
    }
  });
});
