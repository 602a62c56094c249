/** The demo's own back end: turns what it is sent into upper case, so that a TCP target can be tried without anything installed. */
import { listenLocally } from "../runtime/local-listener.ts";
import { socketChannel } from "../runtime/socket-channel.ts";

export interface Samples {
  /** Where `upper` listens on 127.0.0.1. */
  readonly upperPort: number;
  close(): void;
}

export async function startSamples(): Promise<Samples> {
  const listener = await listenLocally({ kind: "tcp", host: "127.0.0.1", port: 0 }, (socket) => {
    const channel = socketChannel(socket, { broken: "session_lost" });
    channel.attach({
      data: (chunk) => {
        if (!channel.write(upper(chunk), false)) channel.pause();
      },
      end: () => channel.closeWrite(),
      drained: () => channel.resume(),
      closed: () => {},
    });
  });
  return { upperPort: listener.address.kind === "tcp" ? listener.address.port : 0, close: () => listener.close() };
}

/** ASCII letters only, byte by byte: a chunk may end in the middle of a character. */
function upper(chunk: Uint8Array): Uint8Array {
  return chunk.map((byte) => (byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte));
}
