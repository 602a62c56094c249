/** A door in a process of its own, with room for a flood: prints its port and keys, then ten times a second what it holds and whom it refused. */
import { readdirSync, readlinkSync } from "node:fs";
import { listen } from "../../../src/tls/listener.ts";
import { clientOptions, doorOptions } from "../door-options.ts";
import { createTestCa } from "../mint.ts";

const [maxHandshakes = 0, handshakeTimeoutMs = 0] = process.argv.slice(2).map(Number);
const ca = createTestCa();
const refused: Record<string, number> = {};
/** What was said of those who were not late: nobody is expected. */
const strange: string[] = [];
const listener = await listen(
  { ...doorOptions(ca), maxHandshakes, maxHandshakesPerSource: maxHandshakes, handshakeTimeoutMs, withoutAlpn: true },
  {
    connection: ({ socket }) => {
      socket.on("end", () => socket.end()).resume();
      socket.write("hello\n");
    },
    refused: ({ reason, detail }) => {
      refused[reason] = (refused[reason] ?? 0) + 1;
      if (reason !== "handshake_timeout" && strange.length < 3) strange.push(detail);
    },
    answer: ({ connection }) => connection.socket.destroy(),
  },
);
/** What each descriptor is, without its number. */
function held(): readonly string[] {
  return readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).replace(/:\[\d+\]$/, "");
    } catch {
      return "gone";
    }
  });
}

const print = (line: unknown): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
print({ port: listener.address.kind === "tcp" ? listener.address.port : 0, client: clientOptions(ca, ca.client("alice")) });
setInterval(() => print({ held: held(), refused, strange }), 100);
process.stdin.on("end", () => process.exit(0)).resume();
