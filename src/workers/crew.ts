/**
 * The workers of a gateway, asked as one. Promises: a question waits for all, also when one fails, and for none that hangs; what one charges an address all charge;
 * each has the config with the addresses that all bind, and the first alone has unix sockets, which cannot be shared; the memory that they
 * share is made here. Leaves to others: what is asked when (leader.ts), what they say (told.ts).
 */
import type { Clock, Timer } from "../base/clock.ts";
import { logForm } from "../base/log-writer.ts";
import type { Config } from "../config/config.ts";
import type { Reloaded } from "../gateway.ts";
import { limiterMemory } from "../policy/limiter.ts";
import { createProbeMemory } from "../runtime/accepting.ts";
import { masked } from "../runtime/bind.ts";
import { countDescriptors } from "../runtime/descriptors.ts";
import { createTallyMemory } from "../tls/shared-tally.ts";
import { type PlainConfig, plainConfig, type SharedMemory, type ToWorker } from "./messages.ts";
import type { Placed } from "./places.ts";
import { Remote, type Said } from "./remote.ts";

export interface CrewEvents {
  said(message: Exclude<Said, { readonly kind: "charge" }>): void;
  /** In a sentence; with the fault, where there was one. */
  died(what: string, fault: Error | undefined): void;
}

/** What a thread of a runtime has open by itself, descriptors: 6 on Node. */
const OF_A_THREAD = 8;
const LOOK_MS = 1_000;

export interface CrewOptions {
  /** What each of them runs (runtime/threads.ts). */
  readonly program: URL;
  readonly clock: Clock;
}

export class Crew {
  readonly #options: CrewOptions;
  readonly #events: CrewEvents;
  readonly #workers: Remote[] = [];
  #looking: Timer | undefined;

  constructor(options: CrewOptions, events: CrewEvents) {
    this.#options = options;
    this.#events = events;
  }

  /** As many as the config asks for; rejects when one of them cannot open its doors. */
  async start(config: Config, placed: readonly Placed[]): Promise<void> {
    const { workers } = config;
    const memory = createMemory(config);
    const log = { level: config.log.level, ...logForm(config.log) };
    for (let index = 0; index < workers; index++) {
      const data = { config: configFor(index, config, placed), memory, log, workers };
      const worker: Remote = new Remote(
        { program: this.#options.program, data },
        {
          said: (message) => {
            if (message.kind === "charge") this.tell(message, worker);
            else this.#events.said(message);
          },
          died: (fault) => this.#events.died(`worker ${index + 1} of ${workers} has ended`, fault),
        },
      );
      this.#workers.push(worker);
    }
    this.#look();
    await maskedFor(config, () => this.ask((worker) => worker.ask("open")));
    for (const worker of this.#workers) worker.started();
  }

  /** One that hangs is found, until all are told to end. */
  #look(): void {
    for (const worker of this.#workers) worker.look();
    this.#looking = this.#options.clock.after(LOOK_MS, () => this.#look());
  }

  /** Another config, in all or in none. */
  async prepare(config: Config, placed: readonly Placed[]): Promise<readonly Reloaded[]> {
    const all = (): Promise<Reloaded[]> => this.ask((worker, index) => worker.ask("prepare", configFor(index, config, placed)));
    try {
      return await maskedFor(config, all);
    } catch (error) {
      await this.abandon();
      throw error;
    }
  }

  /** What was prepared will not be. */
  async abandon(): Promise<void> {
    await Promise.allSettled(this.#workers.map((worker) => worker.ask("abandon")));
  }

  /** Resolves with the answers, in their order. */
  async ask<T>(act: (worker: Remote, index: number) => Promise<T>): Promise<T[]> {
    const ends = await Promise.allSettled(this.#workers.map(act));
    const failure = ends.find((end) => end.status === "rejected");
    if (failure !== undefined) throw failure.reason;
    return ends.map((end) => (end as PromiseFulfilledResult<T>).value);
  }

  tell(message: ToWorker, except?: Remote): void {
    for (const worker of this.#workers) if (worker !== except) worker.tell(message);
  }

  async end(): Promise<void> {
    this.#looking?.cancel();
    await Promise.all(this.#workers.map((worker) => worker.end()));
  }
}

export function createMemory({ workers, listeners }: Config): SharedMemory {
  const counts = countDescriptors();
  const taken = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  return {
    tally: createTallyMemory(),
    probes: createProbeMemory(),
    limiter: limiterMemory(),
    descriptors: counts && { limit: counts.limit, used: counts.used + workers * (OF_A_THREAD + listeners.length), taken, threads: workers },
  };
}

/**
 * A socket cannot be handed to another thread. By the number of its descriptor both could listen on it, but then both own the number, and
 * the second to close it closes whatever has it by then.
 */
function configFor(index: number, config: Config, placed: readonly Placed[]): PlainConfig {
  const listeners = config.listeners
    .map((listener, at) => ({ ...listener, listen: placed[at]!.listen }))
    .filter(({ listen }) => listen.kind === "tcp" || index === 0);
  return plainConfig({ ...config, listeners });
}

/** The umask is the process's: where a worker binds a unix socket, it is set here meanwhile. */
function maskedFor<T>({ listeners }: Config, act: () => Promise<T>): Promise<T> {
  return listeners.some(({ listen }) => listen.kind === "unix") ? masked(act) : act();
}
