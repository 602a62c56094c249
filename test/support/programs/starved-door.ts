/** A door in a process with few descriptors, and clients that take them all: prints how busy it was meanwhile, and whether it serves after. */
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { listen } from "../../../src/tls/listener.ts";
import { clientOptions, doorOptions } from "../door-options.ts";
import { createTestCa } from "../mint.ts";

process.on("SIGTERM", () => process.exit(1)); // as the gateway does; Deno makes a pipe for signals, and panics when it cannot
const ca = createTestCa();
const listener = await listen(doorOptions(ca), {
  connection: ({ socket }) => void socket.write("hello"),
  refused: () => {},
  answer: () => {},
});
const port = listener.address.kind === "tcp" ? listener.address.port : 0;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const hogs = Array.from({ length: 200 }, () => connect({ host: "127.0.0.1", port }).on("error", () => {}));
await sleep(500);
const before = process.cpuUsage();
await sleep(1_000);
const { user, system } = process.cpuUsage(before);
for (const hog of hogs) hog.destroy();
await sleep(300);

const credentials = clientOptions(ca, ca.client("alice"));
const tryOnce = (): Promise<boolean> =>
  new Promise((resolve) => {
    const client = connectTls({ host: "127.0.0.1", port, ...credentials });
    client.on("data", () => resolve(true));
    client.on("error", () => resolve(false));
    setTimeout(() => (client.destroy(), resolve(false)), 2_000);
  });
let served = false;
for (let left = 8; left > 0 && !served; left--) {
  served = await tryOnce();
  if (!served) await sleep(500);
}
process.stdout.write(JSON.stringify({ busy: (user + system) / 1e6, served }), () => process.exit(0));
