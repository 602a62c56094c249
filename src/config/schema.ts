/**
 * The shape of the config file: which keys there are and what each may be. One schema judges the file and becomes the JSON Schema for
 * editors (scripts/write-schema.ts). Promises: every message says what was expected and what came. Defaults stand with the stages.
 * Leaves to others: keys that nobody knows (unknown.ts), what only two places together can get wrong (cross.ts), the files (files.ts).
 */
import { PipegateError } from "../base/error.ts";
import type { LogLevel } from "../base/log.ts";
import { parseClientPattern, parseTargetPattern } from "../policy/pattern.ts";
import { maxUnits } from "../policy/policy.ts";
import type { Limits, Rate } from "../policy/rule.ts";
import { ALPN } from "../protocol/frame.ts";
import type { Address, Framing } from "../target/target.ts";
import type { ListenAddress } from "../tls/listener-options.ts";
import { hostFault, parseDial, parseListen, parseSocketPath } from "./address.ts";
import { kinds, list, map, named, oneOf, oneOrList, optional, text, wholeNumber, type Form, type Schema } from "./form.ts";
import { byteRatePattern, formatSize, formatTime, parseByteRate, parseRate, parseSize, parseTime, ratePattern, sizePattern, timePattern } from "./units.ts";
import type { Reading } from "./units.ts";

export interface ListenerShape {
  readonly listen: ListenAddress;
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
  readonly tls: readonly Address[];
  /** Paths, as `certificate` and `key`. */
  readonly ca: readonly string[] | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly serverName: string | undefined;
}

export type TargetShape =
  | { readonly builtin: "echo" }
  | ({ readonly tcp: readonly Address[] } & StreamShape)
  | ({ readonly unix: string } & StreamShape)
  | TlsShape;

export interface RuleShape {
  readonly clients: readonly string[];
  readonly targets: readonly string[];
  readonly limits: { readonly [K in keyof Required<Limits>]: Required<Limits>[K] | undefined } | undefined;
}

/** What a config file says, with its texts parsed and its paths as they stand. */
export interface ConfigShape {
  readonly listeners: readonly ListenerShape[];
  readonly identity: { readonly certificate: string; readonly key: string };
  readonly trust: { readonly ca: readonly string[]; readonly crl: readonly string[] | undefined };
  readonly targets: Readonly<Record<string, TargetShape>>;
  readonly rules: readonly RuleShape[];
  readonly admin: { readonly listen: string } | undefined;
  readonly log: { readonly level: LogLevel | undefined; readonly format: "json" | "pretty" | "auto" | undefined } | undefined;
  /** Bytes. */
  readonly maxMessage: number | undefined;
}

/** Words of the versions to come: saying so is better than "unknown". */
const later: ReadonlySet<string> = new Set([
  ...["maxStaleness", "onExpired", "deny", "selfTest", "penalties", "audit", "workers", "metrics", "tracing", "dashboard", "shared"],
  ...["exec", "udp", "agent", "balance", "health", "proxyProtocol", "shadow", "connect"],
]);

export function laterNote(key: string): string | undefined {
  return later.has(key) ? "this version of pipegate does not have it yet; remove it" : undefined;
}

/** Whether a name may be given to a target: one that also stands alone in a log, a label and a shell. */
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/;

const targetName: Form<string> = {
  expected: "a name of letters, digits, dots, hyphens and underscores that begins with a letter or digit",
  description: "The name of a target.",
  pattern: namePattern,
  read: (name) => (namePattern.test(name) ? { ok: true, value: name } : { ok: false }),
};

const serverName: Form<string> = {
  expected: "a server name such as db.example",
  description: "The name that the client asks for (SNI).",
  read: (name) => {
    const fault = name === "" || /^[0-9.]+$/.test(name) ? "" : hostFault(name);
    return fault === undefined ? { ok: true, value: name } : { ok: false, ...(fault === "" ? {} : { note: fault }) };
  },
};

const alpnName: Form<string> = {
  expected: "a protocol name such as postgresql or http/1.1",
  description: "A protocol (ALPN) that raw clients may ask for.",
  read: (name) => {
    if (name === ALPN) return { ok: false, note: "it is always there; leave it out" };
    return /^[\x21-\x7e]{1,255}$/.test(name) ? { ok: true, value: name } : { ok: false };
  },
};

const listen: Form<ListenAddress> = {
  expected: "host:port or unix:PATH, such as 0.0.0.0:8443",
  description: "Where to listen: host:port, [v6]:port (in quotes) or unix:PATH. Port 0 is any that is free.",
  read: parseListen,
};

const dial: Form<Address> = {
  expected: "host:port, such as 10.0.0.5:5432",
  description: "Where the back end listens: host:port or [v6]:port (in quotes).",
  read: parseDial,
};

const socketPath: Form<string> = {
  expected: "the path of a socket, such as /run/redis.sock",
  description: "The path of the back end's unix socket; relative to the folder of the config.",
  read: (path) => (path.startsWith("unix:") ? { ok: false, note: `did you mean ${path.slice("unix:".length)}` } : parseSocketPath(path)),
};

const adminSocket: Form<string> = {
  expected: "unix:PATH, such as unix:/run/pipegate/admin.sock",
  description: "Where `pipegate status` and Prometheus ask: a unix socket, for its owner only.",
  read: (address) => {
    const reading = parseListen(address);
    if (reading.ok && reading.value.kind === "unix") return { ok: true, value: reading.value.path };
    return reading.ok ? { ok: false, note: "it asks for no certificate, so it is a unix socket" } : reading;
  },
};

function file(what: string, example: string): Form<string> {
  return {
    expected: `the path of ${what}, such as ${example}`,
    description: `The path of ${what}; relative to the folder of the config.`,
    read: (path) => (path === "" || path.includes("\0") || path.includes("\n") && !path.includes("-----BEGIN") ? { ok: false } : { ok: true, value: path }),
  };
}

function pattern(kind: "clients" | "targets"): Form<string> {
  const parse = kind === "clients" ? parseClientPattern : parseTargetPattern;
  return {
    expected: kind === "clients" ? "a client such as spiffe://dev/agent/* or dns:*.ci.example" : "the name of a target, or a pattern such as db-*",
    description:
      kind === "clients"
        ? "Who: spiffe://domain/path (* one segment, ** all that follow), dns:NAME, dns:*.NAME, cn:NAME, sha256:HEX, or * for every URI and DNS name."
        : "Which targets: a name; * stands for any run of characters.",
    read: (written) => {
      try {
        parse(written);
        return { ok: true, value: written };
      } catch (error) {
        if (!(error instanceof PipegateError)) throw error;
        const what = error.message.replace(/^[a-z]+ pattern "(?:.*)", (character [0-9]+: )/su, "$1");
        return { ok: false, note: error.next === undefined ? what : `${what}; ${error.next}` };
      }
    },
  };
}

/** Values of a form within bounds. */
function between<T>(form: Form<T>, { fault }: { readonly fault: (value: T) => string | undefined }): Form<T> {
  return {
    ...form,
    read: (written) => {
      const reading: Reading<T> = form.read(written);
      const note = reading.ok ? fault(reading.value) : undefined;
      return note === undefined ? reading : { ok: false, note };
    },
  };
}

function range({ least, most, format }: { readonly least: number; readonly most: number; readonly format: (value: number) => string }): (value: number) => string | undefined {
  return (value) => (value < least ? `the least is ${format(least)}` : value > most ? `the most is ${format(most)}` : undefined);
}

const dialTimeout = between(
  { expected: "a time with its unit, such as 5s", description: "How long dialling may take, all addresses together. Default: 5s.", pattern: timePattern, read: parseTime },
  { fault: range({ least: 1, most: 600_000, format: formatTime }) },
);

const maxMessage = between(
  { expected: "a size with its unit, such as 1MiB", description: "The largest message. Default: 1MiB.", pattern: sizePattern, read: parseSize },
  { fault: range({ least: 1, most: 2 ** 30, format: formatSize }) },
);

function rateFault(format: (units: number) => string): (rate: Rate) => string | undefined {
  return ({ perSecond, burst }) => {
    if (perSecond < 1 || burst < 1) return "to allow none, remove the rule";
    return perSecond > maxUnits || burst > maxUnits ? `the most is ${format(maxUnits)}` : undefined;
  };
}

function rate(what: string): Form<Rate> {
  const form = { expected: "a rate such as 50/s burst 100", description: `${what} Without a burst it is one second's worth.`, pattern: ratePattern, read: parseRate };
  return between(form, { fault: rateFault(String) });
}

const byteRate: Form<Rate> = between(
  {
    expected: "a rate with its unit, such as 10MiB/s burst 20MiB",
    description: "Bytes a second each way, all pipes together; more waits. Without a burst it is one second's worth.",
    pattern: byteRatePattern,
    read: parseByteRate,
  },
  { fault: rateFault(formatSize) },
);

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
  },
  "Lets these clients reach these targets.",
);

const framings = ["u32", "u16", "varint", "lines", "bytes"] as const satisfies readonly Framing[];
const stream = {
  framing: optional(
    oneOf(framings, "How messages travel to the back end: length-prefixed big-endian (u32, the default, or u16), varint, one a line, or bytes without boundaries."),
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
        ca: optional(oneOrList(text(file("a CA's certificate", "certs/internal-ca.pem")), { description: "Who issues the back end's certificate. Default: the public roots.", expected: "a path or a list of paths" })),
        certificate: optional(text(file("our certificate for it", "certs/client.pem"))),
        key: optional(text(file("its key", "certs/client-key.pem"))),
        serverName: optional(text({ ...serverName, description: "The name in the back end's certificate. Default: the host." })),
        ...stream,
      },
      "A back end over TLS.",
    ),
  } as Readonly<Record<string, Schema<TargetShape>>>,
  { note: laterNote },
);

const files = (what: string, example: string): Schema<readonly string[]> =>
  oneOrList(text(file(what, example)), { description: `Paths of ${what}.`, expected: `the path of ${what} or a list of them, such as [${example}]` });

export const configSchema: Schema<ConfigShape> = map(
  {
    listeners: list(
      map(
        {
          listen: text(listen),
          target: optional(text({ ...targetName, description: "The target of clients that do not speak pipegate/1." })),
          serverNames: optional(named(text(targetName), { key: serverName, description: "Server name (SNI) to target, for clients that do not speak pipegate/1." })),
          alpn: optional(list(text(alpnName), { description: "Protocols (ALPN) that raw clients may ask for.", expected: "a list of protocol names, such as [postgresql]" })),
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
      { ca: files("a CA's certificate", "certs/ca.pem"), crl: optional(files("a revocation list", "certs/crl.pem")) },
      "Whose clients come in.",
    ),
    targets: named(target, { key: targetName, description: "Back ends by name." }),
    rules: list(rule, { description: "First match wins; nothing matches: refused.", expected: 'a list of rules, such as [{ clients: ["dns:*.example"], targets: [db] }]', empty: true }),
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
  },
  "A gateway of pipegate.",
);
