/** What the gateway runs by: the config file, read whole, judged whole, with every file it names read. load.ts makes it. */
import type { SocketAddress } from "../base/address.ts";
import type { LogLevel } from "../base/log.ts";
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
  /** Contents of the CRL files, PEM or DER. */
  readonly crl: readonly Uint8Array[];
}

export interface Config {
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
}

export const configDefaults = { maxMessageBytes: 1 << 20 } as const;
