/** A back end over TCP that takes everything and tells how each connection ended. */
import { startBackEnd, type BackEnd } from "./back-ends.ts";

export interface SeesEnds extends BackEnd {
  /** `end`, or the code of a break. */
  readonly ends: readonly string[];
}

export async function seesEnds(): Promise<SeesEnds> {
  const ends: string[] = [];
  const backEnd = await startBackEnd((socket, counting) => {
    socket.on("data", (chunk: Uint8Array) => (counting.received += chunk.length));
    socket.on("end", () => {
      ends.push("end");
      socket.end();
    });
    socket.on("error", (error: NodeJS.ErrnoException) => void ends.push(error.code ?? error.message));
  });
  return Object.assign(backEnd, { ends });
}
