/**
 * Patterns of rules: which clients, which targets. Parsed once; matching never backtracks and makes no regular expression of them.
 *
 * Clients:
 *  - `spiffe://domain/path`: that URI; a segment `*` stands for exactly one segment, `**` (only as the last) for one or more;
 *    the trust domain is always named whole.
 *  - `dns:NAME`: one of the DNS names; `dns:*.NAME`: exactly one label to the left of NAME. Case does not matter.
 *  - `sha256:HEX`: the certificate itself, 64 digits in any case, as one run or in pairs with colons.
 *  - `cn:NAME`: the one common name, exactly. Nothing else ever looks at a common name.
 *  - `*`: every verified identity that has a URI or a DNS name. Who has only a common name, or none, must be named (`cn:`, `sha256:`).
 * Targets: names of `A-Z a-z 0-9 . _ -`, in which `*` stands for any run of these characters, also an empty one.
 * Case matters but where said. What is not understood is refused with its place and the mend (PipegateError `config`).
 */
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";
import type { Identity } from "../identity/identity.ts";

export type ClientPattern = { readonly text: string } & (
  | { readonly kind: "any" }
  | { readonly kind: "spiffe"; readonly origin: string; readonly segments: readonly string[]; readonly rest: boolean }
  | { readonly kind: "dns"; readonly name: string; readonly wildcard: boolean }
  | { readonly kind: "sha256"; readonly fingerprint: string }
  | { readonly kind: "cn"; readonly cn: string }
);

export interface TargetPattern {
  readonly text: string;
  /** What stands between the `*`; one piece means an exact name. */
  readonly pieces: readonly string[];
}

const longest = { client: 2048, dns: 253, cn: 256, target: 255 } as const;
const segmentText = /^[A-Za-z0-9._-]+$/;
const labelText = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const targetCharacter = /^[A-Za-z0-9._-]$/;
/** A name that also stands alone in a log, a label and a shell. */
export const targetNamePattern: RegExp = /^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/;

interface Fault {
  /** Where in the text, 0 for the first character. */
  readonly at: number;
  readonly what: string;
  readonly next: string;
}

function fail(kind: "client" | "target", text: string, fault: Fault): never {
  const message = `${kind} pattern "${printable(text, 100)}", character ${fault.at + 1}: ${fault.what}`;
  throw new PipegateError("config", message, { next: fault.next });
}

/** Whether a target may have this name. */
export function isTargetName(text: string): boolean {
  return targetNamePattern.test(text);
}

/** Throws PipegateError `config`, with the place in `text` and the mend. */
export function parseClientPattern(text: string): ClientPattern {
  if (text.length > longest.client) {
    return fail("client", text, { at: longest.client, what: `longer than ${longest.client} characters`, next: "write a shorter one" });
  }
  if (text === "*") return { kind: "any", text };
  if (text.startsWith("spiffe://")) return parseSpiffe(text);
  if (text.startsWith("dns:")) return parseDns(text);
  if (text.startsWith("sha256:")) return parseFingerprint(text);
  if (text.startsWith("cn:")) return parseCommonName(text);
  return fail("client", text, { at: 0, what: "no kind of pattern starts like this", next: suggestKind(text) });
}

function suggestKind(text: string): string {
  const kind = /^(spiffe|dns|sha256|cn):/i.exec(text)?.[1]?.toLowerCase();
  if (kind === "spiffe") return "write spiffe:// in lower case and with two slashes";
  if (kind !== undefined) return `write ${kind}: in lower case`;
  if (text.toLowerCase() === "any" || text === "**") return "for every identity with a URI or DNS name write *";
  if (/^[0-9A-Fa-f:]{64,95}$/.test(text)) return `write sha256:${printable(text, 100)}`;
  if (/^[A-Za-z0-9*_-]+(\.[A-Za-z0-9_-]+)+$/.test(text) && text.length <= longest.dns) return `write dns:${text.toLowerCase()}`;
  return "write spiffe://domain/path, dns:NAME, sha256:HEX, cn:NAME or *";
}

function parseSpiffe(text: string): ClientPattern {
  const start = "spiffe://".length;
  const slash = text.indexOf("/", start);
  const end = slash < 0 ? text.length : slash;
  for (let at = start; at < end; at++) {
    if (/[a-z0-9._-]/.test(text.charAt(at))) continue;
    if (text[at] === "*")
      fail("client", text, { at, what: "the trust domain cannot be a pattern", next: "name it; one pattern for each trust domain" });
    fail("client", text, {
      at,
      what: "not a character of a trust domain",
      next: "use a-z, 0-9, dot, underscore and hyphen; capitals in lower case",
    });
  }
  if (end === start) fail("client", text, { at: start, what: "the trust domain is missing", next: "write spiffe://domain/path" });
  const segments: string[] = [];
  let rest = false;
  for (let at = end; at < text.length;) {
    const from = at + 1;
    const next = text.indexOf("/", from);
    at = next < 0 ? text.length : next;
    const segment = text.slice(from, at);
    if (segment === "**") {
      if (at < text.length) fail("client", text, { at: from, what: "** stands only at the end", next: "use * for each single segment" });
      rest = true;
    } else {
      if (segment !== "*") checkSegment(text, { from, segment });
      segments.push(segment);
    }
  }
  return { kind: "spiffe", text, origin: text.slice(0, end), segments, rest };
}

function checkSegment(text: string, { from, segment }: { readonly from: number; readonly segment: string }): void {
  if (segment === "") fail("client", text, { at: from, what: "an empty path segment", next: "remove the slash before it" });
  if (segment === "." || segment === "..")
    fail("client", text, { at: from, what: `a segment cannot be "${segment}"`, next: "write the path out" });
  const star = segment.indexOf("*");
  if (star >= 0) fail("client", text, { at: from + star, what: "* stands only for a whole segment", next: "use * alone between slashes" });
  for (let at = 0; at < segment.length; at++) {
    if (segmentText.test(segment.charAt(at))) continue;
    fail("client", text, {
      at: from + at,
      what: "not a character of a SPIFFE path",
      next: "use A-Z, a-z, 0-9, dot, underscore and hyphen",
    });
  }
}

function parseDns(text: string): ClientPattern {
  const start = "dns:".length;
  const wildcard = text.startsWith("*.", start);
  const from = wildcard ? start + 2 : start;
  const name = text.slice(from).toLowerCase();
  if (text.length - start > longest.dns)
    fail("client", text, { at: start + longest.dns, what: "a DNS name ends at 253 characters", next: "shorten it" });
  let at = from;
  for (const label of name.split(".")) {
    const star = label.indexOf("*");
    if (star >= 0) fail("client", text, { at: at + star, what: "* stands only for the whole first label", next: "write dns:*.NAME" });
    if (label === "") {
      const last = at === text.length && at > from;
      fail("client", text, {
        at: last ? at - 1 : at,
        what: "an empty label",
        next: last ? "leave out the last dot" : "write dns:NAME or dns:*.NAME",
      });
    }
    if (!labelText.test(label)) {
      fail("client", text, {
        at,
        what: "not a DNS label",
        next: "use letters, digits, underscore and inner hyphens, at most 63; other scripts as xn--",
      });
    }
    at += label.length + 1;
  }
  return { kind: "dns", text, name, wildcard };
}

function parseFingerprint(text: string): ClientPattern {
  const start = "sha256:".length;
  const spelt = text.slice(start);
  const colons = spelt.includes(":");
  const step = colons ? 3 : 2;
  for (let at = 0; at < spelt.length; at++) {
    if (colons && at % step === 2 ? spelt[at] === ":" : /[0-9A-Fa-f]/.test(spelt.charAt(at))) continue;
    const next = "write 64 digits in one run, or in pairs with a colon between all of them";
    fail("client", text, { at: start + at, what: colons ? "not pairs of hex digits with colons" : "not a hex digit", next });
  }
  const digits = spelt.replaceAll(":", "").toLowerCase();
  if (digits.length !== 64 || spelt.endsWith(":")) {
    const next = "take the whole fingerprint: openssl x509 -noout -fingerprint -sha256 -in FILE";
    fail("client", text, { at: text.length, what: `${digits.length} hex digits instead of 64`, next });
  }
  return { kind: "sha256", text, fingerprint: `sha256:${digits}` };
}

/**
 * An identity's `cn` was made printable, so different names may look alike there once they hold a backslash or were cut:
 * no pattern can say either, and such names match nothing.
 */
function parseCommonName(text: string): ClientPattern {
  const start = "cn:".length;
  const cn = text.slice(start);
  if (cn === "") fail("client", text, { at: start, what: "the common name is missing", next: "write cn:NAME" });
  if (cn.length > longest.cn)
    fail("client", text, { at: start + longest.cn, what: "longer than 256 characters", next: "name it by sha256:HEX" });
  if (cn !== cn.trim()) fail("client", text, { at: start, what: "a space before or after the name", next: "leave it out" });
  for (let at = 0; at < cn.length; at++) {
    const character = cn.charAt(at);
    if (character === "*")
      fail("client", text, { at: start + at, what: "a common name has no wildcards", next: "write one pattern for each name" });
    if (character === "\\") fail("client", text, { at: start + at, what: "a backslash cannot be matched", next: "name it by sha256:HEX" });
  }
  if (printable(cn) !== cn)
    fail("client", text, { at: start, what: "an invisible character", next: "write visible characters, or sha256:HEX" });
  return { kind: "cn", text, cn };
}

/** Throws PipegateError `config`, with the place in `text` and the mend. */
export function parseTargetPattern(text: string): TargetPattern {
  if (text === "") fail("target", text, { at: 0, what: "it is empty", next: "write the name of a target, or * for all" });
  if (text.length > longest.target)
    fail("target", text, { at: longest.target, what: "longer than 255 characters", next: "write a shorter one" });
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "*" && text[at + 1] === "*") fail("target", text, { at, what: "** says no more than *", next: "write one *" });
    if (text[at] !== "*" && !targetCharacter.test(text.charAt(at))) {
      fail("target", text, {
        at,
        what: "not a character of a target name",
        next: "use A-Z, a-z, 0-9, dot, underscore, hyphen, and * as a wildcard",
      });
    }
  }
  return { text, pieces: text.split("*") };
}

export function matchesClient(pattern: ClientPattern, identity: Identity): boolean {
  switch (pattern.kind) {
    case "any":
      return identity.uri !== undefined || identity.dns.length > 0;
    case "spiffe":
      return identity.uri !== undefined && matchesPath(pattern, identity.uri);
    case "dns":
      return identity.dns.some((name) => (pattern.wildcard ? isOneLabelLeftOf(pattern.name, name) : name === pattern.name));
    case "sha256":
      return identity.fingerprint === pattern.fingerprint;
    case "cn":
      return identity.cn === pattern.cn;
  }
}

function matchesPath(pattern: ClientPattern & { kind: "spiffe" }, uri: string): boolean {
  if (!uri.startsWith(pattern.origin)) return false;
  let at = pattern.origin.length;
  for (const wanted of pattern.segments) {
    if (uri[at] !== "/") return false;
    const from = at + 1;
    at = segmentEnd(uri, from);
    if (wanted === "*" ? !isSegment(uri.slice(from, at)) : at - from !== wanted.length || !uri.startsWith(wanted, from)) return false;
  }
  if (!pattern.rest) return at === uri.length;
  if (uri[at] !== "/") return false;
  while (at < uri.length) {
    const from = at + 1;
    at = segmentEnd(uri, from);
    if (!isSegment(uri.slice(from, at))) return false;
  }
  return true;
}

function segmentEnd(uri: string, from: number): number {
  const slash = uri.indexOf("/", from);
  return slash < 0 ? uri.length : slash;
}

/** Whether a wildcard may stand for it: whatever is no plain segment matches nothing, whoever let it in. */
function isSegment(text: string): boolean {
  return segmentText.test(text) && text !== "." && text !== "..";
}

function isOneLabelLeftOf(parent: string, name: string): boolean {
  const cut = name.length - parent.length - 1;
  return cut > 0 && name[cut] === "." && name.endsWith(parent) && labelText.test(name.slice(0, cut));
}

/** Every piece is taken at its first place after the one before: if any placing fits, this one does, so nothing is tried twice. */
export function matchesTarget(pattern: TargetPattern, name: string): boolean {
  const { pieces } = pattern;
  const first = pieces[0] as string;
  if (pieces.length === 1) return name === first;
  const last = pieces[pieces.length - 1] as string;
  if (!isTargetName(name) || name.length < first.length + last.length) return false;
  if (!name.startsWith(first) || !name.endsWith(last)) return false;
  const end = name.length - last.length;
  let at = first.length;
  for (let index = 1; index < pieces.length - 1; index++) {
    const piece = pieces[index] as string;
    const found = name.indexOf(piece, at);
    if (found < 0 || found + piece.length > end) return false;
    at = found + piece.length;
  }
  return true;
}
