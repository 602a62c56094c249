import { Buffer } from "node:buffer";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { facts } from "../../src/runtime/facts.ts";
import { restReading } from "../../src/runtime/rest.ts";
import { createTestCa } from "../support/mint.ts";

const TOTAL = 8 << 20;
/** What one read of the runtime brings. */
const READ = 64 << 10;

test("a TLS socket that rests in every turn brings at most one read a turn, and all of it, and its end", async () => {
  const ca = createTestCa();
  const { certificate, key } = ca.gateway();
  const server = createServer({ cert: certificate, key }, (socket) => void socket.end(Buffer.alloc(TOTAL)));
  onTestFinished(() => void server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect({
    port: (server.address() as AddressInfo).port,
    host: "127.0.0.1",
    servername: "localhost",
    ca: [ca.certificate],
  });
  let [total, most, inTurn] = [0, 0, 0];
  socket.on("data", (chunk: Buffer) => {
    if (inTurn === 0) {
      setImmediate(() => (inTurn = 0));
      restReading(socket);
    }
    total += chunk.length;
    inTurn += chunk.length;
    most = Math.max(most, inTurn);
  });
  await once(socket, "end");
  expect(total).toBe(TOTAL);
  if (facts.name === "node") expect(most).toBeLessThanOrEqual(READ + (16 << 10)); // a record that began in the read before
});
