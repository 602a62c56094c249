/** Dials a back end once and waits for it: src/runtime/dial.ts as a promise. */
import type { SocketAddress } from "../../src/base/address.ts";
import type { Channel } from "../../src/base/channel.ts";
import { Dialler, type DialOptions } from "../../src/runtime/dial.ts";

export interface Dialled {
  readonly channel: Channel;
  readonly text: string;
}

/** Rejects as the dialler fails. */
export function dial(addresses: readonly SocketAddress[], options: DialOptions): Promise<Dialled> {
  return new Promise((resolve, reject) => {
    new Dialler(addresses, options).dial({ connected: (channel, text) => resolve({ channel, text }), failed: reject });
  });
}
