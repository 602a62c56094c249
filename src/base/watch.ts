/**
 * Notices that files changed, by asking for their stat again and again: what works for an atomic rename, an edit in place, Kubernetes'
 * swapped symlinks and a network's folder alike, which the systems' own notices do not.
 * Promises: a change is told once it has rested for a whole interval, and after five intervals at the latest; what changes while the
 * files are being read is told again; a file that is missing is a value like any other; a folder that hangs stops the watching only.
 * Leaves to others: reading the files, and judging them.
 */
import { stat } from "node:fs/promises";
import type { Clock, Timer } from "./clock.ts";

export const watchDefaults = { intervalMs: 1_000 } as const;
/** How many intervals a change may stay restless before it is told nevertheless. */
const PATIENCE = 5;

export interface WatchOptions {
  readonly clock: Clock;
  /** Between two looks; a function is asked after each. Default: 1,000 ms. */
  readonly intervalMs?: number | (() => number);
  /** The files differ from what was acknowledged; what they are now counts as acknowledged. Does not throw. */
  changed(): void;
}

export interface FileWatch {
  /** Watches these instead; what they are now is acknowledged. Call it before you read them, and await it: it settles once they were looked at. */
  watch(files: readonly string[]): Promise<void>;
  /** Watches these too; those that are watched already keep what was acknowledged. For what reading one file brought to light. */
  extend(files: readonly string[]): Promise<void>;
  stop(): void;
}

/** Watches from now on, until `stop`. */
export function watchFiles(files: readonly string[], options: WatchOptions): FileWatch {
  const watch = new PollingWatch(options);
  void watch.watch(files);
  return watch;
}

/** By file: what tells one state of it from another. */
type Fingerprints = ReadonlyMap<string, string>;

class PollingWatch implements FileWatch {
  readonly #options: WatchOptions;
  #files: readonly string[] = [];
  #acknowledged: Fingerprints = new Map();
  #last: Fingerprints = new Map();
  /** Looks since the change was first seen. */
  #restless = 0;
  /** Counts what makes a look that is under way worthless. */
  #turn = 0;
  #timer: Timer | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  watch(files: readonly string[]): Promise<void> {
    return this.#begin(files, new Map());
  }
  extend(files: readonly string[]): Promise<void> {
    return this.#begin([...this.#files, ...files], this.#acknowledged);
  }
  stop(): void {
    this.#turn++;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  async #begin(files: readonly string[], known: Fingerprints): Promise<void> {
    this.stop();
    const turn = this.#turn;
    this.#files = [...new Set(files)];
    const now = await look(this.#files);
    if (turn !== this.#turn) return;
    this.#acknowledged = this.#last = new Map([...now, ...known]);
    this.#restless = 0;
    this.#arm();
  }
  #arm(): void {
    const { clock, intervalMs = watchDefaults.intervalMs } = this.#options;
    this.#timer = clock.after(typeof intervalMs === "number" ? intervalMs : intervalMs(), () => void this.#again());
  }
  async #again(): Promise<void> {
    const turn = this.#turn;
    const now = await look(this.#files);
    if (turn !== this.#turn) return;
    this.#arm();
    const rests = same(now, this.#last);
    this.#last = now;
    if (same(now, this.#acknowledged)) {
      this.#restless = 0;
      return;
    }
    this.#restless++;
    if (!rests && this.#restless <= PATIENCE) return;
    this.#acknowledged = now;
    this.#restless = 0;
    this.#options.changed();
  }
}

async function look(files: readonly string[]): Promise<Fingerprints> {
  return new Map(await Promise.all(files.map(async (file) => [file, await fingerprint(file)] as const)));
}

/** Follows links: a swapped one leads to another inode. */
async function fingerprint(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    return String((error as { readonly code?: unknown }).code);
  }
}

function same(one: Fingerprints, other: Fingerprints): boolean {
  return one.size === other.size && [...one].every(([file, print]) => other.get(file) === print);
}
