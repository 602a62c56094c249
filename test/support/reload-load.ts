/** A gateway that is reloaded again and again under load: what prove:reloads runs long and a flow test short. */
import { connect } from "../../src/mod.ts";
import { startBackEnd, targetOf } from "./back-ends.ts";
import { startGateway, trustIn } from "./gateway.ts";
import { createTestCa } from "./mint.ts";
import { hashing, startPump } from "./pump.ts";

export interface ReloadLoad {
  readonly reloads: number;
  readonly reloadsPerSecond: number;
  readonly pumps: number;
  readonly connectionsPerSecond: number;
}

export interface ReloadOutcome {
  /** Pumps whose back end saw what was sent. */
  readonly whole: number;
  readonly connected: number;
  readonly failures: readonly string[];
  readonly refusals: number;
  readonly version: number;
  /** Resident bytes after a tenth of the reloads, and at the end. */
  readonly resident: readonly [early: number, late: number];
}

/** Each reload brings another certificate, another set of CAs, another list, another rule, and a target and a listener that come and go. */
export async function reloadUnderLoad({ reloads, reloadsPerSecond, pumps, connectionsPerSecond }: ReloadLoad): Promise<ReloadOutcome> {
  const [ca, other] = [createTestCa(), createTestCa({ cn: "other" })];
  const backEnd = await startBackEnd(hashing);
  const setup = await startGateway({
    ca,
    targets: { hash: targetOf(backEnd) },
  });
  const { config, gateway } = setup;
  const failures: string[] = [];
  const fail = (error: unknown): void => void failures.push(error instanceof Error ? error.message : String(error));
  const running = await Promise.all(
    Array.from({ length: pumps }, (_, n) => startPump({ port: setup.port, ca: ca.certificate, own: ca.client(`n${n}`) })),
  );
  const own = [ca.gateway(), ca.gateway()];
  const trusts = [
    trustIn({ ca: [ca.certificate], crl: [Buffer.from(ca.crl({ revoked: ["0a"] }).pem)] }),
    trustIn({ ca: [ca.certificate, other.certificate], deny: ["serial:0b"] }),
  ];
  const visitor = ca.client("visitor");
  let connected = 0;
  const visits: Promise<void>[] = [];
  const visit = async (): Promise<void> => {
    const client = await connect({
      gateway: `127.0.0.1:${setup.port}`,
      certificate: visitor.certificate,
      key: visitor.key,
      ca: ca.certificate,
    });
    await client.close();
    connected++;
  };
  const visiting = setInterval(() => void visits.push(visit().catch(fail)), 1_000 / connectionsPerSecond);
  const listener = { listen: { kind: "unix", path: `${process.env["TMPDIR"] ?? "/tmp"}/pipegate-reload-${process.pid}.sock` } } as const;
  let early = 0;
  try {
    for (let n = 1; n <= reloads; n++) {
      const at = performance.now();
      const odd = n % 2;
      await gateway
        .reload({
          ...config,
          credentials: own[odd]!,
          trust: trusts[odd]!,
          targets: odd ? new Map([...config.targets, ["more", { kind: "builtin", builtin: "echo" }]]) : config.targets,
          rules: [...config.rules, { clients: [`dns:n${n}.example`], targets: ["*"], limits: {}, line: 9 }],
          listeners: odd ? [...config.listeners, { ...listener, serverNames: new Map(), alpn: [] }] : config.listeners,
        })
        .catch(fail);
      if (n === Math.ceil(reloads / 10)) early = process.memoryUsage.rss();
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, 1_000 / reloadsPerSecond - (performance.now() - at))));
    }
    clearInterval(visiting);
    await Promise.all(visits);
    const late = process.memoryUsage.rss();
    const ends = await Promise.all(running.map((pump) => pump.finish().catch((error: unknown) => (fail(error), "differs" as const))));
    return {
      whole: ends.filter((end) => end === "whole").length,
      connected,
      failures,
      refusals: setup.lines("refused").length,
      version: gateway.status().version,
      resident: [early, late],
    };
  } finally {
    clearInterval(visiting);
    await setup.close();
    await backEnd.close();
  }
}
