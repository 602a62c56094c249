/**
 * A worker, seen from the leader: questions with their answers, and how it ended. Promises: every question is answered or rejected, also when
 * the worker ends; one that hangs is ended; whatever else it says goes to `said`. Leaves to others: when to look, what follows from its end.
 */
import { PipegateError } from "../base/error.ts";
import { startThread, type Thread } from "../runtime/threads.ts";
import { errorOf, type Calls, type ToLeader, type ToWorker, type WorkerData } from "./messages.ts";

export type Said = Exclude<ToLeader, { readonly kind: "answer" | "failure" | "fault" | "alive" }>;

export interface RemoteEvents {
  said(message: Said): void;
  /** It has ended, and was not told to; with the fault, where there was one. */
  died(fault: Error | undefined): void;
}

/** So many looks in a row that it does not answer, and it hangs. While 64 start on two busy processors, each waits for long. */
const MAX_SILENT = { atStart: 300, later: 10 } as const;

interface Waiting {
  resolve(value: never): void;
  reject(error: Error): void;
}

export class Remote {
  readonly #thread: Thread;
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;
  #fault: Error | undefined;
  #ending = false;
  #ended = false;
  /** Looks that it has not answered. */
  #silent = 0;
  #maxSilent: number = MAX_SILENT.atStart;

  constructor({ program, data }: { readonly program: URL; readonly data: WorkerData }, events: RemoteEvents) {
    this.#thread = startThread(program, {
      data,
      events: {
        message: (message) => this.#hear(message as ToLeader, events),
        ended: (unforeseen) => {
          const fault = this.#fault ?? unforeseen;
          this.#ended = true;
          for (const { reject } of this.#waiting.values()) reject(gone(fault));
          this.#waiting.clear();
          if (!this.#ending) events.died(fault);
        },
      },
    });
  }

  ask<Name extends keyof Calls>(name: Name, ...args: Parameters<Calls[Name]>): Promise<Awaited<ReturnType<Calls[Name]>>> {
    if (this.#ended) return Promise.reject(gone());
    const id = ++this.#asked;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.tell({ kind: "call", id, name, args });
    });
  }

  tell(message: ToWorker): void {
    this.#thread.post(message);
  }

  /**
   * Once a second. Counted in looks, not in time: where the whole process stood still, so did we.
   * A thread in an endless loop would keep its clients, whom no reload reaches, and keep drains and reloads waiting.
   */
  look(): void {
    if (this.#ended || this.#silent > this.#maxSilent) return;
    if (++this.#silent <= this.#maxSilent) return this.tell({ kind: "look" });
    this.#fault ??= new Error(`it has not answered for ${this.#maxSilent} s`);
    void this.#thread.end();
  }

  /** It is open: from now on it has less time to answer. */
  started(): void {
    this.#silent = 0;
    this.#maxSilent = MAX_SILENT.later;
  }

  async end(): Promise<void> {
    this.#ending = true;
    await this.#thread.end();
  }

  #hear(message: ToLeader, events: RemoteEvents): void {
    if (message.kind === "fault") return void (this.#fault = errorOf(message.error));
    if (message.kind === "alive") return void (this.#silent = 0);
    if (message.kind !== "answer" && message.kind !== "failure") return events.said(message);
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.kind === "answer") waiting?.resolve(message.value as never);
    else waiting?.reject(errorOf(message.error));
  }
}

function gone(fault?: Error): PipegateError {
  return new PipegateError("internal", `a worker has ended${fault === undefined ? "" : `: ${fault.message}`}`);
}
