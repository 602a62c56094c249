/** What a target is: a named back end that can be opened as a channel. Each kind has a file of its own; kinds.ts picks. */
import type { TcpAddress } from "../base/address.ts";
import type { Channel } from "../base/channel.ts";
import type { Identity } from "../identity/identity.ts";

/** How messages travel to a byte-stream back end: length-prefixed big-endian (u32, u16), LEB128 length, one a line, or boundaries given up. */
export type Framing = "u32" | "u16" | "varint" | "lines" | "bytes";

/** Defaults that a target's options fall back to. */
export const targetDefaults = { framing: "u32", dialTimeoutMs: 5_000 } as const;

interface StreamTarget {
  readonly framing: Framing;
  /** For all addresses together. */
  readonly dialTimeoutMs: number;
}

export type TargetOptions =
  | { readonly kind: "builtin"; readonly builtin: "echo" }
  | ({ readonly kind: "tcp"; readonly addresses: readonly TcpAddress[] } & StreamTarget)
  | ({ readonly kind: "unix"; readonly path: string } & StreamTarget)
  | ({
      readonly kind: "tls";
      readonly addresses: readonly TcpAddress[];
      /** PEM texts, read by the config. Empty: the runtime's public roots. */
      readonly ca: readonly string[];
      /** Ours, PEM, when the back end asks for a client certificate. */
      readonly certificate?: string;
      readonly key?: string;
      /** Default: the address's host. */
      readonly serverName?: string;
    } & StreamTarget);

export interface OpenRequest {
  readonly messages: boolean;
  readonly maxMessageBytes: number;
  readonly identity: Identity;
  /** Aborted when the opener went away: give up dialling. */
  readonly signal: AbortSignal;
}

export interface Opened {
  readonly channel: Channel;
  /** Which back end was reached, for the log: `127.0.0.1:5432`, `unix:/run/x.sock`, `echo`. */
  readonly backEnd: string;
}

export interface Target {
  readonly name: string;
  /** Rejects with a PipegateError: target_unavailable, target_timeout, or cancelled when `signal` fired. */
  open(request: OpenRequest): Promise<Opened>;
}
