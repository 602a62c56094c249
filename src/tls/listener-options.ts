/** What a listener needs, whole and checked: PEM texts are read, lists are counted. Defaults stand beside. */
import type { SocketAddress } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { Identity } from "../identity/identity.ts";
import type { Trust } from "../identity/judge.ts";
import type { Descriptors } from "../runtime/descriptors.ts";
import type { Penalties } from "./penalties.ts";
import type { Tally } from "./tally.ts";

export interface Credentials {
  /** PEM, leaf first, then the chain. */
  readonly certificate: string;
  readonly key: string;
}

/** What a reload may change while the listener stands. */
export interface ServedOptions {
  readonly credentials: Credentials;
  /** Its CAs are also the handshake's. */
  readonly trust: Trust;
  /** What turns this identity away as revoked, in a few words, although its certificate is good. Absent: nothing. */
  readonly denies?: (identity: Identity) => string | undefined;
  /** Protocols offered, in order of preference; a client that asks for none of them is refused (`alpn`). */
  readonly alpn: readonly string[];
  /** Whether a client without ALPN is taken (raw listeners). */
  readonly withoutAlpn: boolean;
}

export interface ListenerOptions extends ServedOptions {
  readonly address: SocketAddress;
  readonly handshakeTimeoutMs: number;
  readonly maxConnections: number;
  /** Handshakes under way, in all and from one source address (an IPv6 /64 is one). */
  readonly maxHandshakes: number;
  readonly maxHandshakesPerSource: number;
  /** Who is refused after the handshake hears of it so much later; meanwhile the handshake counts as under way. 0: at once. */
  readonly refusalDelayMs: number;
  /** What sources owe for handshakes that failed; one for all listeners of a gateway. Default: nobody owes anything. */
  readonly penalties?: Penalties;
  /** Other threads of this process listen on the same address (SO_REUSEPORT); the system gives each a part of those who come. */
  readonly shared?: boolean;
  /** Where connections and handshakes are counted. Default: for this listener alone. */
  readonly tally?: Tally;
  /** Where connections take their descriptors from. Default: the process's. */
  readonly descriptors?: Descriptors;
  /** Default: the system's. */
  readonly clock?: Clock;
}

export const listenerDefaults = {
  handshakeTimeoutMs: 10_000,
  maxConnections: 10_000,
  maxHandshakes: 512,
  maxHandshakesPerSource: 64,
  refusalDelayMs: 250,
} as const;
