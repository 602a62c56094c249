/**
 * How many descriptors the process may hold, and who may take them: connections of clients and of back ends are counted, so that files,
 * names and the admin socket always find some. Promises: clients take half at most, as each may need a back end; nothing is counted where
 * the system does not say how many there are. Leaves to others: to turn away, to give back.
 */
import { readdirSync, readFileSync } from "node:fs";

export interface Descriptors {
  /** Takes one for a client's connection. What gives it back, once; undefined: none is left. */
  forClient(): (() => void) | undefined;
  /** The same for a back end's. */
  forBackEnd(): (() => void) | undefined;
  /** So many may be accepted at once, before those that are too many are closed again. */
  readonly burst: number;
}

/** What is kept for the rest: this many, or this part. */
const RESERVE = 32;
const RESERVE_PART = 16;
/** What runtimes ask for otherwise: connections that the system keeps until they are accepted. */
const BACKLOG = 511;

/** How many there are, and what is taken. */
export interface DescriptorCounts {
  /** Of the process. */
  readonly limit: number;
  /** By what it is made of, before anybody connects. */
  readonly used: number;
  /** Those of clients, those of back ends; threads of the process share it. Default: none are taken. */
  readonly taken?: Int32Array;
  /** How many share it. Default: 1. */
  readonly threads?: number;
}

export function createDescriptors({ limit, used, taken = new Int32Array(2), threads = 1 }: DescriptorCounts): Descriptors {
  const reserve = Math.max(RESERVE, Math.ceil(limit / RESERVE_PART));
  const seats = Math.max(2, limit - used - reserve);
  const maxClients = Math.floor(seats / 2);
  /** The place in `taken`. */
  const take = (of: 0 | 1, most: number): (() => void) | undefined => {
    let isTaken = true;
    const giveBack = (): void => {
      if (isTaken) Atomics.sub(taken, of, 1);
      isTaken = false;
    };
    if (Atomics.add(taken, of, 1) < most && Atomics.load(taken, 0) + Atomics.load(taken, 1) <= seats) return giveBack;
    giveBack();
    return undefined;
  };
  return {
    forClient: () => take(0, maxClients),
    forBackEnd: () => take(1, seats),
    burst: Math.min(BACKLOG, Math.ceil((reserve * 3) / 4 / threads)),
  };
}

const unlimited: Descriptors = { forClient: () => () => {}, forBackEnd: () => () => {}, burst: BACKLOG };

let ofProcess: Descriptors | undefined;

/** Those of this process, as it stands at the first call: ask before anybody connects. */
export function processDescriptors(): Descriptors {
  return (ofProcess ??= readDescriptors());
}

/** In a thread: those that its process shares out among all. Undefined: there is no limit. */
export function shareDescriptors(counts: DescriptorCounts | undefined): void {
  ofProcess = counts === undefined ? unlimited : createDescriptors(counts);
}

function readDescriptors(): Descriptors {
  const counts = countDescriptors();
  return counts === undefined ? unlimited : createDescriptors(counts);
}

/** As the process stands now. Undefined: there is no limit, or nobody says. */
export function countDescriptors(): DescriptorCounts | undefined {
  try {
    const limit = parseLimit(readFileSync("/proc/self/limits", "utf8"));
    return limit === undefined ? undefined : { limit, used: readdirSync("/proc/self/fd").length };
  } catch {
    return undefined; // no /proc: not Linux, or not for us
  }
}

/** The soft limit in the text of /proc/self/limits. Undefined: there is none. */
export function parseLimit(text: string): number | undefined {
  const soft = /^Max open files +(\d{1,15}) /m.exec(text)?.[1];
  return soft === undefined ? undefined : Number(soft);
}
