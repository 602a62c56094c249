/** The live pipes, for those who look in. Leaves to others: opening and closing them. */
import type { Identity } from "../identity/identity.ts";
import type { Pipe } from "./pipe.ts";

export interface PipeEntry {
  readonly id: string;
  readonly connection: string;
  readonly source: string;
  readonly identity: Identity;
  readonly target: string;
  readonly backEnd: string;
  /** The line of the rule that let it. */
  readonly rule: number;
  readonly messages: boolean;
  /** Milliseconds since the epoch. */
  readonly openedAt: number;
  readonly pipe: Pipe;
}

export class PipeRegistry {
  readonly #entries = new Set<PipeEntry>();

  add(entry: PipeEntry): void {
    this.#entries.add(entry);
  }

  remove(entry: PipeEntry): void {
    this.#entries.delete(entry);
  }

  list(): IterableIterator<PipeEntry> {
    return this.#entries.values();
  }
}
