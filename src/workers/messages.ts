/**
 * What passes between the thread that leads a gateway and its workers, all of it plain values. Promises: an error arrives as what it was: a
 * PipegateError with its code, next step and details. Leaves to others: who sends what when (leader.ts, worker.ts).
 */
import { PipegateError, type ErrorCode } from "../base/error.ts";
import type { LogFields, LogLevel } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import type { ExplainAnswer, ExplainRequest } from "../explain.ts";
import type { GatewayStatus, Reloaded } from "../gateway.ts";
import type { Counted, Gauges } from "../metrics.ts";
import type { DescriptorCounts } from "../runtime/descriptors.ts";
import type { Penalties } from "../tls/penalties.ts";
import type { TallyMemory } from "../tls/shared-tally.ts";

/** A config without what only its own thread can hold: the trust that was built of it. */
export type PlainConfig = Omit<Config, "trust"> & { readonly trust: Omit<Config["trust"], "built"> };

/** Memory that all threads see. */
export interface SharedMemory {
  readonly tally: TallyMemory;
  readonly probes: SharedArrayBuffer;
  /** The accounts of rule limits. */
  readonly limiter: SharedArrayBuffer;
  /** Undefined: there is no limit. */
  readonly descriptors: DescriptorCounts | undefined;
}

/** What a worker is started with. */
export interface WorkerData {
  readonly config: PlainConfig;
  readonly memory: SharedMemory;
  /** How many share the work. */
  readonly workers: number;
  readonly log: { readonly level: LogLevel; readonly format: "json" | "pretty"; readonly colour: boolean };
}

export interface WorkerCounts {
  readonly metrics: Counted;
  readonly gauges: Gauges;
}

/** What the leader asks a worker for. */
export interface Calls {
  open(): Promise<void>;
  bind(): Promise<void>;
  serve(): void;
  prepare(config: PlainConfig): Promise<Reloaded>;
  commit(): Promise<void>;
  abandon(): Promise<void>;
  drain(graceMs: number): Promise<void>;
  close(): Promise<void>;
  status(): GatewayStatus & { readonly cpuSeconds: number };
  counts(): WorkerCounts;
  explain(request: ExplainRequest): ExplainAnswer;
}

type Charge = Parameters<Penalties["charge"]>;

/** From the leader to a worker. */
export type ToWorker =
  | { readonly kind: "call"; readonly id: number; readonly name: keyof Calls; readonly args: readonly unknown[] }
  /** To be answered with `alive`: whoever does not hangs. */
  | { readonly kind: "look" }
  /** What another one charged. */
  | { readonly kind: "charge"; readonly charge: Charge }
  /** Why the audit log cannot be written, if it cannot. */
  | { readonly kind: "audit"; readonly failing: string | undefined };

/** From a worker to the leader. */
export type ToLeader =
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "failure"; readonly id: number; readonly error: PlainError }
  | { readonly kind: "alive" }
  /** The last that it says. */
  | { readonly kind: "fault"; readonly error: PlainError }
  | { readonly kind: "charge"; readonly charge: Charge }
  /** Log lines as they are to be written, and fields for the audit log. */
  | { readonly kind: "lines"; readonly text: string; readonly audited: readonly LogFields[] }
  /** What may be said only so often by all of them together. */
  | { readonly kind: "told"; readonly level: LogLevel; readonly event: string; readonly fields: LogFields };

interface PlainError {
  readonly code: ErrorCode | undefined;
  readonly message: string;
  readonly next: string | undefined;
  readonly details: readonly string[];
}

export function plainError(error: unknown): PlainError {
  if (error instanceof PipegateError) return { code: error.code, message: error.message, next: error.next, details: error.details };
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { code: undefined, message, next: undefined, details: [] };
}

export function errorOf({ code, message, next, details }: PlainError): Error {
  if (code === undefined) return new Error(message);
  return new PipegateError(code, message, { ...(next === undefined ? {} : { next }), details });
}

export function plainConfig(config: Config): PlainConfig {
  const { built: _, ...trust } = config.trust;
  return { ...config, trust };
}
