import { Buffer } from "node:buffer";
import { afterEach, describe, expect, test } from "vitest";
import { prepareTls } from "../../src/runtime/dial-tls.ts";
import { type BackEnd, halfClosing, silent, startBackEnd } from "../support/back-ends.ts";
import { ChannelWatch } from "../support/channel-watch.ts";
import { createTestCa } from "../support/mint.ts";
import { dial } from "../support/dialled.ts";

const ca = createTestCa();
const own = ca.gateway();
const backEnds: BackEnd[] = [];
afterEach(async () => {
  for (const one of backEnds.splice(0)) await one.close();
});

const pauses: Readonly<Record<string, () => Promise<unknown>>> = {
  "at once": () => Promise.resolve(),
  "a microtask later": () => Promise.resolve().then(() => {}),
  "a turn later": () => new Promise((resolve) => setImmediate(resolve)),
  "5 ms later": () => new Promise((resolve) => setTimeout(resolve, 5)),
};

describe.each(["tcp", "tls"] as const)("a %s channel that is reset after its end was written", (transport) => {
  test.each(Object.keys(pauses))(
    "%s, is closed and leaves no socket behind, whatever waited and whatever the other side did",
    async (when) => {
      for (const behaviour of [silent, halfClosing]) {
        for (const bytes of [0, 1_000, 4 << 20]) {
          const backEnd = await startBackEnd(behaviour, transport === "tls" ? { tls: { cert: own.certificate, key: own.key } } : {});
          backEnds.push(backEnd);
          const tls = transport === "tls" ? { tls: prepareTls({ ca: [ca.certificate] }) } : {};
          const address = { kind: "tcp" as const, host: backEnd.host, port: backEnd.port };
          const { channel } = await dial([address], { timeoutMs: 5_000, ...tls });
          const watch = new ChannelWatch(channel);
          await expect.poll(() => backEnd.connections, { timeout: 5_000, interval: 1 }).toBe(1); // under TLS it may know later than we
          if (behaviour === halfClosing) await watch.until(() => watch.ended);
          if (bytes > 0) channel.write(Buffer.alloc(bytes), false);
          if (when !== "at once") await new Promise((resolve) => setTimeout(resolve, 5));
          channel.closeWrite();
          if (when !== "at once") await pauses[when]!();
          channel.reset({ reason: "cancelled" });
          await watch.closed();
          expect(watch.faults).toEqual([]);
          backEnd.stall(false);
          for (const socket of backEnd.sockets) socket.end("is anybody there?"); // where the FIN was out already, this is how it learns
          await expect.poll(() => backEnd.sockets.size, { timeout: 3_000, interval: 5 }).toBe(0);
        }
      }
    },
  );
});
