/** The first flight of a real TLS 1.3 client, as bytes: for tests that send it in pieces or not to its end. */
import { once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { connect } from "node:tls";

export async function clientHello(): Promise<Buffer> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const client = connect({ host: "127.0.0.1", port, servername: "localhost", ALPNProtocols: ["pipegate/1"], minVersion: "TLSv1.3" });
  client.on("error", () => {});
  const [socket] = (await once(server, "connection")) as [Socket];
  socket.on("error", () => {});
  let hello = Buffer.alloc(0);
  while (hello.length < 5 || hello.length < 5 + hello.readUInt16BE(3)) {
    const [chunk] = (await once(socket, "data")) as [Buffer];
    hello = Buffer.concat([hello, chunk]);
  }
  socket.destroy();
  client.destroy();
  server.close();
  return hello;
}
