/** A clock that moves only when told: timers fire in order of their time, `soon` acts run in `turn()` and before time moves. */
import type { Clock, Timer } from "../../src/base/clock.ts";

export class FakeClock implements Clock {
  #now = 0;
  #wall: number;
  #timers: { at: number; act: () => void }[] = [];
  #soon: (() => void)[] = [];

  constructor(wall = Date.UTC(2026, 0, 1)) {
    this.#wall = wall;
  }
  wall(): number {
    return this.#wall + this.#now;
  }
  now(): number {
    return this.#now;
  }
  after(ms: number, act: () => void): Timer {
    const entry = { at: this.#now + Math.max(0, ms), act };
    this.#timers.push(entry);
    return {
      cancel: () => {
        const index = this.#timers.indexOf(entry);
        if (index >= 0) this.#timers.splice(index, 1);
      },
    };
  }
  soon(act: () => void): void {
    this.#soon.push(act);
  }
  /** Runs every `soon` act, also those that these add; at most `limit` of them. */
  turn(limit = 1_000_000): void {
    while (this.#soon.length > 0) {
      if (limit-- === 0) throw new Error("the clock's turn does not end");
      this.#soon.shift()!();
    }
  }
  /** Moves time on by `ms`, firing what falls due on the way. */
  advance(ms: number): void {
    const end = this.#now + ms;
    this.turn();
    for (;;) {
      let next: { at: number; act: () => void } | undefined;
      for (const timer of this.#timers) if (timer.at <= end && (next === undefined || timer.at < next.at)) next = timer;
      if (next === undefined) break;
      this.#timers.splice(this.#timers.indexOf(next), 1);
      this.#now = next.at;
      next.act();
      this.turn();
    }
    this.#now = end;
  }
  /** Timers that still wait. */
  get waiting(): number {
    return this.#timers.length;
  }
}
