/**
 * What the project aims at on the newest Node, as a table: target, measured, ratio to the best peer of the same run, met or not.
 * Promises: a row whose figures the run has not measured says so and is not met. Leaves to others: the limiter's row (bench/limiter.ts).
 */
import { figures } from "./figures.ts";
import type { Measured } from "./measured.ts";
import { headline, type Reported, rounded } from "./report.ts";
import type { Subject } from "./subjects.ts";

interface Context {
  readonly own: (figure: string) => number | undefined;
  readonly deno: (figure: string) => number | undefined;
  readonly peers: (figure: string) => Best | undefined;
  readonly plain: (figure: string) => number | undefined;
  readonly ssh: (figure: string) => number | undefined;
}

interface Best {
  readonly name: string;
  readonly value: number;
}

interface Row {
  readonly load: string;
  readonly target: string;
  readonly measured: string;
  readonly ratio: string;
  /** To a plain proxy on the same Node: what the runtime leaves to us. */
  readonly beyondPlain?: string;
  readonly met: boolean | undefined;
}

type Aim = (context: Context) => Row;

/** Rates are better when they are larger; all else when it is smaller. */
const isRate = (figure: string): boolean => figures[figure]!.unit.startsWith("1,000") || figures[figure]!.unit.endsWith("/s");

const times = (ratio: number | undefined, of: string): string => (ratio === undefined ? "" : `${rounded(ratio)}x ${of}`);

const overPlain = (value: number | undefined, plain: number | undefined): string =>
  value === undefined || plain === undefined ? "" : `${rounded(value / plain)}x`;

/** Our figure beside that of the best proxy for `peerFigure` (the same one when not given). */
function besidePeers(figure: string, { limit, peerFigure = figure }: { readonly limit: number; readonly peerFigure?: string }): Aim {
  return ({ own, peers, plain }) => {
    const [value, best] = [own(figure), peers(peerFigure)];
    const ratio = value === undefined || best === undefined ? undefined : value / best.value;
    const met = ratio === undefined ? undefined : isRate(figure) ? ratio >= limit : ratio <= limit;
    const target = `at ${isRate(figure) ? "least" : "most"} ${limit.toFixed(1)} x the best peer${peerFigure === figure ? "" : "'s raw"}`;
    const beyondPlain = overPlain(value, plain(peerFigure));
    return { load: titled(figure), target, measured: rounded(value), ratio: times(ratio, best?.name ?? ""), beyondPlain, met };
  };
}

/** Our figure by itself. */
function byItself(figure: string, limit: number): Aim {
  return ({ own, plain }) => {
    const value = own(figure);
    const met = value === undefined ? undefined : isRate(figure) ? value >= limit : value <= limit;
    const target = `at ${isRate(figure) ? "least" : "most"} ${limit}`;
    return { load: titled(figure), target, measured: rounded(value), ratio: "", beyondPlain: overPlain(value, plain(figure)), met };
  };
}

/** One of our figures at most so many times another. */
function besideOwn(figure: string, { base, limit, of }: { readonly base: string; readonly limit: number; readonly of: string }): Aim {
  return ({ own }) => {
    const [value, idle] = [own(figure), own(base)];
    const ratio = value === undefined || idle === undefined ? undefined : value / idle;
    const met = ratio === undefined ? undefined : ratio <= limit;
    return { load: titled(figure), target: `at most ${limit} x ${of}`, measured: rounded(value), ratio: times(ratio, of), met };
  };
}

/** sshd's figure at least so many times ours. */
function aheadOfSsh(figure: string, limit: number): Aim {
  return ({ own, ssh }) => {
    const [value, theirs] = [own(figure), ssh(figure)];
    const ahead = value === undefined || theirs === undefined ? undefined : theirs / value;
    const met = ahead === undefined ? undefined : ahead >= limit;
    const measured = `${rounded(value)}; sshd ${rounded(theirs)}`;
    return { load: titled(figure), target: `sshd's is at least ${limit} x ours`, measured, ratio: times(ahead, "ours"), met };
  };
}

/** Wall rates and latencies of the peers are in the tables of docs/bench.md; what Deno is held to is what it costs. */
const costs = (figure: string): boolean => /CPU|KiB/.test(figures[figure]!.unit);

function onDeno(limit: number): Aim {
  return ({ own, deno }) => {
    const all = Object.keys(figures).flatMap((figure) => {
      const [here, there] = [own(figure), deno(figure)];
      if (!costs(figure) || here === undefined || there === undefined) return [];
      return [{ figure, ratio: isRate(figure) ? here / there : there / here }];
    });
    all.sort((a, b) => b.ratio - a.ratio);
    const within = all.filter(({ ratio }) => ratio <= limit).length;
    const [worst] = all;
    return {
      load: "Deno, same loads: CPU and memory",
      target: `at most ${limit} x Node's figure`,
      measured: worst === undefined ? "" : `${within} of ${all.length} within; worst: ${titled(worst.figure)}`,
      ratio: worst === undefined ? "" : times(worst.ratio, "Node"),
      met: worst === undefined ? undefined : worst.ratio <= limit,
    };
  };
}

function titled(figure: string): string {
  const { title, unit } = figures[figure]!;
  return `${title}, ${unit}`;
}

const aims: readonly Aim[] = [
  besidePeers("upCpu", { limit: 1 }),
  besidePeers("downCpu", { limit: 1 }),
  besidePeers("upRate", { limit: 1 }),
  besidePeers("downRate", { limit: 1 }),
  besidePeers("rawEchoP50", { limit: 1.1 }),
  besidePeers("rawEchoP99", { limit: 1.5 }),
  besidePeers("connectionCpu", { limit: 1 }),
  besidePeers("framedUpCpu", { limit: 1.1, peerFigure: "upCpu" }),
  besidePeers("framedDownCpu", { limit: 1.1, peerFigure: "downCpu" }),
  ...["in256", "in256x8", "in256x64", "out256", "out256x8", "out256x64"].map((figure) => byItself(figure, 2000)),
  byItself("openCpu", 110),
  aheadOfSsh("openCpu", 1.5),
  byItself("loopCpu", 25),
  besideOwn("besideP99", { base: "pipeEchoP99", limit: 3, of: "its idle p99" }),
  aheadOfSsh("besideP99", 5),
  byItself("idleConnection", 45),
  byItself("idleSession", 45),
  byItself("idleLoopPipe", 1.5),
  byItself("idlePipe", 10),
  besideOwn("busyOf10k", { base: "busyOf10", limit: 1.2, of: "that beside 10" }),
  byItself("startMs", 150),
  onDeno(1.4),
];

export function targets(measured: Measured, { subjects, rounds, command }: Pick<Reported, "subjects" | "rounds" | "command">): string {
  const of = (wanted: (subject: Subject) => boolean): ((figure: string) => number | undefined) => {
    const found = subjects.find(wanted);
    return (figure) => (found === undefined ? undefined : measured.median(found.name, figure));
  };
  const proxies = subjects.filter(({ kind, reference }) => kind === "proxy" && reference !== true);
  const context: Context = {
    own: of(({ name }) => name === "pipegate node"),
    deno: of(({ name }) => name === "pipegate deno"),
    plain: of(({ reference }) => reference === true),
    ssh: of(({ kind }) => kind === "ssh"),
    peers: (figure) => best(figure, { measured, proxies }),
  };
  const rows = aims.map((aim) => aim(context));
  const lines = rows.map(({ load, target, measured: seen, ratio, beyondPlain = "", met }) => {
    const verdict = met === undefined ? "not measured" : met ? "met" : "MISSED";
    return `| ${load} | ${target} | ${seen} | ${ratio} | ${beyondPlain} | ${verdict} |`;
  });
  return [
    headline({ rounds, command }),
    "",
    "| load | target | measured | ratio | to plain Node | |",
    "|---|---|--:|--:|--:|---|",
    ...lines,
    "",
    `${rows.filter(({ met }) => met === true).length} of ${rows.length} met.`,
  ].join("\n");
}

function best(figure: string, of: { readonly measured: Measured; readonly proxies: readonly Subject[] }): Best | undefined {
  const all = of.proxies.flatMap(({ name }) => {
    const value = of.measured.median(name, figure);
    return value === undefined ? [] : [{ name, value }];
  });
  all.sort((a, b) => (isRate(figure) ? b.value - a.value : a.value - b.value));
  return all[0];
}
