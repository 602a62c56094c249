/** Listens with SO_REUSEPORT on HOST and PORT until its stdin ends. */
import { createServer } from "node:net";
import process from "node:process";

const [host, port] = process.argv.slice(2);
const server = createServer((socket) => socket.destroy());
server.listen({ host: host!, port: Number(port), reusePort: true }, () => process.stderr.write("listening\n"));
process.stdin.resume().on("end", () => process.exit());
