/**
 * What a decision of the limiter costs with a million identities known, and what an identity costs: by hand, `node --expose-gc
 * bench/limiter.ts` (words: `shared` for memory that threads share; a number of identities). CPU nanoseconds of this process, medians of five rounds.
 * `hot`: a thousand identities take turns, as those do that are connected, each with the digest of its name at hand. `any`: all of them in an order that no cache foresees; a
 * machine's memory sets that figure, so the same walk over plain records (`memory`) stands beside it.
 */
import process from "node:process";
import { systemClock } from "../src/base/clock.ts";
import { Holder } from "../src/policy/holder.ts";
import { Limiter, limiterMemory, type OpenAnswer, type ConnectAnswer } from "../src/policy/limiter.ts";
import type { Rule } from "../src/policy/rule.ts";
import { median } from "./median.ts";

const words = process.argv.slice(2);
const isShared = words.includes("shared");
const count = Number(words.find((word) => /^\d+$/.test(word)) ?? 1_000_000);
const turns = 1_000_000;
const rounds = 5;

const rate = { perSecond: 1_000, burst: 2 ** 30 };
const rule: Rule = {
  clients: ["*"],
  targets: ["*"],
  limits: { connects: rate, connections: 1_000, opens: rate, pipes: 1_000, bytes: rate, messages: rate },
  line: 0,
};

function cpu(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1_000;
}

/** Its name is flat, as those are that were read from a certificate. */
const holder = (name: string): Holder => new Holder(Buffer.from(`spiffe://dev/agent/${name}`).toString("latin1"));

function each(act: (index: number) => void): number {
  const begin = cpu();
  for (let turn = 0; turn < turns; turn++) act(turn);
  return (cpu() - begin) / turns;
}

function said(figure: string, value: string): void {
  process.stdout.write(`${figure.padEnd(44)} ${value}\n`);
}

function measure(figure: string, act: (index: number) => void): void {
  said(figure, `${median(Array.from({ length: rounds }, () => each(act))).toFixed(0)} ns`);
}

const collect = (): void => (globalThis as { gc?: () => void }).gc?.();

function used(): number {
  collect();
  const { heapUsed, external, rss } = process.memoryUsage();
  return isShared ? rss : heapUsed + external;
}

const connected = (answer: ConnectAnswer): void => (answer.ok ? answer.release() : undefined);
const opened = (answer: OpenAnswer): void => (answer.ok ? answer.lease.release() : undefined);

const holders = Array.from({ length: count }, (_, index) => holder(String(index)));
const any = (index: number): Holder => holders[(index * 7_919) % count]!;
const hot = (index: number): Holder => holders[index % Math.min(count, 1_000)]!;

const before = used();
const limiter = new Limiter(isShared ? { clock: systemClock, memory: limiterMemory(count) } : { clock: systemClock, maxAccounts: count });
/** The longest of the spans between its calls, of which only each hundredth counts. CPU, as the garbage collector's pauses are. */
class Longest {
  ms = 0;
  #last = cpu();
  #calls = 0;

  mark(): void {
    if (this.#calls++ % 100 > 0) return;
    const now = cpu();
    this.ms = Math.max(this.ms, (now - this.#last) / 1e6);
    this.#last = now;
  }
}

const first = new Longest();
for (const one of holders) {
  limiter.connect(new Holder(one.principal), rule); // stays, so that it is not forgotten; its connection is none of the limiter's
  first.mark();
}
said(`bytes an identity, ${limiter.accounts} known`, ((used() - before) / count).toFixed(1));
said("longest 100 first decisions", `${first.ms.toFixed(1)} ms`);

measure("the clock alone", () => void systemClock.now());
for (const [name, who] of [
  ["hot", hot],
  ["any", any],
] as const) {
  measure(`connect and release, ${name}`, (index) => connected(limiter.connect(who(index), rule)));
  measure(`open and release, with throttles, ${name}`, (index) => opened(limiter.openPipe(who(index), rule)));
  measure(`refused open charged, ${name}`, (index) => void limiter.chargeRefusedOpen(who(index), rule));
}
const lease = limiter.openPipe(hot(0), { ...rule, limits: { bytes: { perSecond: 2 ** 40, burst: 2 ** 40 } } });
if (lease.ok) measure("admit a chunk", () => void lease.lease.inbound.admit(100, 0, () => {}));

const plain = new Int32Array(count * 28).map((_, index) => index);
let sum = 0;
measure("memory: one read at a place that the last names", (index) => {
  sum = plain[(((index * 7_919 + sum) % count) * 28) | 0]!;
});

// Every identity is new, and each thing it did has come back: records go round.
const fleeting = new Limiter(isShared ? { clock: systemClock, memory: limiterMemory(count) } : { clock: systemClock, maxAccounts: count });
const quick: Rule = { ...rule, limits: { pipes: 10, opens: { perSecond: 1_000_000, burst: 10 } } };
const worst = new Longest();
measure("strangers come and go (with their names made)", (index) => {
  opened(fleeting.openPipe(new Holder(`stranger ${sum++} ${index}`), quick));
  worst.mark();
});
said("longest 100 of them", `${worst.ms.toFixed(1)} ms`);
