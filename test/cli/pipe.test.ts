import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Stream } from "../../src/protocol/stream.ts";
import { echo } from "../support/echo-stream.ts";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, ended, type Workplace } from "../support/run-command.ts";
import { type StandIn, standInGateway } from "../support/stand-in-gateway.ts";
import { runtimeWords } from "../support/this-runtime.ts";

let gateway: StandIn;
let place: Workplace;
let settings: Record<string, string>;
const seen: { readonly target: string; readonly chunks: string[] }[] = [];

/** Targets by name: what the gateway does with them. */
function open(stream: Stream): void {
  const { target } = stream;
  if (target === "secret") {
    stream.reset({ reason: "forbidden" });
    stream.release();
    return;
  }
  if (target === "silent") return;
  if (target === "half" || target === "watch") {
    const chunks: string[] = [];
    seen.push({ target, chunks });
    stream.accept();
    stream.attach({
      data: (chunk, last) => void chunks.push(`${Buffer.from(chunk).toString("latin1")}${last ? "|" : ""}`),
      end: () => (target === "watch" ? stream.closeWrite() : stream.reset({ reason: "target_reset" })),
      drained: () => {},
      closed: () => stream.release(),
    });
    stream.write(Buffer.from("half an answer"), false);
    return;
  }
  echo(stream);
}

beforeAll(async () => {
  const ca = createTestCa();
  const foreign = createTestCa({ cn: "foreign CA" });
  gateway = await standInGateway({ ca, open });
  place = await createWorkplace(ca.certificate, { alice: ca.client("alice"), stranger: foreign.client("stranger") });
  settings = { PIPEGATE_GATEWAY: gateway.address, PIPEGATE_CERT: "alice.pem", PIPEGATE_CA: "ca.pem" };
});
afterAll(async () => {
  await gateway.close();
  await place.remove();
});

describe("pipegate pipe", () => {
  test("brings back what it was given, says nothing else, and ends with 0", async () => {
    expect(await place.run(["pipe", "echo"], "hi\n", settings)).toEqual({ status: 0, out: Buffer.from("hi\n"), err: "" });
  });
  test("carries any bytes, and many, unchanged", async () => {
    const sent = Buffer.concat([Buffer.from([0, 255, 10, 13, 0xc3, 0x28]), randomBytes(20_000_000)]);
    const { status, out } = await place.run(["pipe", "echo"], sent, settings);
    expect(status).toBe(0);
    expect(out.equals(sent)).toBe(true);
  });
  test("works with an empty stdin", async () => {
    expect(await place.run(["pipe", "echo"], "", settings)).toEqual({ status: 0, out: Buffer.alloc(0), err: "" });
  });
  test("takes everything from what demo left in certs/ of this folder", async () => {
    const { mkdir } = await import("node:fs/promises");
    await mkdir(join(place.folder, "certs"), { recursive: true });
    await writeFile(
      join(place.folder, "certs/pipegate.env"),
      `PIPEGATE_GATEWAY=${gateway.address}\nPIPEGATE_CERT=../alice.pem\nPIPEGATE_CA=../ca.pem\n`,
    );
    expect(await place.run(["pipe", "echo"], "hi")).toEqual({ status: 0, out: Buffer.from("hi"), err: "" });
    const verbose = await place.run(["pipe", "echo", "--verbose"], "hi");
    expect(verbose.err).toMatch(/certs\/pipegate\.env/u);
    await (await import("node:fs/promises")).rm(join(place.folder, "certs"), { recursive: true });
  });
  test("sends each line as a message and prints each message as a line, with --lines", async () => {
    expect((await place.run(["pipe", "echo", "--lines"], "one\n\ntwo", settings)).out.toString()).toBe("one\n\ntwo\n");
    seen.length = 0;
    await place.run(["pipe", "watch", "--lines"], "a b\nc\n", settings);
    expect(seen[0]!.chunks.join("")).toBe("a b|c|");
    const long = `${"x".repeat(200_000)}\n`.repeat(5);
    expect((await place.run(["pipe", "echo", "--lines"], long, settings)).out.toString()).toBe(long);
  });
});

describe("the exit status of pipegate pipe", () => {
  test("is 4 when it is refused, with the reason and the next step", async () => {
    const { status, out, err } = await place.run(["pipe", "secret"], "hi", settings);
    expect({ status, out: out.length }).toEqual({ status: 4, out: 0 });
    expect(err).toMatch(/^pipegate: refused: no rule lets this identity reach that target\. Ask for a rule.*\n$/u);
  });
  test.each([
    ["a device", ["--ca", "/dev/zero"], /\/dev\/zero \(--ca\) is not a regular file/u],
    ["a folder", ["--cert", "/tmp"], /\/tmp \(--cert\) is a folder/u],
    ["a device as the profile", ["--profile", "/dev/zero"], /\/dev\/zero \(the profile\) is not a regular file/u],
  ] as const)("is 2 when %s is named as a file", async (_, words, said) => {
    const { status, err } = await place.run(["pipe", "echo", ...words], "hi", settings);
    expect(err).toMatch(said);
    expect(status).toBe(2);
  });
  test("is 2 when stdin is a folder", () => {
    const words = [...runtimeWords, fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url)), "pipe", "echo"];
    const ended = spawnSync("sh", ["-c", 'exec "$@" < /tmp', "sh", ...words], { timeout: 20_000, killSignal: "SIGKILL" });
    expect(ended.stderr.toString()).toMatch(/stdin is a folder/u);
    expect(ended.status).toBe(2);
  });
  test("is 4 when our certificate is not accepted, and says who issued it", async () => {
    const { status, err } = await place.run(["pipe", "echo", "--cert", "stranger.pem"], "hi", settings);
    expect(status).toBe(4);
    expect(err).toMatch(/^pipegate: refused: .* does not accept our certificate: issued by CN=foreign CA\..*\n$/u);
  });
  test("is 5 when the pipe breaks, after what came was written out", async () => {
    const { status, out, err } = await place.run(["pipe", "half"], "hi", settings);
    expect({ status, out: out.toString() }).toEqual({ status: 5, out: "half an answer" });
    expect(err).toMatch(/^pipegate: the pipe broke: the target broke the connection off.*\n$/u);
  });
  test("is 5 when the connection is lost", async () => {
    const child = place.start(["pipe", "watch"], settings);
    const end = ended(child);
    await once(child.stdout, "data");
    for (const socket of gateway.sockets) socket.destroy();
    const { status, err } = await end;
    expect(status).toBe(5);
    expect(err).toMatch(/^pipegate: the pipe broke: the connection broke/u);
  });
  test("is 5, quietly, when whoever reads our stdout goes away", async () => {
    const child = place.start(["pipe", "echo"], settings);
    child.stdin.on("error", () => {});
    child.stdin.write(randomBytes(5_000_000));
    const end = ended(child);
    await once(child.stdout, "data");
    child.stdout.destroy();
    const { status, err } = await end;
    expect({ status, err }).toEqual({ status: 5, err: "" });
  });
  test("is 6 when no answer comes in time", async () => {
    const { status, err } = await place.run(["pipe", "silent", "--timeout", "1s"], "hi", settings);
    expect(status).toBe(6);
    expect(err).toMatch(/^pipegate: timed out: .*no answer within 1 s.*\n$/u);
  });
  test("is 3 when nothing listens, or what listens is not our gateway", async () => {
    const nothing = await place.run(["pipe", "echo", "--gateway", "127.0.0.1:1"], "hi", settings);
    expect(nothing.status).toBe(3);
    expect(nothing.err).toMatch(/^pipegate: cannot reach the gateway: nothing listens at 127\.0\.0\.1:1\. Start the gateway.*\n$/u);
    const wrong = await place.run(["pipe", "echo", "--server-name", "gw.example"], "hi", settings);
    expect(wrong.status).toBe(3);
    expect(wrong.err).toMatch(/is not for gw\.example/u);
  });
  test.each([
    ["an unknown command", ["pip", "echo"], /unknown command 'pip'\n\(Did you mean pipe\?\)/u],
    ["an unknown flag", ["pipe", "echo", "--gatewy", "x"], /unknown option '--gatewy'\n\(Did you mean --gateway\?\)/u],
    ["no target", ["pipe"], /missing required argument 'target'/u],
    ["no command", [], /Usage: pipegate/u],
    ["a time without its unit", ["pipe", "echo", "--timeout", "5"], /5 is no time to wait.*5s/u],
    ["an address without a port", ["pipe", "echo", "--gateway", "gw"], /gw is not the address of a gateway.*host:port/u],
    ["a missing file", ["pipe", "echo", "--cert", "nope.pem"], /nope\.pem \(--cert\) does not exist/u],
    ["a folder instead of a file", ["pipe", "echo", "--ca", "."], /is a folder, not a file/u],
    [
      "a key that does not fit",
      ["pipe", "echo", "--cert", "alice.pem", "--key", "stranger-key.pem"],
      /stranger-key\.pem does not belong to alice\.pem/u,
    ],
    ["a file that is no certificate", ["pipe", "echo", "--ca", "alice-key.pem"], /alice-key\.pem holds no certificate/u],
  ])("is 2 for %s, with one clear complaint", async (_, words, message) => {
    const { status, out, err } = await place.run(words, "", settings);
    expect({ status, out: out.length }).toEqual({ status: 2, out: 0 });
    expect(err).toMatch(message);
    expect(err).not.toMatch(/ {4}at |node:internal/u);
  });
  test("is 2 when nothing says where the gateway is", async () => {
    const { status, err } = await place.run(["pipe", "echo"]);
    expect(status).toBe(2);
    expect(err).toMatch(/^pipegate: no gateway is given\. Pass --gateway HOST:PORT, set PIPEGATE_GATEWAY, or run pipegate demo.*\n$/u);
  });
});

describe("what the command says of itself", () => {
  test("opens with examples", async () => {
    const { status, out, err } = await place.run(["--help"]);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out.toString()).toMatch(/^Examples:\n {2}pipegate demo/u);
    expect((await place.run(["pipe", "--help"])).out.toString()).toMatch(/^Examples:\n {2}echo hi \| pipegate pipe echo/u);
  });
  test("has a version", async () => {
    expect((await place.run(["--version"])).out.toString()).toMatch(/^\d+\.\d+\.\d+\n$/u);
  });
});
