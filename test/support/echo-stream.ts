/** The gateway's end of a stream that takes part: accepted, and given back what it brings. */
import type { Stream } from "../../src/protocol/stream.ts";

export function echo(stream: Stream): void {
  stream.attach({
    data: (chunk, last) => {
      if (!stream.write(chunk, last)) stream.pause();
    },
    end: () => stream.closeWrite(),
    drained: () => stream.resume(),
    closed: () => stream.release(),
  });
  stream.accept();
}
