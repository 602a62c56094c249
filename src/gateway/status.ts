/** What a gateway shows of itself to those who look in: values out of its parts. Leaves to others: how it is printed (cli/status.ts, metrics.ts). */
import type { Audit } from "../audit/audit.ts";
import type { Flow } from "../metrics.ts";
import type { Pipe } from "../pipe/pipe.ts";
import type { PipeEntry } from "../pipe/registry.ts";
import type { SeenIdentity } from "./seen.ts";

export interface PipeStatus extends Flow {
  readonly id: string;
  readonly connection: string;
  readonly identity: string;
  readonly target: string;
  readonly backEnd: string;
  readonly mode: "bytes" | "messages";
  readonly seconds: number;
  /** What each direction waits for, if it waits: the client's limit, or whoever should take the bytes. */
  readonly waits: readonly string[];
}

export interface GatewayStatus {
  readonly state: "new" | "opening" | "ready" | "draining" | "closed";
  readonly listeners: readonly string[];
  /** Of the config in force; 1 at the start. */
  readonly version: number;
  /** Milliseconds since the epoch. */
  readonly loadedAt: number;
  /** The last attempt to load another config, when it failed: the one before goes on serving. */
  readonly reloadFailure: ReloadFailure | undefined;
  /** How long judging everybody again took, last time. */
  readonly judgedMs: number;
  /** Of the audit log, if there is one: its last line, why it cannot be written, lines that are lost. */
  readonly audit: { readonly seq: number; readonly hash: string; readonly failing: string | undefined; readonly lost: number } | undefined;
  /** Who came in, with the certificate of last time. */
  readonly identities: readonly SeenIdentity[];
  readonly connections: number;
  readonly connectionsTotal: number;
  /** What each one does, where several threads serve. */
  readonly workers?: readonly WorkerStatus[];
  readonly refusals: Readonly<Record<string, number>>;
  readonly pipes: readonly PipeStatus[];
}

export interface WorkerStatus {
  /** Open now, as `pipes`. */
  readonly connections: number;
  readonly connectionsTotal: number;
  readonly pipes: number;
  /** Of its thread, since it began. */
  readonly cpuSeconds: number;
}

export interface ReloadFailure {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly lines: readonly string[];
}

export function auditStatus(audit: Audit | undefined): GatewayStatus["audit"] {
  if (audit === undefined) return undefined;
  const { seq, hash } = audit.head;
  return { seq, hash, failing: audit.failing, lost: audit.lost };
}

/** `now`: milliseconds since the epoch. */
export function pipeStatus(entry: PipeEntry, now: number): PipeStatus {
  return {
    id: entry.id,
    connection: entry.connection,
    identity: entry.identity.principal,
    target: entry.target,
    backEnd: entry.backEnd,
    mode: entry.messages ? "messages" : "bytes",
    seconds: Math.max(0, Math.round((now - entry.openedAt) / 1000)),
    ...flowOf(entry.pipe),
    waits: waitsOf(entry.pipe),
  };
}

/** What the live pipes of each target have carried, and how many they are. */
export function flowByTarget(entries: Iterable<PipeEntry>): ReadonlyMap<string, Flow & { readonly pipes: number }> {
  const live = new Map<string, { -readonly [Name in keyof Flow]: Flow[Name] } & { pipes: number }>();
  for (const entry of entries) {
    const sum = live.get(entry.target) ?? { bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0, pipes: 0 };
    const flow = flowOf(entry.pipe);
    sum.bytesIn += flow.bytesIn;
    sum.bytesOut += flow.bytesOut;
    sum.messagesIn += flow.messagesIn;
    sum.messagesOut += flow.messagesOut;
    sum.pipes++;
    live.set(entry.target, sum);
  }
  return live;
}

function flowOf({ inbound, outbound }: Pipe): Flow {
  return { bytesIn: inbound.bytes, bytesOut: outbound.bytes, messagesIn: inbound.messages, messagesOut: outbound.messages };
}

function waitsOf({ inbound, outbound }: Pipe): string[] {
  const waits: string[] = [];
  if (inbound.waits !== undefined) waits.push(inbound.waits === "limit" ? "rate limit (in)" : "back end");
  if (outbound.waits !== undefined) waits.push(outbound.waits === "limit" ? "rate limit (out)" : "client");
  return waits;
}
