/** The gateway's address as the user writes it: `host:port`, `[v6]:port` or `unix:/path`. */
import { PipegateError } from "../base/error.ts";
import type { DialAddress } from "../runtime/tls-client.ts";

/** Throws a PipegateError `usage` that shows the right form. */
export function parseGateway(text: string): DialAddress {
  if (text.startsWith("unix:") && text.length > 5) return { kind: "unix", path: text.slice(5) };
  const [, six, name, digits] = /^(?:\[([0-9a-f:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/iu.exec(text) ?? [];
  const host = six ?? name;
  const port = Number(digits);
  if (host === undefined || port < 1 || port > 65_535 || (six !== undefined && !URL.canParse(`http://[${six}]`))) {
    throw new PipegateError("usage", `${text === "" ? "an empty text" : text} is not the address of a gateway`, {
      next: "write host:port, such as gw.example:8443, or unix:/path",
    });
  }
  return { kind: "tcp", host, port };
}
