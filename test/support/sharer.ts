/** Another process that listens with SO_REUSEPORT: on an address that we have, too. It ends when it is told to, or when we end. */
import type { TcpAddress } from "../../src/base/address.ts";
import { ended, says } from "./run-command.ts";
import { startProgram } from "./this-runtime.ts";

export interface Sharer {
  end(): Promise<void>;
}

/** Resolves once it listens. */
export async function startSharer({ host, port }: Pick<TcpAddress, "host" | "port">): Promise<Sharer> {
  const child = startProgram("test/support/programs/sharer.ts", [host, String(port)]);
  const end = ended(child);
  await says(child, /listening/u);
  return {
    end: async () => {
      child.stdin.end();
      await end;
    },
  };
}
