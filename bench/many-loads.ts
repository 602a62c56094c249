/** The load that workers are for: many connections at once, made and busy. What the busiest thread does bounds what processors can bring. */
import { threadSeconds, sleep } from "./children.ts";
import { type Found, raw, type Using } from "./driving.ts";
import type { Running } from "./subjects.ts";

interface Spread {
  /** CPU us each, in all and of the thread that had most to do. */
  readonly cpu: number;
  readonly top: number;
  /** A second. */
  readonly rate: number;
}

/** What `act`, which tells its seconds, costs for each of `count`. */
async function spread(act: () => Promise<number>, { on, count }: { readonly on: Running; readonly count: number }): Promise<Spread> {
  await sleep(100);
  const before = threadSeconds(on.pid);
  const seconds = await act();
  await sleep(150);
  const used = [...threadSeconds(on.pid)].map(([thread, after]) => after - (before.get(thread) ?? 0));
  const each = (cpu: number): number => (cpu / count) * 1e6;
  return { cpu: each(used.reduce((sum, one) => sum + one, 0)), top: each(Math.max(...used)), rate: count / seconds };
}

export async function many(on: Running, using: Using): Promise<Found> {
  await raw(using, "connections", on.echo, 3000 / Math.min(4, using.divide), 16); // each thread compiles for itself, some 1,000 connections long
  const connected = 2400 / using.divide;
  const make = async (): Promise<number> => (await raw(using, "connections", on.echo, connected, 16))["seconds"]!;
  const made = await spread(make, { on, count: connected });
  const [busy, echoes] = [64, 1000 / using.divide];
  const talk = async (): Promise<number> => {
    const started = performance.now();
    await Promise.all(Array.from({ length: busy }, () => raw(using, "echo", on.echo, 1024, 1, echoes)));
    return (performance.now() - started) / 1000;
  };
  const echoed = await spread(talk, { on, count: busy * echoes });
  return {
    ...{ manyConnectionCpu: made.cpu, manyConnectionTop: made.top, manyConnectionRate: made.rate },
    ...{ busyCpu: echoed.cpu, busyTop: echoed.top, busyRate: echoed.rate },
  };
}
