/**
 * The shape of the config file: which keys there are and what each may be. One schema judges the file and becomes the JSON Schema for
 * editors (scripts/write-schema.ts). Promises: every message says what was expected and what came. Defaults stand with the stages.
 * Leaves to others: how texts are read (texts.ts), keys that nobody knows (unknown.ts), what only two places together can get wrong
 * (cross.ts), the files (base/files.ts).
 */
import type { SocketAddress, TcpAddress } from "../base/address.ts";
import type { Network } from "../base/network.ts";
import type { LogLevel } from "../base/log.ts";
import { maxUnits } from "../policy/policy.ts";
import type { Limits } from "../policy/rule.ts";
import type { Framing } from "../target/target.ts";
import { kinds, list, map, named, numberOr, oneOf, oneOrList, optional, text, wholeNumber, yesNo, type Schema } from "./form.ts";
import { maxWorkers } from "./config.ts";
import {
  adminSocket,
  alpnName,
  auditSize,
  byteRate,
  denied,
  dial,
  dialTimeout,
  file,
  listen,
  maxMessage,
  maxStaleness,
  network,
  pattern,
  penaltyTime,
  rate,
  serverName,
  socketPath,
  targetName,
} from "./texts.ts";

export interface ListenerShape {
  readonly listen: SocketAddress;
  readonly target: string | undefined;
  readonly serverNames: Readonly<Record<string, string>> | undefined;
  readonly alpn: readonly string[] | undefined;
}

interface StreamShape {
  readonly framing: Framing | undefined;
  /** Milliseconds. */
  readonly dialTimeout: number | undefined;
}

export interface TlsShape extends StreamShape {
  readonly tls: readonly TcpAddress[];
  /** Paths, as `certificate` and `key`. */
  readonly ca: readonly string[] | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly serverName: string | undefined;
}

export type TargetShape =
  | { readonly builtin: "echo" }
  | ({ readonly tcp: readonly TcpAddress[] } & StreamShape)
  | ({ readonly unix: string } & StreamShape)
  | TlsShape;

export interface RuleShape {
  readonly clients: readonly string[];
  readonly targets: readonly string[];
  readonly limits: { readonly [K in keyof Required<Limits>]: Required<Limits>[K] | undefined } | undefined;
  readonly shadow: boolean | undefined;
}

export interface PenaltiesShape {
  readonly mode: "enforce" | "off" | undefined;
  /** Milliseconds, as `longest`. */
  readonly threshold: number | undefined;
  readonly longest: number | undefined;
  readonly exempt: readonly Network[] | undefined;
}

export interface AuditShape {
  readonly file: string;
  /** Bytes. */
  readonly maxSize: number | undefined;
  readonly keep: number | undefined;
  readonly onFailure: "continue" | "refuse" | undefined;
}

/** What a config file says, with its texts parsed and its paths as they stand. */
export interface ConfigShape {
  readonly listeners: readonly ListenerShape[];
  readonly identity: { readonly certificate: string; readonly key: string };
  readonly trust: {
    readonly ca: readonly string[];
    readonly crl: readonly string[] | undefined;
    /** Milliseconds. */
    readonly maxStaleness: number | undefined;
    readonly onExpired: "refuse" | "warn" | undefined;
    readonly deny: readonly string[] | undefined;
  };
  readonly targets: Readonly<Record<string, TargetShape>>;
  readonly rules: readonly RuleShape[];
  readonly admin: { readonly listen: string } | undefined;
  readonly log: { readonly level: LogLevel | undefined; readonly format: "json" | "pretty" | "auto" | undefined } | undefined;
  /** Bytes. */
  readonly maxMessage: number | undefined;
  readonly selfTest: "required" | "skip" | undefined;
  readonly penalties: PenaltiesShape | undefined;
  readonly audit: AuditShape | undefined;
  readonly workers: number | "auto" | undefined;
}

/** Words of the versions to come: saying so is better than "unknown". */
const later: ReadonlySet<string> = new Set([
  ...["metrics", "tracing", "dashboard", "shared"],
  ...["exec", "udp", "agent", "balance", "health", "proxyProtocol", "connect"],
]);

export function laterNote(key: string): string | undefined {
  return later.has(key) ? "this version of pipegate does not have it yet; remove it" : undefined;
}

const cap = (description: string): Schema<number | undefined> => optional(wholeNumber({ least: 1, most: maxUnits, description }));

const limits = map(
  {
    connects: optional(text(rate("New connections a second; more are refused."))),
    opens: optional(text(rate("New pipes a second; more are refused."))),
    messages: optional(text(rate("Messages a second each way, all pipes together; more wait."))),
    bytes: optional(text(byteRate)),
    pipes: cap("Pipes at once."),
    connections: cap("Connections at once."),
  },
  "Token buckets and caps for each client that this rule matches.",
);

const rule = map(
  {
    clients: list(text(pattern("clients")), { description: "Who.", expected: 'a list of clients, such as ["spiffe://dev/agent/*"]' }),
    targets: list(text(pattern("targets")), { description: "What they may reach.", expected: "a list of targets, such as [echo, db]" }),
    limits: optional(limits),
    shadow: optional(yesNo("Decides nothing: what it would have done is logged.")),
  },
  "Lets these clients reach these targets.",
);

const framings = ["u32", "u16", "varint", "lines", "bytes"] as const satisfies readonly Framing[];
const stream = {
  framing: optional(
    oneOf(
      framings,
      "How messages travel to the back end: length-prefixed big-endian (u32, the default, or u16), varint, one a line, or bytes without boundaries.",
    ),
  ),
  dialTimeout: optional(text(dialTimeout)),
} as const;
const addresses = { description: "host:port, or a list of them, tried in turn.", expected: dial.expected } as const;

const target = kinds<TargetShape>(
  {
    builtin: map({ builtin: oneOf(["echo"], "Answers with what it is sent.") }, "A target that pipegate brings along."),
    tcp: map({ tcp: oneOrList(text(dial), addresses), ...stream }, "A back end over TCP."),
    unix: map({ unix: text(socketPath), ...stream }, "A back end on a unix socket."),
    tls: map(
      {
        tls: oneOrList(text(dial), addresses),
        ca: optional(
          oneOrList(text(file("a CA's certificate", "certs/internal-ca.pem")), {
            description: "Who issues the back end's certificate. Default: the public roots.",
            expected: "a path or a list of paths",
          }),
        ),
        certificate: optional(text(file("our certificate for it", "certs/client.pem"))),
        key: optional(text(file("its key", "certs/client-key.pem"))),
        serverName: optional(text({ ...serverName, description: "The name in the back end's certificate. Default: the host." })),
        ...stream,
      },
      "A back end over TLS.",
    ),
  },
  { note: laterNote },
);

const files = (what: string, example: string): Schema<readonly string[]> =>
  oneOrList(text(file(what, example)), {
    description: `Paths of ${what}.`,
    expected: `the path of ${what} or a list of them, such as [${example}]`,
  });

export const configSchema: Schema<ConfigShape> = map(
  {
    listeners: list(
      map(
        {
          listen: text(listen),
          target: optional(text({ ...targetName, description: "The target of clients that do not speak pipegate/1." })),
          serverNames: optional(
            named(text(targetName), {
              key: serverName,
              description: "Server name (SNI) to target, for clients that do not speak pipegate/1.",
            }),
          ),
          alpn: optional(
            list(text(alpnName), {
              description: "Protocols (ALPN) that raw clients may ask for.",
              expected: "a list of protocol names, such as [postgresql]",
            }),
          ),
        },
        "One address; all take pipegate/1.",
      ),
      { description: "Where clients come in.", expected: "a list of listeners, such as [{ listen: 0.0.0.0:8443 }]" },
    ),
    identity: map(
      { certificate: text(file("our certificate", "certs/gateway.pem")), key: text(file("our key", "certs/gateway-key.pem")) },
      "Who we are: leaf first, then the chain; the key readable by us alone.",
    ),
    trust: map(
      {
        ca: files("a CA's certificate", "certs/ca.pem"),
        crl: optional(files("a revocation list", "certs/crl.pem")),
        maxStaleness: optional(text(maxStaleness)),
        onExpired: optional(
          oneOf(
            ["refuse", "warn"],
            "Clients of a CA whose revocation list is out of date: refused (the default), or let in with a warning.",
          ),
        ),
        deny: optional(
          list(text(denied), {
            description: "Who is turned away as revoked, whatever the lists say.",
            expected: 'a list of clients or serials, such as ["serial:0a1b2c", "spiffe://dev/agent/mallory"]',
          }),
        ),
      },
      "Whose clients come in.",
    ),
    targets: named(target, { key: targetName, description: "Back ends by name." }),
    rules: list(rule, {
      description: "First match wins; nothing matches: refused.",
      expected: 'a list of rules, such as [{ clients: ["dns:*.example"], targets: [db] }]',
      empty: true,
    }),
    admin: optional(map({ listen: text(adminSocket) }, "The admin socket.")),
    log: optional(
      map(
        {
          level: optional(oneOf(["debug", "info", "warn", "error"], "What is logged. Default: info.")),
          format: optional(oneOf(["json", "pretty", "auto"], "How. Default: auto, which is pretty on a terminal.")),
        },
        "The log, on stderr.",
      ),
    ),
    maxMessage: optional(text(maxMessage)),
    selfTest: optional(
      oneOf(
        ["required", "skip"],
        "Before it serves, the gateway tries its own door with certificates that must be refused. Default: required.",
      ),
    ),
    penalties: optional(
      map(
        {
          mode: optional(oneOf(["enforce", "off"], "Whether addresses whose handshakes fail are kept out for a while. Default: enforce.")),
          threshold: optional(text(penaltyTime("From so much on an address is kept out. Default: 15s."))),
          longest: optional(text(penaltyTime("An address is kept out for so long at most. Default: 10m."))),
          exempt: optional(
            list(text(network), {
              description: "Addresses that are never kept out. Default: 127.0.0.0/8 and ::1.",
              expected: "a list of networks, such as [10.0.0.0/8]",
              empty: true,
            }),
          ),
        },
        "Addresses whose handshakes fail again and again.",
      ),
    ),
    audit: optional(
      map(
        {
          file: text(file("the audit log", "/var/log/pipegate/audit.jsonl")),
          maxSize: optional(text(auditSize)),
          keep: optional(
            wholeNumber({ least: 1, most: 10_000, description: "Full files that are kept beside the current one. Default: 10." }),
          ),
          onFailure: optional(
            oneOf(
              ["continue", "refuse"],
              "When the audit log cannot be written: go on and count what is missing (default), or open no more pipes.",
            ),
          ),
        },
        "The audit log: one hash-chained JSON line for each open and close of a pipe and each refusal.",
      ),
    ),
    workers: optional(
      numberOr(
        { word: "auto", description: "One thread for each processor." },
        wholeNumber({
          least: 1,
          most: maxWorkers,
          description: "Threads that share the listeners. Default: 1. Takes effect at the next start.",
        }),
      ),
    ),
  },
  "A gateway of pipegate.",
);
