/**
 * A gateway with its back ends in a process of its own, for pairs of runtimes. Prints one JSON line with the port and the client's credentials,
 * then serves until stdin ends. `bytes`: what a TCP back end does is chosen by the first byte: `e` echoes, `x` echoes a little and resets.
 */
import { createServer } from "node:net";
import { cut } from "../support/back-ends.ts";
import { startGateway } from "../support/gateway.ts";

const backEnd = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on("error", () => {});
  socket.once("data", (first: Buffer) => {
    if (first[0] === 0x78) {
      let seen = first.length;
      socket.write(first.subarray(0, 10));
      socket.on("data", (chunk: Buffer) => {
        seen += chunk.length;
        if (seen > 20_000) cut(socket);
      });
      return;
    }
    socket.write(first);
    socket.pipe(socket);
  });
  socket.on("end", () => {
    if (socket.bytesRead === 0) socket.end();
  });
});
await new Promise<void>((resolve) => backEnd.listen(0, "127.0.0.1", resolve));
const { port } = backEnd.address() as { port: number };
const addresses = [{ kind: "tcp" as const, host: "127.0.0.1", port }];
const setup = await startGateway({
  targets: {
    echo: { kind: "builtin", builtin: "echo" },
    bytes: { kind: "tcp", addresses, framing: "u32", dialTimeoutMs: 5_000 },
  },
});
const { certificate, key } = setup.ca.issue({ role: "client", uri: "spiffe://dev/agent/pair" });
console.log(JSON.stringify({ port: setup.port, certificate, key, ca: setup.ca.certificate }));
process.stdin.resume();
process.stdin.on("end", () => {
  process.stderr.write(JSON.stringify({ open: setup.gateway.status().pipes.length, closes: setup.lines("pipe close").length }));
  process.exit(0);
});
setTimeout(() => process.exit(1), 120_000);
