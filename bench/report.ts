/** Figures gathered over rounds, their medians as Markdown tables, and what the floors of the project say about them. */
import { cpus, release, type } from "node:os";
import { figures } from "./loads.ts";
import type { Subject } from "./subjects.ts";

export interface Measured {
  /** Subject to figure to one value a round. */
  readonly values: Record<string, Record<string, number[]>>;
  readonly failures: string[];
  add(subject: string, figure: string, value: number): void;
  fail(subject: string, load: string, why: string): void;
}

export function into(): Measured {
  const values: Record<string, Record<string, number[]>> = {};
  const failures: string[] = [];
  return {
    values,
    failures,
    add: (subject, figure, value) => void ((values[subject] ??= {})[figure] ??= []).push(value),
    fail: (subject, load, why) => void failures.push(`${subject} ${load}: ${why.split("\n")[0]}`),
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export interface ReportOptions {
  readonly subjects: readonly Subject[];
  readonly absent: readonly string[];
  readonly rounds: number;
  readonly command: string;
}

export function report(measured: Measured, { subjects, absent, rounds, command }: ReportOptions): string {
  const value = (subject: string, figure: string): number | undefined => {
    const all = measured.values[subject]?.[figure];
    return all === undefined ? undefined : median(all);
  };
  const shown = subjects.filter(({ name }) => measured.values[name] !== undefined);
  const rows = Object.entries(figures).filter(([figure]) => shown.some(({ name }) => value(name, figure) !== undefined));
  const lines = [
    `\`${command}\`, ${new Date().toISOString().slice(0, 10)}; ${cpus().length} x ${cpus()[0]?.model.trim() ?? "unknown CPU"}, ${type()} ${release()}; medians of ${rounds} rounds on loopback.`,
    "",
    `| | unit | ${shown.map(({ name, version }) => `${name} ${version}`).join(" | ")} |`,
    `|---|---|${shown.map(() => "--:").join("|")}|`,
    ...rows.map(
      ([figure, { title, unit }]) => `| ${title} | ${unit} | ${shown.map(({ name }) => rounded(value(name, figure))).join(" | ")} |`,
    ),
  ];
  if (absent.length > 0) lines.push("", `Not on this machine: ${absent.join(", ")}.`);
  if (measured.failures.length > 0) lines.push("", "Failed:", ...measured.failures.map((failure) => `- ${failure}`));
  const judged = floors(shown, value);
  if (judged.length > 0) lines.push("", "| floor | limit | measured | |", "|---|--:|--:|---|", ...judged);
  return lines.join("\n");
}

function rounded(value: number | undefined): string {
  if (value === undefined) return "";
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

interface Floor {
  readonly figure: string;
  readonly what: string;
  /** At most so much, in the figure's unit, or times nginx's; `atLeast` the other way round. */
  readonly limit: number;
  readonly timesNginx?: true;
  readonly atLeast?: true;
}

/** What the project promises, on the newest Node. */
const promised: readonly Floor[] = [
  { figure: "upCpu", what: "raw up, CPU of nginx", limit: 1.3, timesNginx: true },
  { figure: "downCpu", what: "raw down, CPU of nginx", limit: 1.3, timesNginx: true },
  { figure: "in256", what: "256 B messages in, 1,000 per CPU s", limit: 1000, atLeast: true },
  { figure: "out256", what: "256 B messages out, 1,000 per CPU s", limit: 1000, atLeast: true },
  { figure: "connectionCpu", what: "new connection, CPU of nginx", limit: 1.3, timesNginx: true },
  { figure: "openCpu", what: "pipe open, CPU us", limit: 200 },
  { figure: "idleConnection", what: "idle raw connection, KiB", limit: 70 },
  { figure: "idleSession", what: "idle session, KiB", limit: 70 },
  { figure: "idlePipe", what: "idle pipe, KiB", limit: 16 },
];

function floors(subjects: readonly Subject[], value: (subject: string, figure: string) => number | undefined): string[] {
  const ours = subjects.find(({ kind }) => kind === "pipegate");
  if (ours === undefined) return [];
  return promised.flatMap(({ figure, what, limit, timesNginx, atLeast }) => {
    const own = value(ours.name, figure);
    const base = timesNginx ? value("nginx", figure) : 1;
    if (own === undefined || base === undefined) return [];
    const measured = Number((own / base).toPrecision(12)); // without what dividing ticks leaves in the last bits
    const held = atLeast ? measured >= limit : measured <= limit;
    return [
      `| ${what} | ${atLeast ? "at least" : "at most"} ${limit}${timesNginx ? "x" : ""} | ${rounded(measured)}${timesNginx ? "x" : ""} | ${held ? "held" : "MISSED"} |`,
    ];
  });
}
