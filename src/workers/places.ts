/**
 * Where the listeners of a config are bound, by all workers together. Promises: an address that is new is claimed alone, right before all
 * bind it: what another process listens on is refused, also when that would share it; port 0 becomes one port for all.
 * Leaves to others: binding.
 */
import { addressText, type SocketAddress } from "../base/address.ts";
import type { ListenerConfig } from "../config/config.ts";
import { stands } from "../gateway/listeners.ts";
import { claimAddress } from "../runtime/bind.ts";

export interface Placed {
  /** As the config has it. */
  readonly text: string;
  /** As every worker is told to bind it: with a port. */
  readonly listen: SocketAddress;
  /** As bound. */
  readonly address: SocketAddress;
}

/** In the order of the listeners; what stands keeps its place. Rejects with a PipegateError (config) when there is no port for one. */
export async function placeListeners(listeners: readonly ListenerConfig[], standing: readonly Placed[]): Promise<readonly Placed[]> {
  const left = [...standing];
  const matched = listeners.map(({ listen }) => {
    const text = addressText(listen);
    const at = left.findIndex((one) => one.text === text);
    const kept = at < 0 ? undefined : left.splice(at, 1)[0]!;
    return { text, listen, kept, portless: kept === undefined && listen.kind === "tcp" && listen.port === 0 };
  });
  const chosen = await claimAll(matched.filter(({ portless }) => portless).map(({ listen }) => listen));
  return matched.map(({ text, listen, kept, portless }) => {
    const place = portless ? chosen.shift()! : listen;
    return kept ?? { text, listen: place, address: place };
  });
}

/** Proves that nobody has what is new: at its best right before it is bound. As bound. Rejects with a PipegateError (config). */
export async function claimPlaces(placed: readonly Placed[], standing: readonly Placed[]): Promise<readonly Placed[]> {
  // What we listen on ourselves nobody else could have, and we cannot claim it either.
  const claimable = placed.filter(({ listen }) => !standing.some((one) => stands(one, listen)));
  const bound = await claimAll(claimable.map(({ listen }) => listen));
  return placed.map((one) => {
    const at = claimable.indexOf(one);
    return at < 0 ? one : { ...one, address: bound[at]! };
  });
}

/** All are held together, so that each has its own, and let go then. Unix sockets are no concern of it. */
async function claimAll(addresses: readonly SocketAddress[]): Promise<SocketAddress[]> {
  const held: (() => Promise<void>)[] = [];
  const bound: SocketAddress[] = [];
  try {
    for (const address of addresses) {
      const claim = address.kind === "tcp" ? await claimAddress(address) : undefined;
      if (claim !== undefined) held.push(() => claim.release());
      bound.push(claim?.address ?? address);
    }
    return bound;
  } finally {
    await Promise.all(held.map((release) => release()));
  }
}
