import { describe, expect, test } from "vitest";
import { Metrics, type Gauges } from "../../src/metrics.ts";
import { mergeCounts, mergeExplained, mergeStatus } from "../../src/workers/merge.ts";

type Each = Parameters<typeof mergeStatus>[0][number];
const led = { state: "ready", listeners: ["127.0.0.1:1"], version: 3, loadedAt: 7, reloadFailure: undefined, audit: undefined } as const;
const alice = { identity: "spiffe://dev/agent/alice", fingerprint: "f" } as unknown as Each["identities"][number];

function worker(status: Partial<Each>): Each {
  const none = { ...led, judgedMs: 0, identities: [], connections: 0, connectionsTotal: 0, refusals: {}, pipes: [], cpuSeconds: 0 };
  return { ...none, listeners: ["of one"], version: 99, ...status };
}

describe("of several workers", () => {
  test("counts are added, times are the longest, and what the leader knows is the leader's", () => {
    const merged = mergeStatus(
      [
        worker({ connections: 2, connectionsTotal: 5, judgedMs: 9, refusals: { forbidden: 2, alpn: 1 }, cpuSeconds: 1 }),
        worker({ connections: 1, connectionsTotal: 1, judgedMs: 4, refusals: { forbidden: 3 }, cpuSeconds: 2 }),
      ],
      led,
    );
    expect(merged).toMatchObject({ ...led, connections: 3, connectionsTotal: 6, judgedMs: 9, refusals: { forbidden: 5, alpn: 1 } });
    expect(merged.workers).toEqual([
      { connections: 2, connectionsTotal: 5, pipes: 0, cpuSeconds: 1 },
      { connections: 1, connectionsTotal: 1, pipes: 0, cpuSeconds: 2 },
    ]);
  });

  test("an identity that came to two is one, with the certificate of the last time and the connections of both", () => {
    const seen = [
      { ...alice, fingerprint: "new", connections: 2, lastUse: 20 },
      { ...alice, fingerprint: "old", connections: 1, lastUse: 10 },
    ];
    for (const order of [seen, seen.toReversed()])
      expect(
        mergeStatus(
          order.map((one) => worker({ identities: [one] })),
          led,
        ).identities,
      ).toEqual([{ ...alice, fingerprint: "new", connections: 3, lastUse: 20 }]);
  });

  test("metrics are added once each, and ends of certificates are the soonest", async () => {
    const each = [1_000, 5_000].map((clients, index) => {
      const metrics = new Metrics();
      metrics.know(["echo"]);
      metrics.connections = 1;
      metrics.refused("forbidden");
      metrics.pipeOpened("echo");
      metrics.reloadFailures = 0;
      const live: Gauges["live"] = new Map([["echo", { pipes: 1, bytesIn: 10 + index, bytesOut: 0, messagesIn: 0, messagesOut: 0 }]]);
      const gauges = { live, version: 9, reloadFailed: false, audit: undefined, expiry: { gateway: 9_000, clients } };
      return { metrics: metrics.counted(), gauges };
    });
    const { metrics, gauges } = mergeCounts(each, { version: 3, reloadFailed: true, reloadFailures: 4, audit: undefined });
    const text = await metrics.text(gauges);
    for (const line of [
      "pipegate_connections 2",
      'pipegate_refusals_total{reason="forbidden"} 2',
      'pipegate_pipes_opened_total{target="echo"} 2',
      'pipegate_pipes{target="echo"} 2',
      'pipegate_bytes_total{target="echo",direction="in"} 21',
      "pipegate_config_version 3",
      "pipegate_config_reload_failures_total 4",
      'pipegate_certificate_not_after_seconds{whose="clients"} 1',
      'pipegate_certificate_not_after_seconds{whose="gateway"} 9',
    ])
      expect(text).toContain(`${line}\n`);
  });

  test("who may come in by one of them may come in", () => {
    const [no, yes] = [
      { allowed: false, certificate: { ok: false } },
      { allowed: true, certificate: { ok: true } },
    ] as never[];
    expect(mergeExplained([no!, yes!])).toBe(yes);
    expect(mergeExplained([no!])).toBe(no);
  });
});
