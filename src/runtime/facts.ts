/** What Node and Deno really do, as data. Each fact that something relies on has a test in test/runtime/, so that a new version is noticed. */

interface DenoGlobal {
  readonly version: { readonly deno: string };
}

const deno = (globalThis as { readonly Deno?: DenoGlobal }).Deno;

export interface RuntimeFacts {
  readonly name: "node" | "deno";
  readonly version: string;
  /** A paused TLS socket stops reading and keeps its end. Where not, raw pipes run TLS over a gate (gate.ts). */
  readonly holdsTlsReads: boolean;
  /** A server can be made not to hand out session tickets. Where not, resumed sessions are judged as if they were new. */
  readonly endsTickets: boolean;
  /** The handshake is OpenSSL's, with its checks of chain and path. Where not, the chain must be proven by judge.ts alone. */
  readonly provesChains: boolean;
  /** Every certificate that a client presents can be seen, whenever asked; Node 24.17 shows them once, later releases of 24 the leaf alone. */
  readonly showsChains: boolean;
  /** A handshake that fails for the client's certificate says why. Where not, one code stands for strangers, expired ones and wrong usages. */
  readonly tellsCertificateFaults: boolean;
  /** A server that ran out of descriptors accepts again when there are some. Where not, it is watched (accepting.ts). */
  readonly keepsAccepting: boolean;
}

export const facts: RuntimeFacts =
  deno === undefined
    ? {
        name: "node",
        version: process.versions.node,
        holdsTlsReads: true,
        endsTickets: true,
        provesChains: true,
        showsChains: Number.parseInt(process.versions.node, 10) >= 26,
        tellsCertificateFaults: true,
        keepsAccepting: true,
      }
    : {
        name: "deno",
        version: deno.version.deno,
        holdsTlsReads: false,
        endsTickets: false,
        provesChains: false,
        showsChains: true,
        tellsCertificateFaults: false,
        keepsAccepting: false,
      };
