/** Medians of what was measured as Markdown tables, and what the floors of the project say about them. */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release, type } from "node:os";
import { join } from "node:path";
import { root } from "../scripts/tree.ts";
import { figures } from "./figures.ts";
import type { Measured } from "./measured.ts";
import type { Subject } from "./subjects.ts";

export interface Reported {
  readonly subjects: readonly Subject[];
  readonly absent: readonly string[];
  readonly rounds: number;
  readonly command: string;
}

export function report(measured: Measured, { subjects, absent, rounds, command }: Reported): string {
  const value = measured.median;
  const shown = subjects.filter(({ name }) => measured.values[name] !== undefined);
  const rows = Object.entries(figures).filter(([figure]) => shown.some(({ name }) => value(name, figure) !== undefined));
  const lines = [
    headline({ rounds, command }),
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

/** The run in one line. */
export function headline({ rounds, command }: Pick<Reported, "rounds" | "command">): string {
  const machine = `${cpus().length} x ${cpus()[0]?.model.trim() ?? "unknown CPU"}, ${type()} ${release()}`;
  return `\`${command}\`, ${new Date().toISOString().slice(0, 10)}; ${machine}; medians of ${rounds} rounds on loopback.`;
}

/** Puts the text between the markers of a document. */
export function writeInto(path: string, text: string): void {
  const file = join(root, path);
  const [begin, end] = ["<!-- bench: what follows is written by npm run bench -->", "<!-- bench: end -->"];
  const page = readFileSync(file, "utf8");
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} has lost its markers`);
  writeFileSync(file, `${page.slice(0, from + begin.length)}\n\n${text}\n${page.slice(to)}`);
}

export function rounded(value: number | undefined): string {
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
  const ours = subjects.find(({ name }) => name === "pipegate node");
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
