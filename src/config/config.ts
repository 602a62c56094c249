/** What the gateway runs by: the config file, read whole, judged whole, with every file it names read. load.ts makes it. */
import type { SocketAddress } from "../base/address.ts";
import type { Network } from "../base/network.ts";
import type { LogLevel } from "../base/log.ts";
import type { Trust } from "../identity/trust.ts";
import type { Rule } from "../policy/rule.ts";
import type { TargetOptions } from "../target/target.ts";
import type { Credentials } from "../tls/listener-options.ts";

export interface ListenerConfig {
  readonly listen: SocketAddress;
  /** The target of clients that come without pipegate/1 (or by `serverNames`); without it they are refused. */
  readonly target?: string;
  /** Server name (SNI, lower case) to target, for raw clients; first choice before `target`. */
  readonly serverNames: ReadonlyMap<string, string>;
  /** ALPN names that raw clients may ask for, such as `postgresql` or `http/1.1`. */
  readonly alpn: readonly string[];
}

export interface TrustConfig {
  /** PEM texts of the CA files, each with at least one CA certificate. */
  readonly ca: readonly string[];
  /** What each of them is called in messages: its file. */
  readonly caFiles: readonly string[];
  /** Contents of the CRL files, PEM or DER. */
  readonly crl: readonly Uint8Array[];
  /** What came of both. */
  readonly built: Trust;
  /** Removed trust ends live pipes within this time, ms. */
  readonly maxStalenessMs: number;
  /** Clients of a CA whose revocation list is out of date. */
  readonly onExpired: "refuse" | "warn";
  /** Entries as policy/deny.ts reads them. */
  readonly deny: readonly string[];
}

/** What an address pays for failed handshakes (tls/penalties.ts). */
export interface PenaltiesConfig {
  readonly mode: "enforce" | "off";
  readonly thresholdMs: number;
  readonly longestMs: number;
  readonly exempt: readonly Network[];
}

export interface AuditConfig {
  readonly file: string;
  readonly maxBytes: number;
  /** Full files that are kept beside the current one. */
  readonly keep: number;
  readonly onFailure: "continue" | "refuse";
}

/**
 * Of a gateway that runs, for the loading of its next config: it was judged when it came into force. What of it has expired since is good for
 * nobody any more, and must not keep a revocation out.
 */
export interface InForce {
  readonly trust: Trust;
  readonly credentials: Credentials;
  /** The same holds of what back ends are shown, and are believed by. */
  readonly targets: ReadonlyMap<string, TargetOptions>;
}

export interface Config {
  /** As it was named; absent: it came from no file. */
  readonly file?: string;
  readonly listeners: readonly ListenerConfig[];
  readonly credentials: Credentials;
  readonly trust: TrustConfig;
  readonly targets: ReadonlyMap<string, TargetOptions>;
  readonly rules: readonly Rule[];
  readonly admin: { readonly listen: string } | undefined;
  readonly log: { readonly level: LogLevel; readonly format: "json" | "pretty" | "auto" };
  /** Largest message in bytes. */
  readonly maxMessageBytes: number;
  /** What the config says that deserves a word but is no error (a world-readable CA, a shadowed rule). */
  readonly warnings: readonly string[];
  readonly selfTest: "required" | "skip";
  readonly penalties: PenaltiesConfig;
  readonly audit: AuditConfig | undefined;
  /** Threads that share the listeners. 1: the one that runs the gateway. */
  readonly workers: number;
}

/** More threads than any machine has use for cost memory and gain nothing. */
export const maxWorkers = 64;

export const configDefaults = {
  maxMessageBytes: 1 << 20,
  maxStalenessMs: 5_000,
  onExpired: "refuse",
  selfTest: "required",
  penalties: {
    mode: "enforce",
    thresholdMs: 15_000,
    longestMs: 600_000,
    exempt: [
      { bytes: [127, 0, 0, 0], prefix: 8 },
      { bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], prefix: 128 },
    ],
  },
  audit: { maxBytes: 100 << 20, keep: 10, onFailure: "continue" },
  workers: 1,
} as const;
