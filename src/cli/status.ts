/** `pipegate status`: counters and live pipes of a running gateway, asked over its admin socket. */
import { Command } from "commander";
import { printable } from "../base/text.ts";
import type { GatewayStatus, PipeStatus } from "../gateway.ts";
import { getOverUnix } from "../runtime/unix-http.ts";
import { bytesText, spanText, timeText } from "./progress.ts";
import { findAdminSocket } from "./admin-socket.ts";
import { columns } from "./columns.ts";
import { answer, mention } from "./terminal.ts";

interface StatusFlags {
  readonly admin?: string;
  readonly config?: string;
  readonly profile?: string;
  readonly json?: boolean;
  readonly metrics?: boolean;
}

const examples = `Examples:
  pipegate status                                  the gateway of pipegate.yaml, or of demo, in this folder
  pipegate status --admin unix:/run/pipegate/admin.sock --json
  pipegate status --metrics                        Prometheus text
`;

const maxBytes = 64 << 20;

export function statusCommand(): Command {
  return new Command("status")
    .description("counters and live pipes of a running gateway")
    .addHelpText("before", examples)
    .option("--admin <unix:path>", "the gateway's admin socket (default: PIPEGATE_ADMIN, the profile's, the config's)")
    .option("-c, --config <file>", "take the admin socket from this config")
    .option("--profile <name>", "take the admin socket from this profile")
    .option("--json", "the answer as JSON")
    .option("--metrics", "the counters as Prometheus text")
    .action(runStatus);
}

async function runStatus(flags: StatusFlags): Promise<void> {
  const socket = await findAdminSocket(flags);
  mention(`asking ${socket}`);
  const ask = (path: string): Promise<string> => getOverUnix({ socket, path, timeoutMs: 5_000, maxBytes });
  if (flags.metrics) return answer((await ask("/metrics")).trimEnd());
  const text = await ask("/status");
  if (flags.json) return answer(text.trimEnd());
  for (const line of statusLines(JSON.parse(text) as GatewayStatus)) answer(line);
}

/** The table for a person. */
export function statusLines(status: GatewayStatus, now: number = Date.now()): string[] {
  const refusals = Object.entries(status.refusals).filter(([, count]) => count > 0);
  const lines = [
    `${status.state}, listening on ${status.listeners.join(", ")}`,
    `config: version ${status.version}, loaded ${spanText(age(now, status.loadedAt))} ago`,
    ...failureLines(status, now),
    ...auditLines(status),
    `connections: ${status.connections} now, ${status.connectionsTotal} in all; pipes: ${status.pipes.length} now`,
    ...workerLines(status),
    `refusals: ${refusals.length === 0 ? "none" : refusals.map(([reason, count]) => `${reason} ${count}`).join(", ")}`,
  ];
  if (status.pipes.length > 0) lines.push("", ...columns([header, ...status.pipes.map(row)]));
  if (status.identities.length > 0) lines.push("", ...identityLines(status.identities, now));
  return lines.map((line) => printable(line, 4096));
}

function failureLines({ reloadFailure }: GatewayStatus, now: number): string[] {
  if (reloadFailure === undefined) return [];
  return [
    `NOT TAKEN: what the config says now, tried ${spanText(age(now, reloadFailure.at))} ago; the one before goes on serving:`,
    ...reloadFailure.lines.map((line) => `  ${line}`),
  ];
}

function auditLines({ audit }: GatewayStatus): string[] {
  if (audit === undefined) return [];
  const lost = audit.lost === 0 ? "" : `, ${audit.lost} lost`;
  return [
    `audit log: line ${audit.seq}, ${audit.hash}${lost}`,
    ...(audit.failing === undefined ? [] : [`AUDIT LOG FAILING: ${audit.failing}`]),
  ];
}

function workerLines({ workers = [] }: GatewayStatus): string[] {
  return workers.map(
    (one, index) =>
      `  worker ${index + 1}: ${one.connections} now, ${one.connectionsTotal} in all; pipes: ${one.pipes}; ${one.cpuSeconds.toFixed(1)} s of CPU`,
  );
}

const SHOWN_IDENTITIES = 50;

/** Those whose certificates end first come first. */
function identityLines(identities: GatewayStatus["identities"], now: number): string[] {
  const sorted = identities.toSorted((a, b) => a.notAfter - b.notAfter);
  const rows = sorted
    .slice(0, SHOWN_IDENTITIES)
    .map((seen) => [
      printable(seen.identity, 60),
      seen.notAfter < now ? "expired" : `for ${spanText(age(seen.notAfter, now))}`,
      seen.serial,
      String(seen.connections),
      `${spanText(age(now, seen.lastUse))} ago`,
    ]);
  const more = sorted.length - rows.length;
  return [
    ...columns([["IDENTITY", "VALID", "SERIAL", "CONNECTIONS", "LAST USE"], ...rows]),
    ...(more > 0 ? [`and ${more} more: --json`] : []),
  ];
}

/** Whole seconds between two moments in milliseconds. */
function age(later: number, earlier: number): number {
  return Math.max(0, Math.round((later - earlier) / 1000));
}

const header = ["PIPE", "IDENTITY", "TARGET", "BACK END", "MODE", "IN", "OUT", "AGE", "WAITS FOR"];

function row(pipe: PipeStatus): string[] {
  return [
    pipe.id,
    printable(pipe.identity, 60),
    pipe.target,
    pipe.backEnd,
    pipe.mode,
    bytesText(pipe.bytesIn),
    bytesText(pipe.bytesOut),
    timeText(pipe.seconds),
    pipe.waits.join(", ") || "-",
  ];
}
