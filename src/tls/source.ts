/** Where a connection comes from, before anybody knows who it is: the key by which strangers are counted. */
import type { Socket } from "node:net";

export interface Source {
  /** For the log: `127.0.0.1:50000`, `[2001:db8::1]:50000`, `unix`. */
  readonly text: string;
  /** What counts as one source: an IPv4 address, an IPv6 /64, all of a unix socket. */
  readonly key: string;
  /** Without its zone. Undefined for a unix socket. */
  readonly address: string | undefined;
}

/** Undefined: whoever it was has left already. */
export function sourceOf(
  { remoteAddress, remotePort }: Pick<Socket, "remoteAddress" | "remotePort">,
  kind: "tcp" | "unix",
): Source | undefined {
  if (kind === "unix") return { text: "unix", key: "unix", address: undefined };
  if (remoteAddress === undefined || remoteAddress === "") return undefined;
  const zoned = remoteAddress.replace(/^::ffff:(?=\d+\.)/i, "");
  const address = zoned.split("%")[0] as string;
  if (!address.includes(":")) return { text: `${address}:${remotePort}`, key: address, address };
  return { text: `[${zoned}]:${remotePort}`, key: prefixOf(address), address };
}

/** The /64 of an IPv6 address, as four groups. */
function prefixOf(address: string): string {
  const [head = "", tail] = address.split("::");
  const front = head === "" ? [] : head.split(":");
  const back = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - front.length - back.length);
  const groups = [...front, ...Array.from({ length: zeros }, () => "0"), ...back];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}
