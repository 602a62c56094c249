import { createServer, type AddressInfo, type Socket, type TcpNetConnectOpts } from "node:net";
import { expect, test, vi } from "vitest";
import { dial } from "../support/dialled.ts";

// What the system does by chance, once in some ten thousand dials: the port to dial from is the one that is dialled.
vi.mock(import("node:net"), async (original) => {
  const net = await original();
  const connect = (options: TcpNetConnectOpts): Socket => net.connect({ ...options, localAddress: "127.0.0.1", localPort: options.port });
  return { ...net, connect: connect as typeof net.connect };
});

test("a connection that came back to itself is no back end, and the port is free at once", async () => {
  const server = createServer();
  const listen = (port: number): Promise<void> => new Promise((resolve) => void server.listen(port, "127.0.0.1", resolve));
  await listen(0);
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => void server.close(() => resolve()));
  for (let n = 0; n < 3; n++) {
    const dialled = dial([{ kind: "tcp", host: "127.0.0.1", port }], { timeoutMs: 10_000 });
    await expect(dialled).rejects.toMatchObject({ code: "target_unavailable", message: expect.stringContaining("came back to itself") });
  }
  await listen(port);
  server.close();
});
