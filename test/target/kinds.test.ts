import { Buffer } from "node:buffer";
import { afterEach, describe, expect, test } from "vitest";
import type { Channel } from "../../src/base/channel.ts";
import { createTarget } from "../../src/target/kinds.ts";
import { type Framing, type OpenRequest, type Target, targetDefaults, type TargetOptions } from "../../src/target/target.ts";
import {
  answering,
  type BackEnd,
  type BackEndOptions,
  type Behaviour,
  echo,
  resetting,
  source,
  sourceBytes,
  startBackEnd,
  u32Responder,
} from "../support/back-ends.ts";
import { ChannelWatch } from "../support/channel-watch.ts";
import { identityOf } from "../support/identity.ts";
import { createTestCa } from "../support/mint.ts";
import { encode } from "./frame-reference.ts";

const MiB = 1 << 20;
const ca = createTestCa();
const served = ca.gateway();

const open: BackEnd[] = [];
afterEach(async () => {
  for (const backEnd of open.splice(0)) await backEnd.close();
});

const request = (messages: boolean, maxMessageBytes = MiB): OpenRequest => ({
  messages,
  maxMessageBytes,
  identity: identityOf({ cn: "test" }),
});

const kinds = ["tcp", "unix", "tls"] as const;

async function start(
  kind: (typeof kinds)[number],
  behaviour: Behaviour,
  framing: Framing = targetDefaults.framing,
): Promise<TargetOptions> {
  const options: BackEndOptions = kind === "tls" ? { tls: { cert: served.certificate, key: served.key } } : { unix: kind === "unix" };
  const backEnd = await startBackEnd(behaviour, options);
  open.push(backEnd);
  const stream = { framing, dialTimeoutMs: targetDefaults.dialTimeoutMs };
  const addresses = [{ kind: "tcp" as const, host: "127.0.0.1", port: backEnd.port }];
  if (kind === "unix") return { kind, path: backEnd.path, ...stream };
  return kind === "tcp" ? { kind, addresses, ...stream } : { kind, addresses, ca: [ca.certificate], ...stream };
}

function opened(target: Target, how: OpenRequest): Promise<{ readonly channel: Channel; readonly backEnd: string }> {
  return new Promise((resolve, reject) => {
    target.open(how, { opened: (channel, backEnd) => resolve({ channel, backEnd }), failed: reject });
  });
}

async function reach(options: TargetOptions, how: OpenRequest): Promise<ChannelWatch> {
  const { channel } = await opened(createTarget("it", options), how);
  expect(channel.messages).toBe(how.messages);
  return new ChannelWatch(channel);
}

describe("targets", () => {
  test("echo gives back bytes and messages and is called echo", async () => {
    const target = createTarget("it", { kind: "builtin", builtin: "echo" });
    expect([target.name, (await opened(target, request(true))).backEnd]).toEqual(["it", "echo"]);
    for (const messages of [false, true]) {
      const watch = await reach({ kind: "builtin", builtin: "echo" }, request(messages));
      watch.channel.write(Buffer.from("a"), true);
      watch.channel.write(Buffer.from("b"), true);
      watch.channel.closeWrite();
      await watch.closed();
      expect([watch.content.toString(), watch.messages.length, watch.broken]).toEqual(["ab", messages ? 2 : 0, undefined]);
    }
  });

  for (const kind of kinds) {
    test(`${kind}: 4 MiB that are answered after our half-close arrive whole`, async () => {
      const watch = await reach(await start(kind, answering(4 * MiB)), request(false));
      watch.channel.write(Buffer.from("question"), false);
      watch.channel.closeWrite();
      await watch.closed();
      expect([watch.content.equals(sourceBytes(4 * MiB)), watch.ended, watch.broken]).toEqual([true, true, undefined]);
    });

    test(`${kind}: 1,000 messages of all sizes come back with their boundaries`, async () => {
      const watch = await reach(await start(kind, u32Responder()), request(true));
      const messages = Array.from({ length: 1_000 }, (_, at) => Buffer.alloc([0, 1, 64, 300, 5_000, 20_000][at % 6]!, at));
      const sending = (async () => {
        for (const message of messages) await watch.send([message], { last: true });
        watch.channel.closeWrite();
      })();
      await Promise.all([sending, watch.closed()]);
      expect(watch.messages.map((each) => each.length)).toEqual(messages.map((each) => each.length));
      expect(watch.messages.every((each, at) => each.equals(messages[at]!))).toBe(true);
      expect([watch.ended, watch.broken, watch.faults]).toEqual([true, undefined, []]);
    });
  }

  for (const kind of kinds.filter((each) => each !== "unix")) {
    test(`${kind}: a RST of the back end is target_reset, never an end, for bytes and for messages`, async () => {
      for (const messages of [false, true]) {
        const behaviour: Behaviour =
          kind === "tcp"
            ? resetting(encode([Buffer.from("first")], "u32"))
            : (socket, backEnd) => {
                socket.write(encode([Buffer.from("first")], "u32"));
                socket.once("data", () => backEnd.reset());
              };
        const watch = await reach(await start(kind, behaviour), request(messages));
        await watch.until(() => watch.bytes > 0);
        watch.channel.write(Buffer.from("go"), true);
        await watch.closed();
        expect([messages, watch.broken?.reason, watch.ended, watch.faults]).toEqual([messages, "target_reset", false, []]);
      }
    });
  }

  test("a back end that closes inside a message is target_reset, never an end", async () => {
    const whole = encode([Buffer.from("kept"), Buffer.alloc(1_000)], "u32");
    const watch = await reach(await start("tcp", (socket) => void socket.end(whole.subarray(0, 500))), request(true));
    await watch.closed();
    expect([watch.messages.map(String), watch.broken?.reason, watch.ended]).toEqual([["kept"], "target_reset", false]);
  });

  test("lines and bytes are kept as configured", async () => {
    const lines = await reach(await start("tcp", echo, "lines"), request(true));
    for (const line of ["one", "", "three\r"]) lines.channel.write(Buffer.from(line), true);
    lines.channel.closeWrite();
    await lines.closed();
    expect([lines.messages.map(String), lines.broken]).toEqual([["one", "", "three\r"], undefined]);
    const bytes = await reach(await start("tcp", source(MiB), "bytes"), request(true, 10_000));
    await bytes.until(() => bytes.ended);
    expect([Buffer.concat(bytes.messages).equals(sourceBytes(MiB)), bytes.messages.every((each) => each.length <= 10_000)]).toEqual([
      true,
      true,
    ]);
    bytes.channel.reset({ reason: "cancelled" });
  });

  test("byte pipes to a framed target carry bytes as they are", async () => {
    const watch = await reach(await start("tcp", echo), request(false));
    watch.channel.write(Buffer.from("raw"), false);
    watch.channel.closeWrite();
    await watch.closed();
    expect(watch.content.toString()).toBe("raw");
  });
});
