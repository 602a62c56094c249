/**
 * Where this machine reaches what it listens on itself, and from which port. Promises: for all addresses one of the loopback that there is:
 * where IPv6 is switched off (many containers), `::` still listens, for IPv4. Leaves to others: to dial it, that nobody else listens there,
 * and that the port is free.
 */
import { networkInterfaces } from "node:os";

type Interfaces = Readonly<Partial<Record<string, readonly { readonly address: string }[]>>>;

/** `interfaces`: those of this machine. */
export function nearEnd(host: string, interfaces: () => Interfaces = networkInterfaces): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host !== "::") return host;
  const has = (address: string): boolean => Object.values(interfaces()).some((all) => all?.some((one) => one.address === address));
  return !has("::1") && has("127.0.0.1") ? "127.0.0.1" : "::1";
}

/** Some ports that any user may have, and that systems give out themselves. */
const FIRST_PORT = 32_768;
const PORTS = 28_000;

/** A port to dial from, chosen here: what the system would choose is known only after the other side has accepted. */
export function somePort(): number {
  return FIRST_PORT + Math.floor(Math.random() * PORTS);
}
