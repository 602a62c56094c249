/**
 * What a gateway counts, as plain numbers on the way of the payload, and as Prometheus text when somebody asks.
 * Promises: label values come from the config and from closed lists only. prom-client is loaded at the first question.
 */
import type { Reason } from "./base/reason.ts";

interface TargetCounts {
  opened: number;
  bytesIn: number;
  bytesOut: number;
  messagesIn: number;
  messagesOut: number;
}

export interface Flow {
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly messagesIn: number;
  readonly messagesOut: number;
}

/** What the gateway knows and nobody counts. */
export interface Gauges {
  /** Pipes that are open now, by target. */
  readonly live: ReadonlyMap<string, Flow & { readonly pipes: number }>;
  /** Of the config in force. */
  readonly version: number;
  /** Whether the last attempt to load another config failed. */
  readonly reloadFailed: boolean;
  readonly audit: { readonly failing: string | undefined; readonly lost: number } | undefined;
  /** The soonest ends of certificates, milliseconds since the epoch: ours, and those of the clients that are connected. */
  readonly expiry: Readonly<Record<"gateway" | "clients", number | undefined>>;
}

/** What was counted, without the one who counts. */
export type Counted = Pick<Metrics, "connections" | "connectionsTotal" | "refusals" | "closes" | "targets" | "reloadFailures">;

export class Metrics {
  connections = 0;
  connectionsTotal = 0;
  readonly refusals = new Map<Reason, number>();
  readonly closes = new Map<Reason | "done", number>();
  readonly targets = new Map<string, TargetCounts>();

  /** Configs that were not taken. */
  reloadFailures = 0;

  /** Targets of the config; what was counted for one that is gone stays, or a counter would run backwards. */
  know(targets: Iterable<string>): void {
    for (const name of targets)
      if (!this.targets.has(name)) this.targets.set(name, { opened: 0, bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0 });
  }

  /** As plain values. */
  counted(): Counted {
    const { connections, connectionsTotal, refusals, closes, targets, reloadFailures } = this;
    return { connections, connectionsTotal, refusals, closes, targets, reloadFailures };
  }

  /** What another one counted counts here, too. */
  add(other: Counted): void {
    this.connections += other.connections;
    this.connectionsTotal += other.connectionsTotal;
    this.reloadFailures += other.reloadFailures;
    for (const [reason, count] of other.refusals) this.refusals.set(reason, (this.refusals.get(reason) ?? 0) + count);
    for (const [reason, count] of other.closes) this.closes.set(reason, (this.closes.get(reason) ?? 0) + count);
    this.know(other.targets.keys());
    for (const [name, counts] of other.targets) {
      const sum = this.targets.get(name) as TargetCounts;
      for (const key of Object.keys(counts) as (keyof TargetCounts)[]) sum[key] += counts[key];
    }
  }

  refused(reason: Reason): void {
    this.refusals.set(reason, (this.refusals.get(reason) ?? 0) + 1);
  }

  pipeOpened(target: string): void {
    (this.targets.get(target) as TargetCounts).opened++;
  }

  pipeClosed(target: string, end: { readonly flow: Flow; readonly reason: Reason | "done" }): void {
    this.closes.set(end.reason, (this.closes.get(end.reason) ?? 0) + 1);
    const counts = this.targets.get(target) as TargetCounts;
    counts.bytesIn += end.flow.bytesIn;
    counts.bytesOut += end.flow.bytesOut;
    counts.messagesIn += end.flow.messagesIn;
    counts.messagesOut += end.flow.messagesOut;
  }

  /** The text that Prometheus scrapes. */
  async text({ live, version, reloadFailed, audit, expiry }: Gauges): Promise<string> {
    const { Counter, Gauge, Registry } = await import("prom-client");
    const registers = [new Registry()] as const;
    const target = ["target"] as const;
    const way = ["target", "direction"] as const;
    new Gauge({ name: "pipegate_connections", help: "Connections that are open", registers: [...registers] }).set(this.connections);
    new Counter({ name: "pipegate_connections_total", help: "Connections that were let in", registers: [...registers] }).inc(
      this.connectionsTotal,
    );
    const refusals = new Counter({
      name: "pipegate_refusals_total",
      help: "Refusals by reason",
      labelNames: ["reason"],
      registers: [...registers],
    });
    for (const [reason, count] of this.refusals) refusals.inc({ reason }, count);
    const closes = new Counter({
      name: "pipegate_pipes_closed_total",
      help: "Pipes that ended, by reason",
      labelNames: ["reason"],
      registers: [...registers],
    });
    for (const [reason, count] of this.closes) closes.inc({ reason }, count);
    const opened = new Counter({
      name: "pipegate_pipes_opened_total",
      help: "Pipes that were opened",
      labelNames: target,
      registers: [...registers],
    });
    const pipes = new Gauge({ name: "pipegate_pipes", help: "Pipes that are open", labelNames: target, registers: [...registers] });
    const bytes = new Counter({ name: "pipegate_bytes_total", help: "Payload carried", labelNames: way, registers: [...registers] });
    const messages = new Counter({ name: "pipegate_messages_total", help: "Messages carried", labelNames: way, registers: [...registers] });
    new Gauge({ name: "pipegate_config_version", help: "Of the config in force", registers: [...registers] }).set(version);
    new Gauge({
      name: "pipegate_config_reload_failed",
      help: "1 while the config and the files that it names cannot be taken as they are",
      registers: [...registers],
    }).set(reloadFailed ? 1 : 0);
    new Counter({ name: "pipegate_config_reload_failures_total", help: "Configs that were not taken", registers: [...registers] }).inc(
      this.reloadFailures,
    );
    if (audit !== undefined) {
      new Gauge({ name: "pipegate_audit_failing", help: "1 while the audit log cannot be written", registers: [...registers] }).set(
        audit.failing === undefined ? 0 : 1,
      );
      new Counter({
        name: "pipegate_audit_lost_total",
        help: "Lines of the audit log that never will be written",
        registers: [...registers],
      }).inc(audit.lost);
    }
    const ends = new Gauge({
      name: "pipegate_certificate_not_after_seconds",
      help: "When the first certificate ends: ours, or of the clients that are connected (seconds since the epoch)",
      labelNames: ["whose"],
      registers: [...registers],
    });
    for (const whose of ["gateway", "clients"] as const) {
      const at = expiry[whose];
      if (at !== undefined) ends.set({ whose }, Math.floor(at / 1000));
    }
    for (const [name, counts] of this.targets) {
      const now = live.get(name);
      opened.inc({ target: name }, counts.opened);
      pipes.set({ target: name }, now?.pipes ?? 0);
      bytes.inc({ target: name, direction: "in" }, counts.bytesIn + (now?.bytesIn ?? 0));
      bytes.inc({ target: name, direction: "out" }, counts.bytesOut + (now?.bytesOut ?? 0));
      messages.inc({ target: name, direction: "in" }, counts.messagesIn + (now?.messagesIn ?? 0));
      messages.inc({ target: name, direction: "out" }, counts.messagesOut + (now?.messagesOut ?? 0));
    }
    return registers[0].metrics();
  }
}
