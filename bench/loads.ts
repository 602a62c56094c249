/**
 * The loads, and what each tells of a subject. A load runs against a subject that is up, and gives figures by name; `figures` says
 * what they mean. Sizes are chosen so that each costs the subject about a second or more of CPU: /proc counts in 10 ms.
 */
import { join } from "node:path";
import { root } from "../scripts/tree.ts";
import { ask, Child, cpuSeconds, residentKib, sleep } from "./children.ts";
import type { Running, Subject } from "./subjects.ts";

/** Programs that make the load. */
export interface Tools {
  /** The compiled load.c. */
  readonly load: string;
  readonly folder: string;
  /** Divides the sizes. */
  readonly divide: number;
}

export interface Figure {
  readonly load: string;
  readonly title: string;
  readonly unit: string;
}

export const figures: Readonly<Record<string, Figure>> = {
  upCpu: { load: "up", title: "raw up", unit: "CPU s/GB" },
  upRate: { load: "up", title: "raw up", unit: "GB/s" },
  downCpu: { load: "down", title: "raw down", unit: "CPU s/GB" },
  downRate: { load: "down", title: "raw down", unit: "GB/s" },
  connectionCpu: { load: "connections", title: "new connection", unit: "CPU us" },
  connectionRate: { load: "connections", title: "new connections", unit: "1/s" },
  rawEchoP50: { load: "echo", title: "raw echo p50", unit: "us" },
  rawEchoP99: { load: "echo", title: "raw echo p99", unit: "us" },
  idleConnection: { load: "idle", title: "idle raw connection", unit: "KiB" },
  base: { load: "idle", title: "resident before that", unit: "MiB" },
  in256: { load: "messages", title: "256 B messages in", unit: "1,000 per CPU s" },
  in256Rate: { load: "messages", title: "256 B messages in", unit: "1,000/s" },
  out256: { load: "messages", title: "256 B messages out", unit: "1,000 per CPU s" },
  in16k: { load: "messages", title: "16 KiB messages in", unit: "CPU s/GB" },
  out16k: { load: "messages", title: "16 KiB messages out", unit: "CPU s/GB" },
  openCpu: { load: "opens", title: "pipe opened, 1 byte echoed, closed", unit: "CPU us" },
  openRate: { load: "opens", title: "pipes, 8 at once", unit: "1/s" },
  pipeEchoP50: { load: "pipe-echo", title: "pipe echo alone p50", unit: "us" },
  pipeEchoP99: { load: "pipe-echo", title: "pipe echo alone p99", unit: "us" },
  besideP50: { load: "pipe-echo", title: "pipe echo beside a bulk pipe p50", unit: "us" },
  besideP99: { load: "pipe-echo", title: "pipe echo beside a bulk pipe p99", unit: "us" },
  idleSession: { load: "idle-pipes", title: "idle session", unit: "KiB" },
  idlePipe: { load: "idle-pipes", title: "idle pipe", unit: "KiB" },
};

export interface Load {
  readonly name: string;
  readonly kinds: readonly Subject["kind"][];
  /** Wants a subject that has just been started. */
  readonly fresh?: boolean;
  run(on: Running, with_: Tools & { readonly kind: Subject["kind"] }): Promise<Readonly<Record<string, number>>>;
}

const node = join(root, "node_modules/.bin/node");

type Using = Tools & { readonly kind: Subject["kind"] };

function raw(using: Using, ...words: readonly (string | number)[]): Promise<Record<string, number>> {
  const command = [using.load, using.kind === "ssh" ? "tcp" : "tls", ...words.map(String)];
  return ask(command, { environment: { CERTS: using.folder } });
}

function framedWords(on: Running, words: readonly (string | number)[]): string[] {
  return [node, join(root, "bench/framed.ts"), String(on.framed), ...words.map(String)];
}

function framed(on: Running, using: Using, ...words: readonly (string | number)[]): Promise<Record<string, number>> {
  return ask(framedWords(on, words), { environment: { CERTS: using.folder } });
}

/** CPU seconds of the subject while `act` ran and shortly after. */
async function costing(
  on: Running,
  act: () => Promise<Record<string, number>>,
): Promise<{ readonly cpu: number; readonly seconds: number }> {
  await sleep(100);
  const before = cpuSeconds(on.pid);
  const { seconds } = await act();
  await sleep(150);
  return { cpu: cpuSeconds(on.pid) - before, seconds: seconds! };
}

async function bulk(on: Running, using: Using, way: "up" | "down"): Promise<Record<string, number>> {
  const bytes = 1e9 / using.divide;
  await raw(using, way, on.bulk, bytes / 5); // warm: compilers and windows have settled in a gateway that has run for a while
  const { cpu, seconds } = await costing(on, () => raw(using, way, on.bulk, bytes));
  return { [`${way}Cpu`]: (cpu / bytes) * 1e9, [`${way}Rate`]: bytes / seconds / 1e9 };
}

async function messages(on: Running, using: Using): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const way of ["in", "out"] as const) {
    const small = 2_000_000 / using.divide;
    await framed(on, using, `messages-${way}`, 256, small / 5);
    const of256 = await costing(on, () => framed(on, using, `messages-${way}`, 256, small));
    found[`${way}256`] = small / of256.cpu / 1000;
    if (way === "in") found["in256Rate"] = small / of256.seconds / 1000;
    const large = 60_000 / using.divide;
    await framed(on, using, `messages-${way}`, 16_384, large / 5);
    const of16k = await costing(on, () => framed(on, using, `messages-${way}`, 16_384, large));
    found[`${way}16k`] = of16k.cpu / ((large * 16_384) / 1e9);
  }
  return found;
}

const atOnce = 8;

async function opens(on: Running, using: Using): Promise<Record<string, number>> {
  const act = (count: number): Promise<Record<string, number>> =>
    using.kind === "ssh" ? raw(using, "connections", on.echo, count, atOnce) : framed(on, using, "opens", count, atOnce);
  await act(1000 / Math.min(4, using.divide));
  const count = 6000 / using.divide;
  const { cpu, seconds } = await costing(on, () => act(count));
  return { openCpu: (cpu / count) * 1e6, openRate: count / seconds };
}

async function pipeEcho(on: Running, using: Using): Promise<Record<string, number>> {
  const [warm, count] = [1000, 8000 / using.divide];
  const beside = [200, 2000 / Math.min(4, using.divide)] as const;
  const found: Record<string, number> = {};
  const note = (name: string, { p50us, p99us }: Record<string, number>): void => {
    found[`${name}P50`] = p50us!;
    found[`${name}P99`] = p99us!;
  };
  if (using.kind !== "ssh") {
    note("pipeEcho", await framed(on, using, "echo", 64, warm, count));
    note("beside", await framed(on, using, "echo-beside", 64, ...beside));
    return found;
  }
  note("pipeEcho", await raw(using, "echo", on.echo, 64, warm, count));
  const flood = new Child([using.load, "tcp", "up", String(on.bulk), String(Number.MAX_SAFE_INTEGER)]);
  try {
    await sleep(200);
    note("beside", await raw(using, "echo", on.echo, 64, ...beside));
  } finally {
    await flood.stop();
  }
  return found;
}

/** Memory settles a while after the work. */
async function settled(on: Running): Promise<number> {
  await sleep(1500);
  return residentKib(on.pid);
}

async function idle(on: Running, using: Using): Promise<Record<string, number>> {
  await raw(using, "connections", on.echo, 50, 1);
  const count = 2000 / Math.min(4, using.divide);
  const before = await settled(on);
  const child = new Child([using.load, "tls", "hold", String(on.echo), String(count)], { environment: { CERTS: using.folder } });
  try {
    await child.answer();
    return { idleConnection: ((await settled(on)) - before) / count, base: before / 1024 };
  } finally {
    await child.finish();
  }
}

async function idlePipes(on: Running, using: Using): Promise<Record<string, number>> {
  await framed(on, using, "opens", 100, 4);
  const [sessions, pipes] = [1000, 4000 / Math.min(4, using.divide)]; // few sessions would show the heap's steps, not their size
  const before = await settled(on);
  const child = new Child(framedWords(on, ["hold", sessions, pipes]), { environment: { CERTS: using.folder } });
  try {
    await child.answer();
    const between = await settled(on);
    child.say("pipes");
    await child.answer();
    return { idleSession: (between - before) / sessions, idlePipe: ((await settled(on)) - between) / pipes };
  } finally {
    await child.finish();
  }
}

async function connections(on: Running, using: Using): Promise<Record<string, number>> {
  await raw(using, "connections", on.echo, 400 / Math.min(4, using.divide), 1);
  const count = 1200 / using.divide;
  const { cpu, seconds } = await costing(on, () => raw(using, "connections", on.echo, count, 1));
  return { connectionCpu: (cpu / count) * 1e6, connectionRate: count / seconds };
}

async function rawEcho(on: Running, using: Using): Promise<Record<string, number>> {
  const { p50us, p99us } = await raw(using, "echo", on.echo, 64, 1500, 8000 / using.divide);
  return { rawEchoP50: p50us!, rawEchoP99: p99us! };
}

export const loads: readonly Load[] = [
  { name: "up", kinds: ["pipegate", "proxy", "ssh"], run: (on, using) => bulk(on, using, "up") },
  { name: "down", kinds: ["pipegate", "proxy", "ssh"], run: (on, using) => bulk(on, using, "down") },
  { name: "connections", kinds: ["pipegate", "proxy"], run: connections },
  { name: "echo", kinds: ["pipegate", "proxy"], run: rawEcho },
  { name: "messages", kinds: ["pipegate"], run: messages },
  { name: "opens", kinds: ["pipegate", "ssh"], run: opens },
  { name: "pipe-echo", kinds: ["pipegate", "ssh"], run: pipeEcho },
  { name: "idle", kinds: ["pipegate", "proxy"], fresh: true, run: idle },
  { name: "idle-pipes", kinds: ["pipegate"], fresh: true, run: idlePipes },
];
