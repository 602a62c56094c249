/** A real gateway in this process, on loopback, with fresh certificates: for flow tests. Close it with `await using` or `close()`. */
import type { Clock } from "../../src/base/clock.ts";
import type { Config, TrustConfig } from "../../src/config/config.ts";
import { configDefaults } from "../../src/config/config.ts";
import type { LogFields, Logger, LogLevel } from "../../src/base/log.ts";
import { createTrust } from "../../src/identity/trust.ts";
import { Gateway } from "../../src/gateway.ts";
import type { Rule } from "../../src/policy/rule.ts";
import type { TargetOptions } from "../../src/target/target.ts";
import { createTestCa, type TestCa } from "./mint.ts";

export interface LogLine {
  readonly level: LogLevel;
  readonly event: string;
  readonly fields: LogFields;
}

export interface GatewaySetup {
  readonly ca?: TestCa;
  readonly targets?: Readonly<Record<string, TargetOptions>>;
  /** Default: everyone with a URI or DNS name may reach everything. */
  readonly rules?: readonly (Partial<Rule> & { readonly clients: readonly string[] })[];
  /** Raw listeners beside the framed one: each for a target. */
  readonly raw?: readonly string[];
  readonly config?: Partial<Config>;
  /** Default: the system's. */
  readonly clock?: Clock;
}

export interface TestGateway extends AsyncDisposable {
  readonly gateway: Gateway;
  /** Of the start: what a reload changes is written over it. */
  readonly config: Config;
  readonly ca: TestCa;
  /** Of the framed listener. */
  readonly port: number;
  /** Of the raw listeners, in their order. */
  readonly rawPorts: readonly number[];
  readonly log: readonly LogLine[];
  /** Lines of an event. */
  lines(event: string): readonly LogFields[];
  close(): Promise<void>;
}
/** The trust of a config, with its defaults, as of `now` (milliseconds since the epoch). */
export function trustIn(
  trust: Pick<TrustConfig, "ca"> & Partial<Omit<TrustConfig, "built">>,
  { now = Date.now() }: { readonly now?: number } = {},
): TrustConfig {
  const { maxStalenessMs, onExpired } = configDefaults;
  const caFiles = trust.ca.map((_, index) => `ca-${index}.pem`);
  const config = { caFiles, crl: [], deny: [], maxStalenessMs, onExpired, ...trust };
  return { ...config, built: createTrust({ ...config, now }) };
}

/** The config that `setup` describes. */
export function configOf(setup: GatewaySetup, ca: TestCa): Config {
  const own = ca.issue({ role: "gateway", cn: "gateway", dns: ["localhost"], ip: ["127.0.0.1"] });
  const listen = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  return {
    listeners: [
      { listen, serverNames: new Map(), alpn: [] },
      ...(setup.raw ?? []).map((target) => ({ listen, target, serverNames: new Map<string, string>(), alpn: [] })),
    ],
    credentials: { certificate: own.certificate, key: own.key },
    trust: trustIn({ ca: [ca.certificate] }),
    targets: new Map(Object.entries(setup.targets ?? { echo: { kind: "builtin", builtin: "echo" } })),
    rules: (setup.rules ?? [{ clients: ["*"] }]).map((rule, index) => ({ targets: ["*"], limits: {}, line: index + 1, ...rule })),
    admin: undefined,
    log: { level: "info", format: "json" },
    maxMessageBytes: configDefaults.maxMessageBytes,
    warnings: [],
    selfTest: "skip", // it has tests of its own
    penalties: configDefaults.penalties,
    audit: undefined,
    workers: configDefaults.workers,
    ...setup.config,
  };
}

/** Keeps what it is told. */
export function keepingLogger(log: LogLine[]): Logger {
  return Object.fromEntries(
    (["debug", "info", "warn", "error"] as const).map((level) => [
      level,
      (event: string, fields: LogFields = {}) => void log.push({ level, event, fields }),
    ]),
  ) as unknown as Logger;
}

export async function startGateway(setup: GatewaySetup = {}): Promise<TestGateway> {
  const ca = setup.ca ?? createTestCa();
  const log: LogLine[] = [];
  const logger = keepingLogger(log);
  const config = configOf(setup, ca);
  const gateway = new Gateway(config, { logger, ...(setup.clock === undefined ? {} : { clock: setup.clock }) });
  const addresses = await gateway.listen();
  const ports = addresses.map((address) => (address.kind === "tcp" ? address.port : 0));
  return {
    gateway,
    config,
    ca,
    port: ports[0] as number,
    rawPorts: ports.slice(1),
    log,
    lines: (event) => log.filter((line) => line.event === event).map((line) => line.fields),
    close: () => gateway.close(),
    [Symbol.asyncDispose]: () => gateway.close(),
  };
}
