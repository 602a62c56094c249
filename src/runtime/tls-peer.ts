/** The certificates that a TLS peer presented, as DER, leaf first: bounded, without cycles, whatever the runtime's object graph looks like. */
import { Buffer } from "node:buffer";
import type { X509Certificate } from "node:crypto";
import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import { facts } from "./facts.ts";

const MAX_CHAIN = 12;

/** Empty when there was no certificate. */
export function presentedChain(socket: TLSSocket): Buffer[] {
  const chain: Buffer[] = [];
  // Node makes the legacy object's every text; its X509Certificate is made ten times as fast. Deno has the legacy one only.
  let one: X509Certificate | DetailedPeerCertificate | undefined =
    facts.name === "node" ? socket.getPeerX509Certificate() : socket.getPeerCertificate(true);
  while (one?.raw !== undefined && one.raw.length > 0 && chain.length < MAX_CHAIN) {
    const { raw }: { raw: Buffer } = one;
    if (chain.some((seen) => seen.equals(raw))) break;
    chain.push(Buffer.from(raw));
    one = one.issuerCertificate;
  }
  return chain;
}

/** `sha256:HEX` of the presented leaf where the runtime has it at hand (Node); undefined elsewhere, or without a certificate. */
export function presentedFingerprint(socket: TLSSocket): string | undefined {
  if (facts.name !== "node") return undefined;
  const hex = socket.getPeerX509Certificate()?.fingerprint256;
  return hex === undefined ? undefined : `sha256:${hex.replaceAll(":", "").toLowerCase()}`;
}
