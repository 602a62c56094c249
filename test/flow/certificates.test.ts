import { Buffer } from "node:buffer";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { connect } from "../../src/mod.ts";
import { certificateCases } from "../support/certificate-cases.ts";
import { startGateway, trustIn } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";
import { opensslClient } from "../support/openssl-client.ts";

test("each certificate that is refused is one line, one count and nothing that is left; others go on meanwhile", async () => {
  const ca = createTestCa();
  const { cases, revoked } = certificateCases(ca);
  const crl = [Buffer.from(ca.crl({ revoked: [revoked.serial] }).pem)];
  await using setup = await startGateway({ ca, config: { trust: trustIn({ ca: [ca.certificate], crl }) } });
  const { certificate, key } = ca.client("alice");
  const client = await connect({ gateway: `127.0.0.1:${setup.port}`, certificate, key, ca: ca.certificate });
  const pipe = await client.open("echo");
  const folder = await mkdtemp(join(tmpdir(), "pipegate-cases-"));
  const present = async ({ name, chain }: (typeof cases)[number]): Promise<void> => {
    const stranger = opensslClient(ca.certificate, chain[0]);
    const file = join(folder, `${name.replaceAll(/\W/gu, "-")}.pem`);
    await writeFile(file, chain.map((one) => one.certificate).join(""));
    await stranger.run(setup.port, "", ["-alpn", "pipegate/1", "-cipher", "DEFAULT:@SECLEVEL=0", "-cert_chain", file]);
    stranger.remove();
  };
  const refused = cases.filter(({ verdict }) => verdict !== "in");
  for (let at = 0; at < refused.length; at += 8) await Promise.all(refused.slice(at, at + 8).map(present));
  await rm(folder, { recursive: true });
  const lines = setup.lines("refused");
  expect(lines.length).toBe(refused.length);
  const counts: Record<string, number> = {};
  for (const { reason } of lines) counts[String(reason)] = (counts[String(reason)] ?? 0) + 1;
  expect(setup.gateway.status()).toMatchObject({ connections: 1, connectionsTotal: 1, refusals: counts, pipes: [{ target: "echo" }] });
  await pipe.close();
  await client.close();
}, 60_000);
