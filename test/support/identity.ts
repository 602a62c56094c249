/** Identities for tests that need no certificate: what is not given is absent. */
import type { Identity } from "../../src/identity/identity.ts";

export function identityOf(names: Partial<Pick<Identity, "uri" | "dns" | "cn" | "fingerprint" | "twin" | "serial">>): Identity {
  const { uri, dns = [], cn, fingerprint = `sha256:${"0".repeat(64)}`, twin, serial = "01" } = names;
  const principal = uri ?? (dns[0] !== undefined ? `dns:${dns[0]}` : cn !== undefined ? `cn:${cn}` : fingerprint);
  return { principal, uri, dns, cn, fingerprint, twin, serial, issuer: "CN=test", notBefore: 0, notAfter: 0 };
}
