import { mkdtemp, rm, stat } from "node:fs/promises";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { serveHttp, type Answer, type Question } from "../../src/runtime/http.ts";
import { askOverUnix, getOverUnix } from "../../src/runtime/unix-http.ts";
import { FakeClock } from "../support/fake-clock.ts";

const bound = 1 << 20;
let folder: string;
let socket: string;
let server: { close(): void };
let asked: Question[];
let answering: (question: Question) => Promise<Answer>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pipegate-http-"));
  socket = join(folder, "s");
  server = await serveHttp(
    { kind: "unix", path: socket },
    {
      answer: (question) => {
        asked.push(question);
        return answering(question);
      },
    },
  );
});
beforeEach(() => {
  asked = [];
  answering = async ({ path }) => ({ status: 200, type: "application/json", body: JSON.stringify({ path }) });
});
afterAll(async () => {
  server.close();
  await rm(folder, { recursive: true });
});

const ask = (path: string, post?: string) =>
  askOverUnix({ socket, path, timeoutMs: 20_000, maxBytes: 4 << 20, ...(post === undefined ? {} : { post }) });

/** Sends bytes as they are, and resolves with all that came until the other end closed. */
function raw(...pieces: readonly (string | Buffer)[]): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const connection: Socket = createConnection(socket, () => pieces.forEach((piece) => connection.write(piece)));
    connection.on("data", (part: Buffer) => void (text += part.toString("latin1")));
    connection.on("error", () => {}); // it may be closed while it writes
    connection.on("close", () => resolve(text));
  });
}

describe("the small HTTP server", () => {
  test("is for its owner only", async () => {
    expect((await stat(socket)).mode & 0o777).toBe(0o600);
  });

  test("hands over method, path without query, and the body of a POST", async () => {
    expect(await ask("/a?b=c")).toEqual({ status: 200, body: '{"path":"/a"}' });
    await ask("/b", '{"ä":1}');
    await ask("/c", "");
    expect(asked).toEqual([
      { method: "GET", path: "/a", body: "" },
      { method: "POST", path: "/b", body: '{"ä":1}' },
      { method: "POST", path: "/c", body: "" },
    ]);
  });

  test("takes a body of 1 MiB, and says 413 to one byte more, announced or not, without asking anybody", async () => {
    expect((await ask("/full", "x".repeat(bound))).status).toBe(200);
    expect(asked[0]!.body.length).toBe(bound);
    expect((await ask("/over", "x".repeat(bound + 1))).status).toBe(413);
    const piece = `${(65_536).toString(16)}\r\n${"x".repeat(65_536)}\r\n`;
    const chunked = await raw("POST /chunked HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", piece.repeat(17), "0\r\n\r\n");
    expect(chunked).toMatch(/^HTTP\/1\.1 413 /);
    expect(asked.map(({ path }) => path)).toEqual(["/full"]);
  });

  test.each(["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])("says 405 to %s", async (method) => {
    expect(await raw(`${method} /status HTTP/1.1\r\nhost: x\r\n\r\n`)).toMatch(/^HTTP\/1\.1 405 /);
    expect(asked).toEqual([]);
  });

  test("closes after one answer, and asks nobody for what was sent behind it", async () => {
    const one = "GET /one HTTP/1.1\r\nhost: x\r\n\r\n";
    const text = await raw(one + one.replace("one", "two"));
    expect(text.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(text.toLowerCase()).toContain("connection: close");
    expect(asked.map(({ path }) => path)).toEqual(["/one"]);
  });

  test("closes on what is no HTTP, and on headers that are too long", async () => {
    await raw("\u0000\u0001 nonsense\r\n\r\n");
    await raw(`GET / HTTP/1.1\r\nx: ${"x".repeat(20_000)}\r\n\r\n`);
    expect(asked).toEqual([]);
    expect((await ask("/after")).status).toBe(200);
  });

  test("goes on when an answer cannot be made", async () => {
    answering = async () => {
      throw new Error("no");
    };
    await expect(ask("/fails")).rejects.toMatchObject({ code: "unreachable" });
    answering = async () => ({ status: 200, type: "application/json", body: "{}" });
    expect((await ask("/after")).status).toBe(200);
  });

  test("answers others while one answer is in the making, and turns away more than 16 at once", async () => {
    const waiting: (() => void)[] = [];
    answering = ({ path }) =>
      new Promise((resolve) => {
        const done = (): void => resolve({ status: 200, type: "application/json", body: "{}" });
        if (path === "/slow") waiting.push(done);
        else done();
      });
    const slow = Array.from({ length: 15 }, () => ask("/slow", ""));
    await expect.poll(() => waiting.length).toBe(15);
    expect((await ask("/quick")).status).toBe(200);
    // The place of that one is free once it is closed.
    const patient = async (): Promise<number> => (await ask("/slow", "").catch(() => undefined))?.status ?? patient();
    slow.push(patient().then((status) => ({ status, body: "{}" })));
    await expect.poll(() => waiting.length).toBe(16);
    await expect(ask("/quick")).rejects.toMatchObject({ code: "unreachable" });
    for (const done of waiting) done();
    expect((await Promise.all(slow)).map(({ status }) => status)).toEqual(Array.from({ length: 16 }, () => 200));
  });
});

describe("its deadlines", () => {
  let clock: FakeClock;
  beforeEach(async () => {
    clock = new FakeClock();
    late = join(folder, "late");
    slowServer = await serveHttp({ kind: "unix", path: late }, { clock, answer: (question) => answering(question) });
  });
  afterEach(() => slowServer.close());
  let late: string;
  let slowServer: { close(): void };

  /** Sends a text and reads nothing until it is told to. */
  async function dial(text: string): Promise<{ readonly socket: Socket; readonly closed: Promise<void> }> {
    const connection = createConnection(late);
    connection.on("error", () => {});
    const closed = new Promise<void>((resolve) => connection.on("close", () => resolve()));
    await new Promise<void>((resolve) => connection.write(text, () => resolve()));
    return { socket: connection, closed };
  }

  test.each(["", "GET / HT", "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf"])(
    "cut after 10 s who has not asked in full: %j",
    async (text) => {
      const { socket: connection, closed } = await dial(text);
      connection.resume();
      await expect.poll(() => clock.waiting).toBe(1);
      clock.advance(9_999);
      expect(connection.closed).toBe(false);
      clock.advance(1);
      await closed;
      expect(clock.waiting).toBe(0);
    },
  );

  test("cut after 10 s who does not read the answer, and give making it a minute", async () => {
    let make: (() => void) | undefined;
    answering = () =>
      new Promise((resolve) => {
        make = () => resolve({ status: 200, type: "application/json", body: "x".repeat(32 << 20) });
      });
    const { socket: connection, closed } = await dial("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    await expect.poll(() => make !== undefined).toBe(true);
    clock.advance(59_999);
    make!();
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(9_999);
    expect(clock.waiting).toBe(1);
    clock.advance(1);
    await expect.poll(() => clock.waiting).toBe(0);
    connection.resume();
    await closed;
    expect(connection.bytesRead).toBeLessThan(32 << 20);
  });

  test("tell whoever waits for an answer that is not made within a minute, and leave no timer", async () => {
    let came = false;
    answering = () => {
      came = true;
      return new Promise(() => {});
    };
    const { socket: connection, closed } = await dial("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
    let text = "";
    connection.on("data", (part: Buffer) => void (text += part.toString("latin1")));
    await expect.poll(() => came).toBe(true);
    clock.advance(59_999);
    await new Promise((resolve) => setImmediate(resolve));
    expect(text).toBe("");
    clock.advance(1);
    await closed;
    expect(text).toMatch(/^HTTP\/1\.1 504 .*no answer came of it within 60 s; it may yet/su);
    await expect.poll(() => clock.waiting).toBe(0);
  });
});

describe("asking it", () => {
  test("takes no more than it said it would, and no status but 200 where only the body counts", async () => {
    answering = async () => ({ status: 200, type: "application/json", body: "x".repeat(2_000) });
    const options = { socket, path: "/x", timeoutMs: 20_000, maxBytes: 1_999 };
    await expect(getOverUnix(options)).rejects.toMatchObject({ code: "protocol_error", message: expect.stringContaining("1999") });
    expect(await getOverUnix({ ...options, maxBytes: 2_000 })).toHaveLength(2_000);
    answering = async () => ({ status: 503, type: "application/json", body: "{}" });
    await expect(getOverUnix(options)).rejects.toMatchObject({ message: expect.stringContaining("status 503") });
    expect(await askOverUnix(options)).toEqual({ status: 503, body: "{}" });
  });
});
