/**
 * The certificates that a TLS peer presented, as DER, leaf first: bounded, without cycles, whatever the runtime's object graph looks like.
 * Promises: never more than was presented and what stands above it; what a runtime does not show is missing, never made up.
 */
import { Buffer } from "node:buffer";
import type { X509Certificate } from "node:crypto";
import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import { facts } from "./facts.ts";

const MAX_CHAIN = 12;

export interface Presented {
  /** `sha256:HEX` of the leaf where the runtime has it at hand (Node); undefined elsewhere, or without a certificate. */
  readonly fingerprint: string | undefined;
  /** Empty when there was no certificate. Costs more than the fingerprint. */
  chain(): Buffer[];
}

/** Ask once for each socket: Node 24 takes the chain out of the TLS stack when it shows it for the first time. */
export function presentedBy(socket: TLSSocket): Presented {
  if (facts.name !== "node") return { fingerprint: undefined, chain: () => walk(socket.getPeerCertificate(true)) };
  // Node makes every text of the legacy object; its X509Certificate is made ten times as fast, but shows one issuer and no more.
  const leaf = socket.getPeerX509Certificate();
  if (leaf === undefined) return { fingerprint: undefined, chain: () => [] };
  return {
    fingerprint: `sha256:${leaf.fingerprint256.replaceAll(":", "").toLowerCase()}`,
    chain: () => {
      const short = walk(leaf);
      const top = leaf.issuerCertificate;
      if (top === undefined || top.checkIssued(top)) return short;
      const long = walk(socket.getPeerCertificate(true));
      return long.length > short.length ? long : short;
    },
  };
}

function walk(leaf: X509Certificate | DetailedPeerCertificate | null): Buffer[] {
  const chain: Buffer[] = [];
  let one: X509Certificate | DetailedPeerCertificate | null | undefined = leaf;
  while (one?.raw !== undefined && one.raw.length > 0 && chain.length < MAX_CHAIN) {
    const { raw }: { raw: Buffer } = one;
    if (chain.some((seen) => seen.equals(raw))) break;
    chain.push(Buffer.from(raw));
    one = one.issuerCertificate;
  }
  return chain;
}
