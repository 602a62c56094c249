/** The table of targets that `npm run bench` writes. */
import { expect, test } from "vitest";
import { into, type Measured } from "../../bench/measured.ts";
import type { Subject } from "../../bench/subjects.ts";
import { targets } from "../../bench/targets.ts";

const subject = (name: string, kind: Subject["kind"]): Subject => ({ name, kind, version: "1", start: () => Promise.reject(new Error()) });
const subjects = [
  subject("pipegate node", "pipegate"),
  subject("nginx", "proxy"),
  subject("haproxy", "proxy"),
  subject("sshd", "ssh"),
  { ...subject("plain node", "proxy"), reference: true } as const,
];

function rows(found: Readonly<Record<string, Readonly<Record<string, number>>>>): readonly string[] {
  const measured: Measured = into();
  for (const [name, figures] of Object.entries(found))
    for (const [figure, value] of Object.entries(figures)) measured.add(name, figure, value);
  return targets(measured, { subjects, rounds: 1, command: "bench" }).split("\n");
}

const rowOf = (all: readonly string[], start: string): string => all.find((line) => line.startsWith(`| ${start}`))!;

test("a cost is judged beside the cheapest proxy of the run, a rate beside the fastest; a plain Node is told, and is none of them", () => {
  const all = rows({
    "pipegate node": { upCpu: 1.1, upRate: 0.9 },
    nginx: { upCpu: 1.2, upRate: 0.8 },
    haproxy: { upCpu: 1, upRate: 0.5 },
    sshd: { upCpu: 0.1, upRate: 9 },
    "plain node": { upCpu: 0.9 },
  });
  expect(rowOf(all, "raw up, CPU s/GB")).toBe("| raw up, CPU s/GB | at most 1.0 x the best peer | 1.10 | 1.10x haproxy | 1.22x | MISSED |");
  expect(rowOf(all, "raw up, GB/s")).toBe("| raw up, GB/s | at least 1.0 x the best peer | 0.90 | 1.13x nginx |  | met |");
});

test("what the run has not measured is not met", () => {
  const all = rows({ "pipegate node": { upCpu: 0.1, openCpu: 100 } });
  expect(rowOf(all, "raw up, CPU s/GB")).toMatch(/not measured \|$/);
  expect(rowOf(all, "Deno")).toMatch(/not measured \|$/);
  expect(all.at(-1)).toMatch(/^1 of \d+ met\.$/);
});

test("an open is judged by its microseconds and by how far sshd is behind", () => {
  const all = rows({ "pipegate node": { openCpu: 100 }, sshd: { openCpu: 140 } });
  const [own, ahead] = all.filter((line) => line.startsWith("| pipe opened"));
  expect(own).toMatch(/\| at most 110 \| 100 \| {2}\| {2}\| met \|$/);
  expect(ahead).toMatch(/\| 1\.40x ours \| {2}\| MISSED \|$/);
});

test("Deno is held to the costs, and the worst of them is named", () => {
  const measured = into();
  for (const [name, cpu, messages, rate] of [
    ["pipegate node", 1, 2000, 4],
    ["pipegate deno", 1.3, 1000, 1],
  ] as const) {
    measured.add(name, "upCpu", cpu);
    measured.add(name, "in256", messages);
    measured.add(name, "upRate", rate);
  }
  const both = [...subjects, subject("pipegate deno", "pipegate")];
  const all = targets(measured, { subjects: both, rounds: 1, command: "bench" }).split("\n");
  expect(rowOf(all, "Deno")).toMatch(/1 of 2 within; worst: 256 B messages in, 1 stream.*2\.00x Node \| {2}\| MISSED \|$/);
});
