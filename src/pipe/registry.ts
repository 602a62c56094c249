/** The live pipes: what `status` shows, and what draining and killing act on. Leaves to others: opening and closing them. */
import type { Break } from "../base/channel.ts";
import type { Pipe } from "./pipe.ts";

export interface PipeEntry {
  readonly id: string;
  readonly connection: string;
  readonly principal: string;
  readonly target: string;
  readonly backEnd: string;
  readonly messages: boolean;
  /** Milliseconds since the epoch. */
  readonly openedAt: number;
  readonly pipe: Pipe;
}

export class PipeRegistry {
  readonly #entries = new Map<string, PipeEntry>();
  #idle: (() => void)[] = [];

  get size(): number {
    return this.#entries.size;
  }

  add(entry: PipeEntry): void {
    this.#entries.set(entry.id, entry);
  }

  remove(id: string): void {
    this.#entries.delete(id);
    if (this.#entries.size > 0) return;
    for (const act of this.#idle) act();
    this.#idle = [];
  }

  list(): IterableIterator<PipeEntry> {
    return this.#entries.values();
  }

  kill(broken: Break): void {
    for (const entry of [...this.#entries.values()]) entry.pipe.kill(broken);
  }

  /** Calls `act` once when no pipe is live; at once when none is. */
  whenIdle(act: () => void): void {
    if (this.#entries.size === 0) act();
    else this.#idle.push(act);
  }
}
