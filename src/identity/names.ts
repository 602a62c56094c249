/**
 * From a leaf certificate to the Identity: which of its names are believed, and as what.
 * Promises: names come from DER bytes only; a name that could be read in two ways refuses the certificate, it is never cleaned up.
 * `cn` is undefined unless there is exactly one common name, alone in its RDN, of plain characters.
 */
import type { Buffer } from "node:buffer";
import { printable } from "../base/text.ts";
import { fingerprintOf, type Certificate } from "./certificate.ts";
import { soleCommonName, stringText } from "./distinguished-name.ts";
import type { Identity } from "./identity.ts";
import { twinOf } from "./twin.ts";

/** Context tags of the names that are looked at; the others (an account of some directory, say) name nobody here. */
const Kind = { MAIL: 1, DNS: 2, URI: 6, IP: 7 } as const;
const MAX_URI = 2048;
const MAX_COMMON_NAME = 64;

/** A sentence about what is wrong with the names, or the identity. `notAfter`: the earliest of the chain. */
export function identityOf(leaf: Certificate, notAfter: number): Identity | string {
  const uris: string[] = [];
  const dns: string[] = [];
  for (const { kind, bytes } of leaf.names) {
    if (kind === Kind.IP && bytes.length !== 4 && bytes.length !== 16) return "a malformed address";
    if (kind !== Kind.MAIL && kind !== Kind.DNS && kind !== Kind.URI) continue;
    const text = plainText(bytes);
    if (text === undefined) return "a name that is empty or has characters other than plain ASCII";
    const fault = kind === Kind.URI ? uriFault(text) : kind === Kind.DNS ? dnsFault(text) : undefined;
    if (fault !== undefined) return fault;
    if (kind === Kind.URI) uris.push(text);
    if (kind === Kind.DNS) dns.push(text.toLowerCase());
  }
  if (uris.length > 1) return "more than one URI";
  const fingerprint = fingerprintOf(leaf.der);
  const uri = uris[0];
  const cn = commonName(leaf);
  const principal = uri ?? (dns[0] !== undefined ? `dns:${dns[0]}` : cn !== undefined ? `cn:${cn}` : fingerprint);
  return {
    principal,
    uri,
    dns,
    cn,
    fingerprint,
    twin: twinOf(leaf),
    serial: leaf.serial,
    issuer: printable(leaf.issuerText),
    notBefore: leaf.notBefore,
    notAfter,
  };
}

/** Printable ASCII without space, quotes, commas and what else could end a name in a list of names; undefined otherwise. */
function plainText(bytes: Buffer): string | undefined {
  const text = bytes.toString("latin1");
  return /^[!#$%&()*+\-./0-9:;=?@A-Z[\]^_a-z{|}~]+$/.test(text) ? text : undefined;
}

function uriFault(uri: string): string | undefined {
  if (uri.length > MAX_URI) return `a URI of more than ${MAX_URI} bytes`;
  if (!/^[a-z][a-z0-9+.-]*:./.test(uri)) return "a URI without a scheme in lower case";
  if (uri.split("/").some((segment) => segment === "." || segment === "..")) return "a URI with a relative segment";
  if (!uri.startsWith("spiffe:")) return undefined;
  return /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/[A-Za-z0-9._-]+)*$/.test(uri) ? undefined : "a malformed SPIFFE ID";
}

function dnsFault(name: string): string | undefined {
  if (name.startsWith("*.")) return "a wildcard, which names nobody";
  const label = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;
  return name.length <= 253 && name.split(".").every((part) => label.test(part)) ? undefined : "a malformed DNS name";
}

function commonName(leaf: Certificate): string | undefined {
  const only = soleCommonName(leaf.subject);
  const text = only && stringText(only);
  if (text === undefined || text.length === 0 || text.length > MAX_COMMON_NAME) return undefined;
  return text.trim() === text && printable(text) === text ? text : undefined;
}
