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

/** `limit` of the process; `used` by what it is made of, before anybody connects. */
export function createDescriptors({ limit, used }: { readonly limit: number; readonly used: number }): Descriptors {
  const reserve = Math.max(RESERVE, Math.ceil(limit / RESERVE_PART));
  const seats = Math.max(2, limit - used - reserve);
  const maxClients = Math.floor(seats / 2);
  let [clients, backEnds] = [0, 0];
  const once = (act: () => void): (() => void) => {
    let isDone = false;
    return () => {
      if (isDone) return;
      isDone = true;
      act();
    };
  };
  return {
    forClient: () => {
      if (clients >= maxClients || clients + backEnds >= seats) return undefined;
      clients++;
      return once(() => clients--);
    },
    forBackEnd: () => {
      if (clients + backEnds >= seats) return undefined;
      backEnds++;
      return once(() => backEnds--);
    },
    burst: Math.min(BACKLOG, Math.ceil((reserve * 3) / 4)),
  };
}

const unlimited: Descriptors = { forClient: () => () => {}, forBackEnd: () => () => {}, burst: BACKLOG };

let ofProcess: Descriptors | undefined;

/** Those of this process, as it stands at the first call: ask before anybody connects. */
export function processDescriptors(): Descriptors {
  return (ofProcess ??= readDescriptors());
}

function readDescriptors(): Descriptors {
  try {
    const limit = parseLimit(readFileSync("/proc/self/limits", "utf8"));
    return limit === undefined ? unlimited : createDescriptors({ limit, used: readdirSync("/proc/self/fd").length });
  } catch {
    return unlimited; // no /proc: not Linux, or not for us
  }
}

/** The soft limit in the text of /proc/self/limits. Undefined: there is none. */
export function parseLimit(text: string): number | undefined {
  const soft = /^Max open files +(\d{1,15}) /m.exec(text)?.[1];
  return soft === undefined ? undefined : Number(soft);
}
