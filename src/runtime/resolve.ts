/**
 * Host names to addresses, in the order of the system's resolver. Promises: one question a name is under way at most, for a blocked
 * resolver must not take all of the runtime's threads; answers are kept for a second. Leaves to others: which names may be asked for
 * (those of the config only), and deadlines: a question goes on after its asker gave up.
 */
import { lookup } from "node:dns";
import type { Clock } from "../base/clock.ts";

/** Answers are kept for so long, and no more than so many addresses of each. */
const KEEP_MS = 1_000;
const MAX_ADDRESSES = 8;

interface Answer {
  readonly addresses: Promise<readonly string[]>;
  /** When it goes stale; undefined while the question is under way. */
  until: number | undefined;
}

const answers = new Map<string, Answer>();

/** The addresses of `host`, which is a name: at least one. Rejects with the resolver's error. */
export function resolve(host: string, clock: Clock): Promise<readonly string[]> {
  const known = answers.get(host);
  if (known !== undefined && (known.until === undefined || clock.now() < known.until)) return known.addresses;
  const answer: Answer = { addresses: ask(host), until: undefined };
  answers.set(host, answer);
  answer.addresses.then(
    () => (answer.until = clock.now() + KEEP_MS),
    () => answers.delete(host),
  );
  return answer.addresses;
}

/** Forgets what is known of `host`: no address of it answered. */
export function forget(host: string): void {
  if (answers.get(host)?.until !== undefined) answers.delete(host);
}

function ask(host: string): Promise<readonly string[]> {
  return new Promise((settle, reject) => {
    lookup(host, { all: true, order: "verbatim" }, (error, found) => {
      if (error !== null) reject(error);
      else if (found.length === 0) reject(Object.assign(new Error("no address"), { code: "ENOTFOUND" }));
      else settle(found.slice(0, MAX_ADDRESSES).map((each) => each.address));
    });
  });
}
