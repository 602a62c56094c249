/**
 * The least that Node can do: mutual TLS 1.3 to a TCP back end, streams piped into each other, no rule, no limit, no log. What
 * bench/smoke.ts compares with: whatever a busy machine or another Node does to pipegate, it does to this, too.
 *   plain-proxy.ts FOLDER PORT BACKEND_PORT [PORT BACKEND_PORT ...]
 */
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { createServer } from "node:tls";
import { tuneMemory } from "../src/runtime/memory.ts";

const [, , folder, ...ports] = process.argv;
const read = (name: string): string => readFileSync(join(folder!, name), "utf8");

tuneMemory();
for (let index = 0; index < ports.length; index += 2) {
  const [port, backend] = [Number(ports[index]), Number(ports[index + 1])];
  const server = createServer(
    {
      cert: read("gateway.pem"),
      key: read("gateway-key.pem"),
      ca: read("ca.pem"),
      requestCert: true,
      minVersion: "TLSv1.3",
      noDelay: true,
    },
    (socket) => {
      const other = connect({ host: "127.0.0.1", port: backend, noDelay: true });
      socket.on("error", () => other.destroy());
      other.on("error", () => socket.destroy());
      socket.pipe(other).pipe(socket);
    },
  );
  server.listen(port, "127.0.0.1");
}
