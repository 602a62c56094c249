/** Both ends of a TLS door on loopback, for programs as well as for tests (so without vitest). */
import type { ConnectionOptions } from "node:tls";
import { createTrust } from "../../src/identity/judge.ts";
import { facts } from "../../src/runtime/facts.ts";
import { listenerDefaults, type ListenerOptions } from "../../src/tls/listener-options.ts";
import type { Issued, TestCa } from "./mint.ts";

/** Whether a door hands out something that a client may try to resume, which it then refuses. Node 24 hands out nothing. */
export const handsOutSessions: boolean = facts.name === "deno" || Number.parseInt(facts.version, 10) >= 26;

/** A door on a free port, with a certificate of `ca` and for the clients of `ca`. */
export function doorOptions(ca: TestCa): ListenerOptions {
  const own = ca.gateway();
  return {
    ...listenerDefaults,
    address: { kind: "tcp", host: "127.0.0.1", port: 0 },
    credentials: { certificate: own.certificate, key: own.key },
    trust: createTrust({ ca: [ca.certificate], crl: [], now: Date.now() }),
    alpn: ["pipegate/1"],
    withoutAlpn: false,
    refusalDelayMs: 0, // tests of the delay set it
  };
}

/** A client of that door; where to dial is the caller's to add. */
export function clientOptions(ca: TestCa, client: Issued): ConnectionOptions {
  return {
    ca: ca.certificate,
    cert: client.certificate,
    key: client.key,
    servername: "localhost",
    ALPNProtocols: ["pipegate/1"],
  };
}
