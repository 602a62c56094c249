/**
 * The kinds of text that a config holds: how each is written, read and described. Promises: a reader of ours takes it or it is refused;
 * bounds included. Leaves to others: where each may stand (schema.ts).
 */
import { parseNetwork, type Network } from "../base/network.ts";
import { hostFault, parseListen, parseSocketPath, parseTcp, type SocketAddress, type TcpAddress } from "../base/address.ts";
import { PipegateError } from "../base/error.ts";
import type { Reading } from "../base/reading.ts";
import { isSerial } from "../policy/deny.ts";
import { isTargetName, parseClientPattern, parseTargetPattern, targetNamePattern } from "../policy/pattern.ts";
import { maxUnits } from "../policy/policy.ts";
import type { Rate } from "../policy/rule.ts";
import { ALPN } from "../protocol/frame.ts";
import type { Form } from "./form.ts";
import {
  byteRatePattern,
  formatSize,
  formatTime,
  parseByteRate,
  parseRate,
  parseSize,
  parseTime,
  ratePattern,
  sizePattern,
  timePattern,
} from "./units.ts";

export const targetName: Form<string> = {
  expected: "a name of letters, digits, dots, hyphens and underscores that begins with a letter or digit",
  description: "The name of a target.",
  pattern: targetNamePattern,
  read: (name) => (isTargetName(name) ? { ok: true, value: name } : { ok: false }),
};

export const serverName: Form<string> = {
  expected: "a server name such as db.example",
  description: "The name that the client asks for (SNI).",
  read: (name) => {
    const fault = name === "" || /^[0-9.]+$/.test(name) ? "" : hostFault(name);
    return fault === undefined ? { ok: true, value: name } : { ok: false, ...(fault === "" ? {} : { note: fault }) };
  },
};

export const alpnName: Form<string> = {
  expected: "a protocol name such as postgresql or http/1.1",
  description: "A protocol (ALPN) that raw clients may ask for.",
  read: (name) => {
    if (name === ALPN) return { ok: false, note: "it is always there; leave it out" };
    return /^[\x21-\x7e]{1,255}$/.test(name) ? { ok: true, value: name } : { ok: false };
  },
};

export const listen: Form<SocketAddress> = {
  expected: "host:port or unix:PATH, such as 0.0.0.0:8443",
  description: "Where to listen: host:port, [v6]:port (in quotes) or unix:PATH. Port 0 is any that is free.",
  read: parseListen,
};

export const dial: Form<TcpAddress> = {
  expected: "host:port, such as 10.0.0.5:5432",
  description: "Where the back end listens: host:port or [v6]:port (in quotes).",
  read: parseTcp,
};

export const socketPath: Form<string> = {
  expected: "the path of a socket, such as /run/redis.sock",
  description: "The path of the back end's unix socket; relative to the folder of the config.",
  read: (path) => (path.startsWith("unix:") ? { ok: false, note: `did you mean ${path.slice("unix:".length)}` } : parseSocketPath(path)),
};

export const adminSocket: Form<string> = {
  expected: "unix:PATH, such as unix:/run/pipegate/admin.sock",
  description: "Where `pipegate status` and Prometheus ask: a unix socket, for its owner only.",
  read: (address) => {
    const reading = parseListen(address);
    if (reading.ok && reading.value.kind === "unix") return { ok: true, value: reading.value.path };
    return reading.ok ? { ok: false, note: "it asks for no certificate, so it is a unix socket" } : reading;
  },
};

export function file(what: string, example: string): Form<string> {
  return {
    expected: `the path of ${what}, such as ${example}`,
    description: `The path of ${what}; relative to the folder of the config.`,
    read: (path) =>
      path === "" || path.includes("\0") || (path.includes("\n") && !path.includes("-----BEGIN"))
        ? { ok: false }
        : { ok: true, value: path },
  };
}

export function pattern(kind: "clients" | "targets"): Form<string> {
  const parse = kind === "clients" ? parseClientPattern : parseTargetPattern;
  return {
    expected:
      kind === "clients" ? "a client such as spiffe://dev/agent/* or dns:*.ci.example" : "the name of a target, or a pattern such as db-*",
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

function range({
  least,
  most,
  format,
}: {
  readonly least: number;
  readonly most: number;
  readonly format: (value: number) => string;
}): (value: number) => string | undefined {
  return (value) => (value < least ? `the least is ${format(least)}` : value > most ? `the most is ${format(most)}` : undefined);
}

export const dialTimeout: Form<number> = between(
  {
    expected: "a time with its unit, such as 5s",
    description: "How long dialling may take, all addresses together. Default: 5s.",
    pattern: timePattern,
    read: parseTime,
  },
  { fault: range({ least: 1, most: 600_000, format: formatTime }) },
);

export const maxStaleness: Form<number> = between(
  {
    expected: "a time with its unit, such as 5s",
    description: "Removed trust (a certificate, a CA, a rule) ends live pipes within this time. Default: 5s.",
    pattern: timePattern,
    read: parseTime,
  },
  { fault: range({ least: 1_000, most: 3_600_000, format: formatTime }) },
);

export function penaltyTime(description: string): Form<number> {
  const form = { expected: "a time with its unit, such as 15s", description, pattern: timePattern, read: parseTime };
  return between(form, { fault: range({ least: 1_000, most: 86_400_000, format: formatTime }) });
}

export const network: Form<Network> = {
  expected: "an address or a network, such as 10.0.0.0/8 or fd00::/8",
  description: "An address, or a network with its prefix length.",
  read: parseNetwork,
};

export const auditSize: Form<number> = between(
  {
    expected: "a size with its unit, such as 100MiB",
    description: "At so much the audit log is put aside and a new file begins. Default: 100MiB.",
    pattern: sizePattern,
    read: parseSize,
  },
  { fault: range({ least: 64 << 10, most: 2 ** 40, format: formatSize }) },
);

/** What `trust.deny` may name: a client as in a rule, or a serial. */
export const denied: Form<string> = {
  expected: "a client such as spiffe://dev/agent/mallory, or a serial such as serial:0a1b2c",
  description: "A client as in a rule (spiffe://, dns:, cn:, sha256:), or serial:HEX.",
  read: (written) => {
    if (!written.startsWith("serial:")) {
      return written === "*" ? { ok: false, note: "to turn everyone away, leave the rules empty" } : pattern("clients").read(written);
    }
    return isSerial(written) ? { ok: true, value: written } : { ok: false, note: "write its hex digits, with or without colons" };
  },
};

export const maxMessage: Form<number> = between(
  {
    expected: "a size with its unit, such as 1MiB",
    description: "The largest message. Default: 1MiB.",
    pattern: sizePattern,
    read: parseSize,
  },
  { fault: range({ least: 1, most: 2 ** 30, format: formatSize }) },
);

function rateFault(format: (units: number) => string): (rate: Rate) => string | undefined {
  return ({ perSecond, burst }) => {
    if (perSecond < 1 || burst < 1) return "to allow none, remove the rule";
    return perSecond > maxUnits || burst > maxUnits ? `the most is ${format(maxUnits)}` : undefined;
  };
}

export function rate(what: string): Form<Rate> {
  const form = {
    expected: "a rate such as 50/s burst 100",
    description: `${what} Without a burst it is one second's worth.`,
    pattern: ratePattern,
    read: parseRate,
  };
  return between(form, { fault: rateFault(String) });
}

export const byteRate: Form<Rate> = between(
  {
    expected: "a rate with its unit, such as 10MiB/s burst 20MiB",
    description: "Bytes a second each way, all pipes together; more waits. Without a burst it is one second's worth.",
    pattern: byteRatePattern,
    read: parseByteRate,
  },
  { fault: rateFault(formatSize) },
);
