/** The name that a client asked for in its hello (SNI), and what may be one. */
import type { TLSSocket } from "node:tls";

/** In lower case. Undefined: none, or an address, which is no name. */
export function askedName(socket: TLSSocket): string | undefined {
  const name: unknown = (socket as { readonly servername?: unknown }).servername;
  return typeof name === "string" && name !== "" && !isAddress(name) ? name.toLowerCase() : undefined;
}

const isAddress = (name: string): boolean => /^\d+(?:\.\d+){3}$/.test(name) || name.includes(":");

const dnsName = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/** Rustls takes no other either. */
export function isServerName(name: string): boolean {
  return dnsName.test(name);
}
