/**
 * Addresses as people write them: `host:port`, `[v6]:port`, `unix:PATH`. A parser of our own, because those of the runtimes guess
 * (`127.1`, `0x7f.1`, port 0 for `[::1]:80`). Promises: one meaning a text, or it is refused with the form that was likely meant.
 * Leaves to others: names are resolved when they are dialled, paths are made absolute by whoever knows the folder.
 */
import type { Reading } from "./reading.ts";

export interface TcpAddress {
  readonly kind: "tcp";
  /** A name or an IP address, v6 without brackets. */
  readonly host: string;
  readonly port: number;
}

export interface UnixAddress {
  readonly kind: "unix";
  readonly path: string;
}

export type SocketAddress = TcpAddress | UnixAddress;

/** What the operating system takes as the path of a unix socket, in bytes. */
export const MAX_SOCKET_PATH: number = process.platform === "darwin" ? 103 : 107;

/** Where to listen. Port 0 means any that is free. */
export function parseListen(text: string): Reading<SocketAddress> {
  return parseUnix(text) ?? parseAddress(text, { least: 0 });
}

/** What to dial. */
export function parseDial(text: string): Reading<SocketAddress> {
  return parseUnix(text) ?? parseTcp(text);
}

/** What to dial over TCP: `host:port`. */
export function parseTcp(text: string): Reading<TcpAddress> {
  return parseAddress(text, { least: 1 });
}

/** Undefined: it does not start as the address of a unix socket does. */
function parseUnix(text: string): Reading<UnixAddress> | undefined {
  if (!text.startsWith("unix:")) return undefined;
  const path = parseSocketPath(text.slice("unix:".length));
  return path.ok ? { ok: true, value: { kind: "unix", path: path.value } } : path;
}

/** The path of a unix socket, without `unix:`. */
export function parseSocketPath(path: string): Reading<string> {
  if (path === "") return { ok: false, note: "the path is missing, as in unix:/run/pipegate.sock" };
  if (/[\u0000-\u001f\u007f]/.test(path)) return { ok: false, note: "a path has no control characters" };
  if (path.startsWith("//")) return { ok: false, note: `did you mean unix:${path.replace(/^\/+/, "/")}` };
  if (!fitsSocket(path)) return { ok: false, note: `a socket's path ends at ${MAX_SOCKET_PATH} bytes` };
  return { ok: true, value: path };
}

/** Whether the path of a unix socket is short enough to be one. */
export function fitsSocket(path: string): boolean {
  return new TextEncoder().encode(path).length <= MAX_SOCKET_PATH;
}

function parseAddress(text: string, { least }: { readonly least: 0 | 1 }): Reading<TcpAddress> {
  const [, six, name, digits] = /^(?:\[([^\]]*)\]|([^\s:[\]]*)):([0-9]{1,5})$/.exec(text) ?? [];
  if (digits === undefined) return { ok: false, ...noteFor(text) };
  const port = Number(digits);
  if (port > 65_535 || port < least) return { ok: false, note: `ports go from ${least} to 65535` };
  if (digits.length > 1 && digits.startsWith("0")) return { ok: false, ...guess(`${text.slice(0, -digits.length)}${port}`) };
  if (six !== undefined) {
    const host = parseV6(six);
    return host === undefined
      ? { ok: false, note: `${printed(six)} is not an IPv6 address` }
      : { ok: true, value: { kind: "tcp", host, port } };
  }
  if (name === "" || name === "*") return { ok: false, note: `did you mean 0.0.0.0:${port} or [::]:${port}` };
  const fault = hostFault(name!);
  return fault === undefined ? { ok: true, value: { kind: "tcp", host: name!.toLowerCase(), port } } : { ok: false, note: fault };
}

/** An IPv6 address in its shortest form, or undefined. */
export function parseV6(text: string): string | undefined {
  const all = v6Groups(text);
  // The WHATWG serializer compresses as RFC 5952 says.
  return all && new URL(`http://[${all.map((group) => group.toString(16)).join(":")}]`).hostname.slice(1, -1);
}

/** The 4 or 16 bytes of an address; of an IPv4 address that came as IPv6 (`::ffff:10.0.0.1`), its own 4. Undefined: it is none. */
export function addressBytes(text: string): readonly number[] | undefined {
  const four = parseV4(text);
  if (four !== undefined) return four;
  const bytes = v6Groups(text)?.flatMap((group) => [group >> 8, group & 0xff]);
  const mapped = bytes?.every((byte, index) => index > 11 || byte === (index < 10 ? 0 : 0xff));
  return mapped ? bytes!.slice(12) : bytes;
}

/** The eight 16-bit groups. */
function v6Groups(text: string): readonly number[] | undefined {
  if (!/^[0-9A-Fa-f:.]{2,45}$/.test(text) || !text.includes(":")) return undefined;
  const [head, tail, more] = text.split("::");
  if (more !== undefined) return undefined;
  const left = groups(head!, { last: tail === undefined });
  const right = tail === undefined ? [] : groups(tail, { last: true });
  if (left === undefined || right === undefined) return undefined;
  const gap = 8 - left.length - right.length;
  if (tail === undefined ? gap !== 0 : gap < 1) return undefined;
  return [...left, ...Array<number>(gap).fill(0), ...right];
}

/** 16-bit groups between colons; the last of the address may be an IPv4 address, which is two. */
function groups(text: string, { last }: { readonly last: boolean }): number[] | undefined {
  if (text === "") return [];
  const found: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    const four = last && index === parts.length - 1 ? parseV4(part) : undefined;
    if (four !== undefined) found.push((four[0]! << 8) | four[1]!, (four[2]! << 8) | four[3]!);
    else if (/^[0-9A-Fa-f]{1,4}$/.test(part)) found.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return found;
}

function parseV4(text: string): number[] | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9][0-9]{0,2})$/.test(part))) return undefined;
  const numbers = parts.map(Number);
  return numbers.every((number) => number <= 255) ? numbers : undefined;
}

/** What is wrong with a host name or IPv4 address; undefined when nothing is. */
export function hostFault(host: string): string | undefined {
  if (parseV4(host) !== undefined) return undefined;
  if (host.length > 253) return "a host name ends at 253 characters";
  if (/^(?:0[xX][0-9A-Fa-f]*|[0-9]+)$/.test(host.split(".").at(-1)!)) return "an IPv4 address is four numbers from 0 to 255";
  if (host.endsWith(".")) return `did you mean ${printed(host.slice(0, -1))}, without the last dot`;
  if (host.split(".").every((label) => /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label))) return undefined;
  return `${printed(host)} is not a host name`;
}

function noteFor(text: string): { readonly note?: string } {
  const rest = /^[a-z][a-z0-9+.-]*:\/\/([^/]+)\/?$/i.exec(text)?.[1];
  if (rest !== undefined) return guess(rest);
  if (/^[0-9]{1,5}$/.test(text)) return guess(`127.0.0.1:${text}`);
  if (text.startsWith("/")) return { note: `did you mean unix:${printed(text)}` };
  const [, six, port] = /^([0-9A-Fa-f:.]+):([0-9]{1,5})$/.exec(text) ?? [];
  if (six !== undefined && parseV6(six) !== undefined) return guess(`[${six}]:${port}`);
  if (parseV6(text.replace(/^\[|\]$/g, "")) !== undefined || (text !== "" && hostFault(text) === undefined))
    return { note: "the port is missing" };
  return {};
}

/** Only what would be taken is proposed. */
function guess(mended: string): { readonly note?: string } {
  return parseAddress(mended, { least: 1 }).ok ? { note: `did you mean ${printed(mended)}` } : {};
}

function printed(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

/** As it is written: `[::1]:80`, `unix:/run/x.sock`. */
export function addressText(address: SocketAddress): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Whether two listeners could not both have their addresses. A wildcard overlaps every address of its port (`[::]` those of IPv4, too). */
export function collide(a: SocketAddress, b: SocketAddress): boolean {
  if (a.kind === "unix" || b.kind === "unix") return a.kind === "unix" && b.kind === "unix" && a.path === b.path;
  if (a.port !== b.port || a.port === 0) return false;
  if (a.host === b.host || a.host === "::" || b.host === "::") return true;
  const six = (host: string): boolean => host.includes(":");
  return (a.host === "0.0.0.0" && !six(b.host)) || (b.host === "0.0.0.0" && !six(a.host));
}
