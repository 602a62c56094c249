/**
 * The certificates that a TLS peer presented, as DER, leaf first: bounded, without cycles, whatever the runtime's object graph looks like.
 * Promises: never more than was presented and what stands above it; what a runtime does not show is missing, never made up.
 */
import { Buffer } from "node:buffer";
import { hash, type X509Certificate } from "node:crypto";
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
  const der = leafOfSession(socket.getSession());
  return {
    fingerprint: der && `sha256:${hash("sha256", der, "hex")}`,
    chain: () => {
      // Node makes every text of the legacy object; its X509Certificate is made ten times as fast, but shows one issuer and no more.
      const leaf = socket.getPeerX509Certificate();
      if (leaf === undefined) return [];
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

/** Of OpenSSL's SSL_SESSION as DER: the tag under which it keeps the peer's certificate. */
const PEER = 0xa3;

/**
 * The peer's leaf as OpenSSL keeps it with the session that it has just negotiated: a tenth of the cost of an X509Certificate, which
 * also stays in memory until the next whole collection. Undefined: there is none, or the session is not in the shape that we know.
 */
function leafOfSession(session: Buffer | undefined): Buffer | undefined {
  if (session === undefined) return undefined;
  const whole = element(session, 0);
  let at = whole?.tag === 0x30 ? whole.start : session.length;
  let leaf: Buffer | undefined;
  for (let one = element(session, at); one !== undefined; one = element(session, (at = one.end))) {
    if (one.tag !== PEER) continue;
    leaf = Buffer.from(session.subarray(one.start, one.end));
    break;
  }
  session.fill(0); // secrets of the session lie beside it
  return leaf;
}

interface Element {
  readonly tag: number;
  /** Of what it contains. */
  readonly start: number;
  readonly end: number;
}

/** The DER element at `at`; undefined: none lies there whole. */
function element(bytes: Buffer, at: number): Element | undefined {
  const first = bytes[at + 1];
  if (first === undefined) return undefined;
  const more = first < 0x80 ? 0 : first & 0x7f;
  const start = at + 2 + more;
  if (more > 3 || start > bytes.length) return undefined;
  const length = more === 0 ? first : bytes.readUIntBE(at + 2, more);
  return start + length > bytes.length ? undefined : { tag: bytes[at]!, start, end: start + length };
}
