/**
 * The names that a certificate is asked for: `spiffe://domain/path`, `dns:NAME`, `ip:ADDRESS`, `cn:NAME`, and for gateways bare hosts
 * and addresses. Promises: what passes can be read in one way only, by us and by others; the rest is refused with the mend
 * (PipegateError `usage`). Spelt as the client patterns of rules are, so that one can be copied to the other.
 */
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";

/** What a certificate is for. gateway: TLS server; client and agent: TLS client. */
export type Role = "gateway" | "client" | "agent";
export const roles: readonly Role[] = ["gateway", "client", "agent"];

/** Throws PipegateError `usage`. */
export function parseRole(text: string): Role {
  const known = roles.find((role) => role === text);
  if (known !== undefined) return known;
  throw new PipegateError("usage", `"${printable(text, 40)}" is no role`, { next: `write one of ${roles.join(", ")}` });
}

export interface Names {
  /** SPIFFE ID; at most one, as the gateway refuses two. */
  readonly uri?: string;
  /** Lower case. */
  readonly dns: readonly string[];
  /** As the WHATWG URL standard writes them: `127.0.0.1`, `2001:db8::1`. */
  readonly ip: readonly string[];
  readonly cn?: string;
}

const longest = { uri: 2048, dns: 253, cn: 64, names: 100 } as const;
const labelText = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

function refuse(text: string, what: string, next: string): never {
  throw new PipegateError("usage", `the name "${printable(text, 100)}" ${what}`, { next });
}

/** Throws PipegateError `usage`. */
export function parseNames(words: readonly string[], { role }: { readonly role: Role }): Names {
  if (words.length > longest.names)
    throw new PipegateError("usage", `more than ${longest.names} names`, { next: "issue several certificates" });
  const names: { uri?: string; dns: string[]; ip: string[]; cn?: string } = { dns: [], ip: [] };
  for (const word of words) {
    const { kind, value } = parseName(word, role);
    if (kind === "dns" || kind === "ip") {
      if (!names[kind].includes(value)) names[kind].push(value);
    } else if (names[kind] === undefined) names[kind] = value;
    else refuse(word, `is a second ${kind === "uri" ? "URI" : "common name"}`, "issue a certificate for each");
  }
  if (role === "gateway" && names.dns.length + names.ip.length === 0) {
    throw new PipegateError("usage", "a gateway needs the host names or addresses by which clients reach it", {
      next: "name them: pipegate ca issue --role gateway gw.example 10.0.0.7",
    });
  }
  if (words.length === 0) {
    throw new PipegateError("usage", "no name is given", { next: "name who it is for: pipegate ca issue spiffe://dev/agent/alice" });
  }
  return names;
}

type Parsed = { readonly kind: "uri" | "dns" | "ip" | "cn"; readonly value: string };

function parseName(word: string, role: Role): Parsed {
  const [, prefix, rest = ""] = /^(uri|dns|ip|cn):(.*)$/su.exec(word) ?? [];
  if (word.startsWith("spiffe:")) return { kind: "uri", value: parseSpiffeId(word) };
  if (prefix === "uri") return { kind: "uri", value: parseSpiffeId(rest) };
  if (prefix === "dns") return { kind: "dns", value: parseDnsName(rest) };
  if (prefix === "cn") return { kind: "cn", value: parseCommonName(rest) };
  if (prefix === "ip" && role !== "gateway")
    refuse(word, "is an address, which says nothing about a client", "write spiffe://, dns: or cn:");
  if (prefix === "ip")
    return { kind: "ip", value: parseAddress(rest) ?? refuse(word, "is no IP address", "write ip:10.0.0.7 or ip:fd00::7") };
  if (role !== "gateway") {
    const short = /^[A-Za-z0-9._-]{1,64}$/u.test(word) ? word : "alice";
    return refuse(word, "does not say of which kind it is", `write spiffe://dev/agent/${short}, dns:${short.toLowerCase()} or cn:${short}`);
  }
  const address = parseAddress(word);
  return address === undefined ? { kind: "dns", value: parseDnsName(word) } : { kind: "ip", value: address };
}

/** The grammar of SPIFFE IDs, with a path: an ID without one is a trust domain's, not a workload's. */
export function parseSpiffeId(text: string): string {
  if (text.length > longest.uri) refuse(text, `is longer than ${longest.uri} characters`, "write a shorter one");
  const [, domain, path] = /^spiffe:\/\/([^/]*)(.*)$/su.exec(text) ?? refuse(text, "is no SPIFFE ID", "write spiffe://domain/path");
  if (!/^[a-z0-9._-]{1,255}$/u.test(domain!)) {
    refuse(text, "has a trust domain that is not 1 to 255 of a-z 0-9 . _ -", "write it like spiffe://dev/agent/alice");
  }
  if (path === "") refuse(text, "has no path", `write it like ${printable(text, 100)}/agent/alice`);
  if (domain === "." || domain === "..") refuse(text, "has a relative trust domain", "write it like spiffe://dev/agent/alice");
  for (const segment of path!.slice(1).split("/")) {
    if (segment === "") refuse(text, "has an empty segment", "write single slashes and none at the end");
    if (segment === "." || segment === "..") refuse(text, "has a relative segment", "write the path that is meant");
    if (!/^[A-Za-z0-9._-]+$/u.test(segment)) refuse(text, "has a segment with other characters than A-Z a-z 0-9 . _ -", "leave them out");
  }
  return text;
}

/** In lower case. */
export function parseDnsName(text: string): string {
  const name = text.toLowerCase();
  if (name.length > longest.dns) refuse(text, `is longer than ${longest.dns} characters`, "write a shorter one");
  if (/[^\p{ASCII}]/u.test(text)) refuse(text, "is not plain ASCII", "write its xn-- form");
  if (name.includes("*")) refuse(text, "is a wildcard, which names nobody", "name each host");
  if (name.endsWith(".")) refuse(text, "ends with a dot", "leave it out");
  const labels = name.split(".");
  if (!labels.every((label) => labelText.test(label))) refuse(text, "is no DNS name", "write labels of a-z 0-9 - _ with dots between");
  if (/^(?:\d+|0x[0-9a-f]*)$/u.test(labels.at(-1)!)) refuse(text, "ends like an address", "write an address whole, such as ip:10.0.0.7");
  return name;
}

/** IPv4 in four decimal parts or IPv6 without a zone, in the canonical spelling; undefined for anything else. */
export function parseAddress(text: string): string | undefined {
  const four = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/u;
  if (four.test(text)) return text;
  if (!/^[0-9a-f:.]{2,45}$/iu.test(text) || !text.includes(":")) return undefined;
  try {
    return new URL(`http://[${text}]/`).hostname.slice(1, -1);
  } catch {
    return undefined;
  }
}

/** Up to 64 characters that can be seen, with no space at either end. */
export function parseCommonName(text: string): string {
  if (text === "" || text.length > longest.cn) refuse(text, `is not 1 to ${longest.cn} characters long`, "write cn:NAME");
  if (text.trim() !== text || printable(text) !== text) refuse(text, "has characters that cannot be seen", "leave them out");
  return text;
}

/** The names as `list` and rules write them: the principal first. */
export function nameTexts({ uri, dns, ip, cn }: Names): string[] {
  const addresses = ip.map((text) => `ip:${text}`);
  return [
    ...(uri === undefined ? [] : [uri]),
    ...dns.map((text) => `dns:${text}`),
    ...addresses,
    ...(cn === undefined ? [] : [`cn:${cn}`]),
  ];
}
