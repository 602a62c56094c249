/**
 * The one guard from a TLS socket to an identity. Promises: nobody is believed whom `judge` does not believe on this very connection, whom
 * the TLS stack did not authorize (but for a session that it resumed, where it cannot be kept from that: then `judge` proves all), or whom
 * the deny-list names. Leaves to others: the door around it, what the identity may do.
 */
import type { TLSSocket } from "node:tls";
import { judge, judgeAgain, type Verdict } from "../identity/judge.ts";
import { facts } from "../runtime/facts.ts";
import { presentedBy } from "../runtime/tls-peer.ts";
import type { ServedOptions } from "./listener-options.ts";

export interface PeerContext {
  /** What holds now. */
  readonly served: Pick<ServedOptions, "trust" | "denies">;
  /** Whether the handshake was under that. */
  readonly current: boolean;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** Ask once for each socket. */
export function judgePeer(socket: TLSSocket, { served: { trust, denies }, current, now }: PeerContext): Verdict {
  const resumed = socket.isSessionReused();
  if (resumed && facts.endsTickets)
    return { ok: false, reason: "resumed_session", detail: "a TLS session was resumed although no tickets are given out" };
  const proven = !resumed && current && facts.provesChains && socket.authorized;
  const presented = presentedBy(socket);
  const known = presented.fingerprint === undefined ? undefined : judgeAgain(presented.fingerprint, trust, now);
  const verdict = known ?? judge(presented.chain(), trust, { now, verifiedByRuntime: proven });
  if (!verdict.ok) return verdict;
  const { fingerprint } = verdict.identity;
  if (!resumed && !socket.authorized)
    return { ok: false, reason: "unknown_issuer", detail: "the TLS stack did not authorize it", fingerprint };
  const denied = denies?.(verdict.identity);
  return denied === undefined ? verdict : { ok: false, reason: "revoked", detail: `trust.deny names ${denied}`, fingerprint };
}
