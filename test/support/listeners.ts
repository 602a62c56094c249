/** Where a test's gateway listens, or will. */
import { createServer, type AddressInfo } from "node:net";
import type { ListenerConfig } from "../../src/config/config.ts";

/** A port of 127.0.0.1 where nobody listens now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A framed listener. */
export function listenerAt(listen: ListenerConfig["listen"]): ListenerConfig {
  return { listen, serverNames: new Map(), alpn: [] };
}
