/** How a load drives a subject and counts what that cost it. Leaves to others: which loads there are (loads.ts). */
import { join } from "node:path";
import { root } from "../scripts/tree.ts";
import { ask, cpuSeconds, residentKib, sleep } from "./children.ts";
import type { Running, Subject } from "./subjects.ts";

/** Programs that make the load. */
export interface Tools {
  /** The compiled load.c. */
  readonly load: string;
  readonly folder: string;
  /** Divides the sizes. */
  readonly divide: number;
}

export type Using = Tools & { readonly kind: Subject["kind"] };
export type Found = Record<string, number>;

const node = join(root, "node_modules/.bin/node");

/** The C load: TLS, or plain TCP into a port that ssh forwards. */
export function raw(using: Using, ...words: readonly (string | number)[]): Promise<Found> {
  const command = [using.load, using.kind === "ssh" ? "tcp" : "tls", ...words.map(String)];
  return ask(command, { environment: { CERTS: using.folder } });
}

export function framedWords(on: Running, words: readonly (string | number)[]): string[] {
  return [node, join(root, "bench/framed.ts"), String(on.framed), ...words.map(String)];
}

/** The client of pipegate/1. */
export function framed(on: Running, using: Using, ...words: readonly (string | number)[]): Promise<Found> {
  return ask(framedWords(on, words), { environment: { CERTS: using.folder } });
}

/** CPU seconds of the subject while `act` ran and shortly after; wall seconds as `act` counted them. */
export async function costing(
  act: () => Promise<Found>,
  { on, using }: { readonly on: Running; readonly using: Tools },
): Promise<{ readonly cpu: number; readonly seconds: number }> {
  await sleep(100);
  const before = cpuSeconds(using.load, on.pid);
  const { seconds } = await act();
  await sleep(150);
  return { cpu: cpuSeconds(using.load, on.pid) - before, seconds: seconds! };
}

/** Resident KiB. Memory settles a while after the work. */
export async function settled(on: Running): Promise<number> {
  await sleep(1500);
  return residentKib(on.pid);
}
