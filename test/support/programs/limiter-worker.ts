/** A thread with a Limiter on shared memory: for each message it takes all that it can get of what the message names, and says how much. */
import process from "node:process";
import { parentPort, workerData } from "node:worker_threads";
import { systemClock } from "../../../src/base/clock.ts";
import { Holder } from "../../../src/policy/holder.ts";
import { type Connected, Limiter } from "../../../src/policy/limiter.ts";
import type { Rule } from "../../../src/policy/rule.ts";

export interface LimiterWork {
  readonly memory: SharedArrayBuffer;
  /** Milliseconds, in one number. */
  readonly time: SharedArrayBuffer;
  readonly rule: Rule;
  readonly names: readonly string[];
}

export interface Round {
  readonly act: "opens" | "connect" | "release" | "clock" | "end";
  /** Before the names of others, so that they differ from one round to the next. */
  readonly strangers: string;
}

const { memory, time, rule, names } = workerData as LimiterWork;
const now = new Float64Array(time);
const limiter = new Limiter({ memory, clock: { ...systemClock, now: () => now[0]! } });
const holders = names.map((name) => new Holder(`spiffe://dev/${name}`));
const held: Connected[] = [];

/** Accounts that come and go meanwhile: every record is taken and given back many times over. */
function disturb(prefix: string, index: number): void {
  const seat = limiter.connect(new Holder(`${prefix}${index}`), rule);
  if (seat.ok) seat.release();
}

function opens(prefix: string): number[] {
  const taken = holders.map(() => 0);
  const open = new Set(holders.keys());
  for (let turn = 0; open.size > 0; turn++) {
    for (const index of open) {
      if (limiter.chargeRefusedOpen(holders[index]!, rule) === 0) taken[index]!++;
      else open.delete(index);
    }
    disturb(prefix, turn);
  }
  return taken;
}

function connect(): number[] {
  return holders.map((holder) => {
    let count = 0;
    for (;;) {
      const seat = limiter.connect(holder, rule);
      if (!seat.ok) return count;
      held.push(seat);
      count++;
    }
  });
}

function release(prefix: string): number[] {
  for (const [index, seat] of held.splice(0).entries()) {
    seat.release();
    disturb(prefix, index);
  }
  return [];
}

parentPort!.on("message", ({ act, strangers }: Round) => {
  if (act === "end") process.exit();
  const acts = { opens, connect, release, clock: () => [systemClock.now()] };
  parentPort!.postMessage(acts[act](strangers));
});
