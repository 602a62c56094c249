/** What a target is: a named back end that can be opened as a channel. Each kind has a file of its own; kinds.ts picks. */
import type { TcpAddress } from "../base/address.ts";
import type { Channel } from "../base/channel.ts";
import type { PipegateError } from "../base/error.ts";
import type { Identity } from "../identity/identity.ts";
import type { Dialling } from "../runtime/dial.ts";

/** How messages travel to a byte-stream back end: length-prefixed big-endian (u32, u16), LEB128 length, one a line, or boundaries given up. */
export type Framing = PrefixFraming | "lines" | "bytes";
/** The length stands before the message. */
export type PrefixFraming = "u32" | "u16" | "varint";

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
}

/** One of the two, once, perhaps before `open` has returned; none after `cancel`. */
export interface OpenEvents {
  /** `backEnd`: which one was reached, for the log: `127.0.0.1:5432`, `unix:/run/x.sock`, `echo`. */
  opened(channel: Channel, backEnd: string): void;
  /** `target_unavailable` or `target_timeout`. */
  failed(error: PipegateError): void;
}

export interface Target {
  readonly name: string;
  open(request: OpenRequest, events: OpenEvents): Dialling;
}
