/** Dials a back end once and waits for it: `dial` of src/runtime/dial.ts as a promise, with a signal for giving up. */
import type { SocketAddress } from "../../src/base/address.ts";
import type { Channel } from "../../src/base/channel.ts";
import { PipegateError } from "../../src/base/error.ts";
import { Dialler, type DialOptions as DiallerOptions } from "../../src/runtime/dial.ts";

export interface DialOptions extends DiallerOptions {
  readonly signal?: AbortSignal;
}

export interface Dialled {
  readonly channel: Channel;
  readonly text: string;
}

/** Rejects as the dialler fails, and with `cancelled` after the signal. */
export function dial(addresses: readonly SocketAddress[], { signal, ...options }: DialOptions): Promise<Dialled> {
  return new Promise((resolve, reject) => {
    const dialling = new Dialler(addresses, options).dial({ connected: (channel, text) => resolve({ channel, text }), failed: reject });
    const giveUp = (): void => {
      dialling.cancel();
      reject(new PipegateError("cancelled", "given up while dialling"));
    };
    if (signal?.aborted === true) giveUp();
    else signal?.addEventListener("abort", giveUp, { once: true });
  });
}
