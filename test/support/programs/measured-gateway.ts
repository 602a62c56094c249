/**
 * A gateway in a process of its own, so that its memory is its own. Its one argument is JSON: `{ targets, rules?, raw?, clients }`. Prints a JSON
 * line with its ports, the CA and the clients' credentials by name; then answers each line on stdin with a JSON line about itself, until stdin ends.
 */
import { createInterface } from "node:readline";
import { startGateway, type GatewaySetup } from "../gateway.ts";

export interface MeasuredStart {
  readonly port: number;
  /** Of the raw listeners, in their order. */
  readonly rawPorts: readonly number[];
  readonly ca: string;
  readonly clients: Readonly<Record<string, { readonly certificate: string; readonly key: string }>>;
}

export interface Measured {
  /** Bytes. */
  readonly rss: number;
  /** The heap in use and the buffers beside it. */
  readonly held: number;
  readonly connections: number;
  readonly pipes: number;
  readonly refusals: Readonly<Record<string, number>>;
  /** How connections ended, by reason. */
  readonly ends: Readonly<Record<string, number>>;
  /** How pipes ended, by identity and reason. */
  readonly pipeEnds: Readonly<Record<string, number>>;
  readonly refusedLines: number;
  readonly suppressed: number;
}

const { clients, ...gateway } = JSON.parse(process.argv[2] as string) as GatewaySetup & { readonly clients: readonly string[] };
const setup = await startGateway(gateway);
const issued = clients.map((name) => {
  const { certificate, key } = setup.ca.client(name);
  return [name, { certificate, key }] as const;
});
const start: MeasuredStart = {
  port: setup.port,
  rawPorts: setup.rawPorts,
  ca: setup.ca.certificate,
  clients: Object.fromEntries(issued),
};
console.log(JSON.stringify(start));

function counted(event: string, ...names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const fields of setup.lines(event)) {
    const name = names.map((each) => String(fields[each])).join(" ");
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

createInterface({ input: process.stdin }).on("line", () => {
  (globalThis as { gc?: () => void }).gc?.();
  const { rss, heapUsed, external } = process.memoryUsage();
  const { connections, pipes, refusals } = setup.gateway.status();
  const refused = setup.lines("refused");
  const now: Measured = {
    rss,
    held: heapUsed + external,
    connections,
    pipes: pipes.length,
    refusals,
    ends: counted("connection close", "reason"),
    pipeEnds: counted("pipe close", "identity", "reason"),
    refusedLines: refused.length,
    suppressed: refused.reduce((sum, fields) => sum + Number(fields["suppressed"] ?? 0), 0),
  };
  console.log(JSON.stringify(now));
});
process.stdin.on("end", () => process.exit(0));
setTimeout(() => process.exit(1), 300_000);
