import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, renameSync, statSync, writeFileSync } from "node:fs";
import { createConnection, type NetConnectOpts } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { sessionOver } from "../../src/tls/session-socket.ts";
import { echo } from "../support/echo-stream.ts";
import { createTestCa, type TestCa } from "../support/mint.ts";
import { createWorkplace, ended, says, tell, type Workplace } from "../support/run-command.ts";
import { type StandIn, standInGateway, type StandInOptions } from "../support/stand-in-gateway.ts";

let ca: TestCa;
let gateway: StandIn;
let place: Workplace;
let settings: Record<string, string>;

beforeAll(async () => {
  ca = createTestCa();
  gateway = await standInGateway({
    ca,
    open: (stream) => {
      if (stream.target !== "half") return echo(stream);
      stream.accept();
      stream.attach({
        data: () => {},
        end: () => stream.reset({ reason: "target_reset" }),
        drained: () => {},
        closed: () => stream.release(),
      });
      stream.write(Buffer.from("half"), false);
    },
  });
  place = await createWorkplace(ca.certificate, { alice: ca.client("alice") });
  settings = { PIPEGATE_GATEWAY: gateway.address, PIPEGATE_CERT: "alice.pem", PIPEGATE_CA: "ca.pem" };
});
afterAll(async () => {
  await gateway.close();
  await place.remove();
});

/** Starts a forward and tells where it listens. */
async function forward(listen: string, target: string): Promise<{ child: ChildProcessWithoutNullStreams; port: number }> {
  const child = place.start(["forward", listen, target], settings);
  const text = await says(child, /Ctrl-C ends it/u);
  return { child, port: Number(/:(\d+) is now/u.exec(text)?.[1]) };
}

interface Exchanged {
  readonly got: Buffer;
  /** `end`, `close`, or the code of an error. */
  readonly how: string;
}

/** Sends `bytes`, ends, and tells what came back and how it ended. */
function exchange(where: NetConnectOpts, bytes: Uint8Array): Promise<Exchanged> {
  return new Promise((resolve) => {
    const socket = createConnection({ ...where, allowHalfOpen: true });
    const parts: Buffer[] = [];
    let how = "close";
    socket.on("data", (part: Buffer) => void parts.push(part));
    socket.on("end", () => (how = "end"));
    socket.on("error", (error: NodeJS.ErrnoException) => (how = error.code ?? "error"));
    socket.on("close", () => resolve({ got: Buffer.concat(parts), how }));
    socket.end(bytes);
  });
}

async function stop(child: ChildProcessWithoutNullStreams): Promise<number | null> {
  const end = ended(child);
  tell(child, "SIGTERM");
  return (await end).status;
}

describe("pipegate forward", () => {
  test("makes a local port the target, for many connections at once, and ends with 0 when told", async () => {
    const { child, port } = await forward("0", "echo");
    const sent = [randomBytes(0), randomBytes(10), randomBytes(3_000_000), randomBytes(100_000)];
    const got = await Promise.all(sent.map((bytes) => exchange({ port, host: "127.0.0.1" }, bytes)));
    for (const [index, { got: back, how }] of got.entries()) {
      expect(how).toBe("end");
      expect(back.equals(sent[index]!)).toBe(true);
    }
    expect(await stop(child)).toBe(0);
  });
  test("makes a unix socket the target, only for its owner, replaces a stale one and removes it at the end", async () => {
    const path = join(place.folder, "echo.sock");
    const { child } = await forward(`unix:${path}`, "echo");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect((await exchange({ path }, Buffer.from("hi"))).got.toString()).toBe("hi");
    const second = await place.run(["forward", `unix:${path}`, "echo"], "", settings);
    expect(second.status).toBe(2);
    expect(second.err).toMatch(/echo\.sock is already in use/u);
    const end = ended(child);
    tell(child, "SIGKILL"); // leaves a stale socket
    await end;
    const again = await forward(`unix:${path}`, "echo");
    expect((await exchange({ path }, Buffer.from("hi"))).got.toString()).toBe("hi");
    await stop(again.child);
    expect(existsSync(path)).toBe(false);
  });
  test("shows a break to the local program as a reset, never as an end", async () => {
    const { child, port } = await forward("0", "half");
    expect((await exchange({ port, host: "127.0.0.1" }, Buffer.from("x"))).how).toBe("ECONNRESET");
    await stop(child);
  });
  test("connects again after the connection was lost; a local connection made meanwhile waits for it", async () => {
    const { child, port } = await forward("0", "echo");
    const again = says(child, /connected again/u);
    const away = says(child, /the connection broke.*; trying again/u);
    for (const socket of gateway.sockets) socket.destroy();
    await away;
    const { got, how } = await exchange({ port, host: "127.0.0.1" }, Buffer.from("hi"));
    expect({ got: got.toString(), how }).toEqual({ got: "hi", how: "end" });
    await again;
    await stop(child);
  });
  test("ends with 3 when the gateway cannot be reached at the start", async () => {
    const { status, err } = await place.run(["forward", "0", "echo", "--gateway", "127.0.0.1:1"], "", settings);
    expect(status).toBe(3);
    expect(err).toMatch(/nothing listens at 127\.0\.0\.1:1/u);
  });
  test("ends with 2 when its port is in use, or its path is something else", async () => {
    const port = gateway.address.split(":")[1]!;
    const taken = await place.run(["forward", port, "echo"], "", settings);
    expect(taken).toMatchObject({ status: 2, err: expect.stringMatching(/^pipegate: 127\.0\.0\.1:\d+ is already in use\..*\n$/u) });
    const file = join(place.folder, "file.txt");
    writeFileSync(file, "mine");
    const refused = await place.run(["forward", `unix:${file}`, "echo"], "", settings);
    expect(refused).toMatchObject({ status: 2, err: expect.stringMatching(/exists and is no socket/u) });
    expect(existsSync(file)).toBe(true);
  });
  test("ends with 2 before it listens when the target's name is none", async () => {
    const { status, err } = await place.run(["forward", "0", "a\nb"], "", settings);
    expect({ status, err }).toEqual({ status: 2, err: expect.stringMatching(/the name of a target has no control characters/u) });
  });
  test("does not go on for ever when the gateway's policy turns it away", async () => {
    const strict = await standInGateway({ ca });
    const child = place.start(["forward", "0", "echo"], { ...settings, PIPEGATE_GATEWAY: strict.address });
    await says(child, /Ctrl-C ends it/u);
    const end = ended(child);
    strict.sessions[0]!.close({ reason: "revoked" });
    expect(await end).toMatchObject({ status: 4, err: expect.stringMatching(/^pipegate: refused: the certificate is revoked/mu) });
    await strict.close();
  });
});

describe("a forward whose certificate is renewed", () => {
  interface Renewing {
    readonly started: StandIn;
    readonly child: ChildProcessWithoutNullStreams;
    readonly port: number;
    /** Exchanges the files NAME.pem and NAME-key.pem, each whole. */
    put(pair: { readonly certificate: string; readonly key: string }): void;
    close(): Promise<void>;
  }
  let number = 0;

  async function renewing(options: Partial<StandInOptions> = {}): Promise<Renewing> {
    const started = await standInGateway({ ca, ...options });
    const name = `renewed-${number++}`;
    const put: Renewing["put"] = ({ certificate, key }) => {
      for (const [file, text] of [
        [`${name}.pem`, certificate],
        [`${name}-key.pem`, key],
      ] as const) {
        writeFileSync(join(place.folder, `${file}.new`), text, { mode: 0o600 });
        renameSync(join(place.folder, `${file}.new`), join(place.folder, file));
      }
    };
    put(ca.client("alice"));
    const child = place.start(["forward", "0", "echo"], { ...settings, PIPEGATE_GATEWAY: started.address, PIPEGATE_CERT: `${name}.pem` });
    const text = await says(child, /Ctrl-C ends it/u);
    const port = Number(/:(\d+) is now/u.exec(text)?.[1]);
    return { started, child, port, put, close: () => started.close() };
  }

  test("moves to it by itself: what is open stays on the old connection, what comes goes to the new one", async () => {
    const { started, child, port, put, close } = await renewing();
    const socket = createConnection({ port, host: "127.0.0.1" });
    const echoed = (word: string): Promise<string> =>
      new Promise((resolve) => {
        socket.once("data", (chunk: Buffer) => resolve(chunk.toString()));
        socket.write(word);
      });
    expect(await echoed("before")).toBe("before");
    const renewed = ca.issue({ uri: "spiffe://dev/agent/alice", notAfter: Date.UTC(2049, 0, 2, 3, 4) });
    const told = says(child, /the certificate was renewed: until 2049-01-02T03:04Z/u);
    put(renewed);
    await told;
    expect(await echoed("after")).toBe("after");
    expect((await exchange({ port, host: "127.0.0.1" }, Buffer.from("hi"))).got.toString()).toBe("hi");
    expect(started.serials).toHaveLength(2);
    expect(started.serials[1]).toBe(renewed.serial);
    const gone = new Promise<void>((resolve) => void started.sockets[0]!.once("close", () => resolve()));
    socket.end();
    await gone;
    expect(await stop(child)).toBe(0);
    await close();
  });
  test("moves to one that came while it connected anew with the old one", async () => {
    let connections = 0;
    const { started, child, put, close } = await renewing({
      instead: (socket) => {
        const speak = (): void => {
          sessionOver(socket, { role: "gateway", clock: systemClock, events: { open: echo, closed: () => {} } });
        };
        if (++connections !== 2) return speak();
        put(ca.client("alice"));
        systemClock.after(4_000, speak); // by then its watch has seen the files: the next thing to tell it of them is the new connection
      },
    });
    const renewed = says(child, /connected again(?:.*\n)+.*the certificate was renewed/u);
    started.sockets[0]!.destroy();
    await renewed;
    expect(started.serials[1]).toBe(started.serials[0]);
    expect(started.serials[2]).not.toBe(started.serials[0]);
    await stop(child);
    await close();
  });
  test("keeps the old one while the new one does not fit, and says so; takes it once it does", async () => {
    const { started, child, port, put, close } = await renewing();
    const kept = says(child, /renewed-\d+-key\.pem does not belong to renewed-\d+\.pem; the old certificate stays in use/u);
    put({ certificate: ca.client("alice").certificate, key: ca.client("alice").key });
    await kept;
    expect((await exchange({ port, host: "127.0.0.1" }, Buffer.from("hi"))).got.toString()).toBe("hi");
    const refused = says(child, /the renewed certificate is not taken: .*; the old one stays in use/u);
    put(createTestCa({ cn: "foreign" }).client("alice"));
    await refused;
    expect((await exchange({ port, host: "127.0.0.1" }, Buffer.from("hi"))).got.toString()).toBe("hi");
    const renewed = says(child, /the certificate was renewed/u);
    put(ca.client("alice"));
    await renewed;
    expect(started.sessions.length).toBeGreaterThan(1);
    await stop(child);
    await close();
  });
  test("waits for it when the gateway ends the connection because the old one has expired", async () => {
    const { started, child, port, put, close } = await renewing();
    const waits = says(child, /the certificate has expired; waiting for a renewed one in renewed-\d+\.pem/u);
    started.sessions[0]!.close({ reason: "cert_expired" });
    await waits;
    const again = says(child, /the certificate was renewed.*\n(?:.*\n)*.*connected again/u);
    put(ca.client("alice"));
    await again;
    expect((await exchange({ port, host: "127.0.0.1" }, Buffer.from("hi"))).got.toString()).toBe("hi");
    expect(await stop(child)).toBe(0);
    await close();
  });
  test("tries it once when the old one is revoked, and gives up with 4 when there is none", async () => {
    const { started, child, put, close } = await renewing();
    const again = says(child, /the certificate was renewed/u);
    put(ca.client("alice"));
    started.sessions[0]!.close({ reason: "revoked" }); // before the watch has seen the new files, or at the same time: then it dials twice
    await again;
    const end = ended(child);
    let isOver = false;
    void end.then(() => (isOver = true));
    await expect
      .poll(
        () => {
          for (const session of started.sessions.slice(1)) session.close({ reason: "revoked" });
          return isOver;
        },
        { timeout: 20_000 },
      )
      .toBe(true);
    expect(await end).toMatchObject({ status: 4, err: expect.stringMatching(/refused: the certificate is revoked.*log/u) });
    await close();
  });
  test("is told once that it expires", async () => {
    const { started, child, close } = await renewing();
    const told = says(child, /\n$/u);
    const at = Date.now() + 7.5 * 3_600_000;
    for (let n = 0; n < 3; n++) started.sessions[0]!.notice({ certificateExpiresAt: at });
    expect(await told).toBe(`pipegate: your certificate expires in 7 h (${new Date(at).toISOString().slice(0, 16)}Z); renew it\n`);
    await stop(child);
    await close();
  });
});

test.each([
  ["cert_expired", /^pipegate: the pipe broke: the certificate has expired\. Issue a new one: pipegate ca issue\.$/mu],
  ["revoked", /^pipegate: the pipe broke: the certificate is revoked, or .*\. See in the gateway's log which it is, /mu],
  ["forbidden", /^pipegate: the pipe broke: no rule lets this identity reach that target\. Ask for a rule; /mu],
] as const)("a pipe whose connection the gateway ends for %s says so, and what to do", async (reason, line) => {
  const started = await standInGateway({ ca });
  const child = place.start(["pipe", "echo"], { ...settings, PIPEGATE_GATEWAY: started.address });
  const echoed = new Promise((resolve) => void child.stdout.once("data", resolve));
  const told = says(child, /your certificate expires in \d+ h \(.*\); renew it\n/u);
  const end = ended(child);
  child.stdin.write("hi");
  await echoed;
  started.sessions[0]!.notice({ certificateExpiresAt: Date.now() + 10_000_000 });
  await told;
  started.sessions[0]!.close({ reason });
  const { status, err } = await end;
  expect({ status, err }).toEqual({ status: 5, err: expect.stringMatching(line) });
  await started.close();
});
