/** A folder with a config that `check` and `explain` are asked about, and what it names: CA, list of revoked certificates, clients' files. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createTestCa } from "./mint.ts";
import { createWorkplace, type Ended, type Workplace } from "./run-command.ts";

export const ca = createTestCa({ cn: "fleet CA" });
export const alice = ca.client("alice");
const mallory = ca.client("mallory"); // revoked

export const config = `listeners:
  - listen: 127.0.0.1:8443
  - listen: unix:raw.sock
    target: echo
identity: { certificate: gateway.pem, key: gateway-key.pem }
trust: { ca: [ca.pem], crl: [crl.pem] }
targets:
  echo: { builtin: echo }
  db: { tcp: [10.0.0.5:5432, "[::1]:5432"] }
rules:
  - clients: ["dns:*.ci.example"]
    targets: ["*"]
  - clients: ["spiffe://dev/agent/*"]
    targets: [ec*]
    limits: { opens: 5/s burst 9, bytes: 1MiB/s, pipes: 3, connections: 2 }
`;

export interface CheckedPlace extends Workplace {
  write(name: string, text: string): Promise<void>;
}

/** With the config in pipegate.yaml. */
export async function createCheckedPlace(): Promise<CheckedPlace> {
  const place = await createWorkplace(ca.certificate, {
    gateway: ca.gateway(),
    alice,
    mallory,
    stranger: createTestCa().client("alice"),
  });
  const write = (name: string, text: string): Promise<void> => writeFile(join(place.folder, name), text);
  await write("crl.pem", ca.crl({ revoked: [mallory.serial] }).pem);
  await write("pipegate.yaml", config);
  return { ...place, write };
}

export function textOf({ out }: Ended): string {
  return out.toString("utf8");
}

export function jsonOf(ended: Ended): Record<string, unknown> {
  return JSON.parse(textOf(ended)) as Record<string, unknown>;
}
