/** The flags that every client command shares, and the way from them to a session with the gateway. */
import type { Command } from "commander";
import { systemClock } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import { dialClient, type StreamClient } from "../client.ts";
import { checkCredentials } from "../client/credentials.ts";
import { connectDefaults, type Notice } from "../client/types.ts";
import { parseTime } from "../config/units.ts";
import { type ConnectionFlags, readSettings, type Settings } from "./settings.ts";
import { mention, say } from "./terminal.ts";

export interface ClientFlags extends ConnectionFlags {
  readonly timeout?: number;
}

/** Adds the flags that say where the gateway is and who we are. */
export function withConnection(command: Command): Command {
  return command
    .option("--gateway <host:port>", "where the gateway is")
    .option("--cert <file>", "our certificate, PEM")
    .option("--key <file>", "its key, PEM (default: NAME-key.pem beside NAME.pem)")
    .option("--ca <file>", "the CA that the gateway's certificate comes from, PEM")
    .option("--server-name <name>", "the name in the gateway's certificate, if it differs from the host")
    .option("--profile <name>", "settings from ~/.config/pipegate/NAME.env, or from a file with a / in its path")
    .option("--timeout <time>", "for connecting and opening, such as 5s or 500ms (default: 15s)", readTime);
}

/** `500ms`, `5s`, `2m` as milliseconds. */
export function readTime(text: string): number {
  const time = parseTime(text);
  if (time.ok && time.value > 0) return time.value;
  const note = time.ok || time.note === undefined ? "" : `: ${time.note}`;
  throw new PipegateError("usage", `${text} is no time to wait${note}`, { next: "write it with its unit, such as 500ms, 5s or 2m" });
}

/** The settings, with every file read and judged; errors name the file. */
export async function prepare(flags: ClientFlags): Promise<Settings> {
  const settings = await readSettings(flags);
  for (const place of settings.places) mention(place);
  for (const warning of settings.warnings) say(`pipegate: warning: ${warning}`);
  const { own } = checkCredentials(settings.connect, settings.files);
  mention(`our certificate was issued by ${own.issuer}`);
  return settings;
}

export interface DialFlags extends ClientFlags {
  readonly signal?: AbortSignal;
  /** Default: the library's. */
  readonly maxMessageBytes?: number;
  /** Default: one of this connection's own. */
  readonly onNotice?: (notice: Notice) => void;
}

/** Tells a person once of each moment at which a certificate expires. */
export function noticeTeller(): (notice: Notice) => void {
  let told: number | undefined;
  return ({ at }) => {
    if (at.getTime() === told) return;
    told = at.getTime();
    say(`pipegate: ${expiryText(at, systemClock.wall())}; renew it`);
  };
}

/** `now` in milliseconds since the epoch. */
export function expiryText(at: Date, now: number): string {
  const left = at.getTime() - now;
  return left <= 0 ? `your certificate expired (${momentText(at)})` : `your certificate expires in ${leftText(left)} (${momentText(at)})`;
}

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
] as const;

/** Rounded down, in the largest unit of which there are two: who believes it is not late. */
function leftText(ms: number): string {
  const [unit, length] = units.find(([, one]) => ms >= 2 * one) ?? units[3];
  return `${Math.floor(ms / length)} ${unit}`;
}

/** `2026-11-21T19:00Z`. */
export function momentText(at: Date): string {
  return `${at.toISOString().slice(0, 16)}Z`;
}

export async function dial(settings: Settings, flags: DialFlags): Promise<StreamClient> {
  const started = performance.now();
  const client = await dialClient({
    ...settings.connect,
    timeoutMs: flags.timeout ?? connectDefaults.timeoutMs,
    onNotice: flags.onNotice ?? noticeTeller(),
    ...(flags.signal ? { signal: flags.signal } : {}),
    ...(flags.maxMessageBytes ? { maxMessageBytes: flags.maxMessageBytes } : {}),
  });
  mention(`welcomed by ${client.gateway} after ${Math.round(performance.now() - started)} ms`);
  return client;
}
