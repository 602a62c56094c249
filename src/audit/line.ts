/**
 * A line of the audit log: `{"seq":N,"time":"...","event":"...",...,"prev":"HEX"}`, where `prev` is the SHA-256 of the line before, its
 * bytes without the newline. Promises: one line of valid JSON, without control or bidi characters, of at most `MAX_LINE_BYTES`,
 * whatever the fields are. Values in, values out. Leaves to others: where lines go.
 */
import { createHash, hash } from "node:crypto";
import type { LogFields } from "../base/log.ts";
import { printable } from "../base/text.ts";

/** The last line that there is: what the next one follows. */
export interface Head {
  /** 0: there is no line. */
  readonly seq: number;
  readonly hash: string;
}

/** No line at all. */
export const GENESIS: Head = { seq: 0, hash: "0".repeat(64) };

export const MAX_LINE_BYTES: number = 64 << 10;
/** Characters of all fields together; UTF-8 makes at most three bytes of each. */
const MAX_BODY = 16 << 10;
const MAX_LIST = 64;
const own: ReadonlySet<string> = new Set(["seq", "time", "event", "prev", "cut"]);

/** What a line says, before it has its place in the chain. Throws only where a field's getter does. */
export function lineBody(fields: LogFields, time: number): string {
  const event = typeof fields["event"] === "string" ? fields["event"] : "unnamed";
  let body = `"time":"${new Date(time).toISOString()}","event":${JSON.stringify(printable(event, 64))}`;
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || own.has(name)) continue;
    const part = `,${JSON.stringify(printable(name, 64))}:${JSON.stringify(safe(value))}`;
    if (body.length + part.length > MAX_BODY) return `${body},"cut":true`;
    body += part;
  }
  return body;
}

function safe(value: unknown): unknown {
  if (typeof value === "number" || typeof value === "boolean") return value;
  if (Array.isArray(value)) return value.slice(0, MAX_LIST).map((text) => printable(String(text)));
  return printable(String(value));
}

/** `body` as the line that follows `head`, without its newline, and the head that it makes. */
export function chain(body: string, head: Head): { readonly line: string; readonly head: Head } {
  const seq = head.seq + 1;
  const line = `{"seq":${seq},${body},"prev":"${head.hash}"}`;
  return { line, head: { seq, hash: hashOf(line) } };
}

const ALGORITHM = "sha256";

export function hashOf(line: string | Uint8Array): string {
  return hash(ALGORITHM, line, "hex");
}

/** What `hashOf` says of all that it is given, for whoever does not keep that. */
export class RunningHash {
  readonly #hash = createHash(ALGORITHM);

  add(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  /** Once, at the end. */
  digest(): string {
    return this.#hash.digest("hex");
  }
}

export interface Line {
  readonly seq: number;
  readonly time: string;
  readonly event: string;
  readonly prev: string;
  /** Of a line that follows a cut one: the hash of the line before both. */
  readonly after: string | undefined;
}

/** Undefined: it is no line of an audit log. */
export function readLine(bytes: Uint8Array): Line | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { seq, time, event, prev, after } = value as Readonly<Record<string, unknown>>;
  if (typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 1) return undefined;
  if (typeof time !== "string" || typeof event !== "string" || typeof prev !== "string" || !/^[0-9a-f]{64}$/.test(prev)) return undefined;
  return { seq, time, event, prev, after: typeof after === "string" ? after : undefined };
}

/** The number of a line of which only the beginning is there. */
export function seqOfCut(bytes: Uint8Array): number | undefined {
  const digits = /^\{"seq":(\d{1,15}),/.exec(new TextDecoder().decode(bytes.subarray(0, 64)))?.[1];
  return digits === undefined ? undefined : Number(digits);
}
