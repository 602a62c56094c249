/** One answer out of those of all workers: sums, lists, the soonest and the last. Values in, values out. */
import type { ExplainAnswer } from "../explain.ts";
import type { GatewayStatus } from "../gateway.ts";
import type { SeenIdentity } from "../gateway/seen.ts";
import { Metrics, type Gauges } from "../metrics.ts";
import type { Calls, WorkerCounts } from "./messages.ts";

/** What only the leader knows. */
export type Led = Pick<GatewayStatus, "state" | "listeners" | "version" | "loadedAt" | "reloadFailure" | "audit">;

export function mergeStatus(each: readonly ReturnType<Calls["status"]>[], led: Led): GatewayStatus {
  const refusals: Record<string, number> = {};
  for (const one of each) for (const [reason, count] of Object.entries(one.refusals)) refusals[reason] = (refusals[reason] ?? 0) + count;
  return {
    ...led,
    judgedMs: Math.max(0, ...each.map(({ judgedMs }) => judgedMs)),
    identities: mergeSeen(each.flatMap(({ identities }) => identities)),
    connections: sum(each.map(({ connections }) => connections)),
    connectionsTotal: sum(each.map(({ connectionsTotal }) => connectionsTotal)),
    workers: each.map(({ connections, connectionsTotal, pipes, cpuSeconds }) => ({
      connections,
      connectionsTotal,
      pipes: pipes.length,
      cpuSeconds,
    })),
    refusals,
    pipes: each.flatMap(({ pipes }) => pipes),
  };
}

/** One of a name, with the certificate that was used last. */
function mergeSeen(all: readonly SeenIdentity[]): SeenIdentity[] {
  const merged = new Map<string, SeenIdentity>();
  for (const seen of all) {
    const other = merged.get(seen.identity);
    const last = other === undefined || seen.lastUse >= other.lastUse ? seen : other;
    merged.set(seen.identity, { ...last, connections: seen.connections + (other?.connections ?? 0) });
  }
  return [...merged.values()];
}

/** What all counted, and what they know together; `led` is the leader's. */
export function mergeCounts(
  each: readonly WorkerCounts[],
  led: Pick<Gauges, "version" | "reloadFailed" | "audit"> & { readonly reloadFailures: number },
): { readonly metrics: Metrics; readonly gauges: Gauges } {
  const metrics = new Metrics();
  metrics.reloadFailures = led.reloadFailures;
  const live = new Map<string, { bytesIn: number; bytesOut: number; messagesIn: number; messagesOut: number; pipes: number }>();
  for (const one of each) {
    metrics.add(one.metrics);
    for (const [target, now] of one.gauges.live) {
      const all = live.get(target) ?? { bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0, pipes: 0 };
      for (const key of Object.keys(all) as (keyof typeof all)[]) all[key] += now[key];
      live.set(target, all);
    }
  }
  const soonest = (whose: "gateway" | "clients"): number | undefined => {
    const ends = each.flatMap(({ gauges }) => gauges.expiry[whose] ?? []);
    return ends.length === 0 ? undefined : Math.min(...ends);
  };
  const { version, reloadFailed, audit } = led;
  return { metrics, gauges: { live, version, reloadFailed, audit, expiry: { gateway: soonest("gateway"), clients: soonest("clients") } } };
}

/** Workers go by the same config, but each by the chains that it has seen: who may come in by one of them may come in. */
export function mergeExplained(each: readonly ExplainAnswer[]): ExplainAnswer {
  return each.find(({ allowed }) => allowed) ?? each.find(({ certificate }) => certificate.ok) ?? each[0]!;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
