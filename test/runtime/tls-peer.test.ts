/** What a TLS peer presented, as the runtime shows it. */
import type { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { connect, createServer, type TLSSocket } from "node:tls";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { facts } from "../../src/runtime/facts.ts";
import { presentedBy } from "../../src/runtime/tls-peer.ts";
import { createTestCa, type Issued } from "../support/mint.ts";

const ca = createTestCa();
const gateway = ca.gateway();

/** What a server sees of a client. */
async function seen(client: Issued | undefined): Promise<{ fingerprint: string | undefined; chain: Buffer[] }> {
  const server = createServer({
    cert: gateway.certificate,
    key: gateway.key,
    ca: [ca.certificate],
    requestCert: true,
    rejectUnauthorized: client !== undefined,
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const secured = new Promise<TLSSocket>((resolve) => void server.once("secureConnection", resolve));
  const { port } = server.address() as AddressInfo;
  const shown = client === undefined ? {} : { cert: client.certificate, key: client.key };
  const socket = connect({ host: "127.0.0.1", port, ca: [ca.certificate], servername: "localhost", ...shown });
  try {
    const presented = presentedBy(await secured);
    return { fingerprint: presented.fingerprint, chain: presented.chain() };
  } finally {
    socket.destroy();
    server.close();
  }
}

const names = (count: number): string[] => Array.from({ length: count }, (_, n) => `name-${n}.example`);

test.each([
  ["a small one", { uri: "spiffe://dev/agent/a" }],
  ["one of RSA", { uri: "spiffe://dev/agent/a", keyType: "rsa2048" }],
  ["one of Ed25519", { uri: "spiffe://dev/agent/a", keyType: "ed25519" }],
  ["one of some 3 KiB", { dns: names(100) }],
  ["one of more than 64 KiB", { dns: names(3_300) }],
] as const)("a leaf is shown as it was presented, with its own fingerprint: %s", async (_, options) => {
  const client = ca.issue({ role: "client", ...options });
  const { fingerprint, chain } = await seen(client);
  expect(chain[0]?.equals(client.der)).toBe(true);
  const right = `sha256:${createHash("sha256").update(client.der).digest("hex")}`;
  expect(fingerprint).toBe(facts.name === "node" ? right : undefined);
});

test("without a certificate nothing is shown", async () => {
  expect(await seen(undefined)).toEqual({ fingerprint: undefined, chain: [] });
});
