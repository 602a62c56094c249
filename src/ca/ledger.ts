/**
 * What the CA has done: `issued.jsonl` in its folder, one JSON object a line, only ever appended to: `issued`, `revoked`, `listed`.
 * Promises: an act counts once its line is whole and on disk; several may write at once; a line that a killed writer left unfinished
 * counts for nothing and is closed with `#cut` by the next writer. Any other damage is refused, as it may hide a revocation.
 */
import { open } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { PipegateError } from "../base/error.ts";
import { codeOf, readIfThere } from "./files.ts";
import { revocationReasons, type RevocationReason } from "./reasons.ts";

const hex = v.pipe(v.string(), v.regex(/^[0-9a-f]{2,64}$/u));
const time = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.transform((text) => Date.parse(text)),
);
/** `ca`: the key identifier of the CA that acted; a folder can have had several. */
const act = { at: time, ca: hex };
const entry = v.variant("event", [
  v.object({
    event: v.literal("issued"),
    ...act,
    serial: hex,
    role: v.picklist(["gateway", "client", "agent"]),
    names: v.array(v.string()),
    key: v.string(),
    notBefore: time,
    notAfter: time,
    fingerprint: v.string(),
    /** The certificate's file, inside the folder or absolute. */
    file: v.string(),
  }),
  v.object({ event: v.literal("revoked"), ...act, serial: hex, reason: v.picklist(Object.keys(revocationReasons) as RevocationReason[]) }),
  v.object({ event: v.literal("listed"), ...act, nextUpdate: time }),
]);

/** Times are milliseconds since the epoch; in the file, ISO 8601. */
export type Entry = v.InferOutput<typeof entry>;
export type Issued = Extract<Entry, { event: "issued" }>;
export type Revoked = Extract<Entry, { event: "revoked" }>;

export const ledgerName = "issued.jsonl";
const cut = "#cut";
/** Bytes; some 200,000 entries. */
const LARGEST = 64 << 20;

/** Resolves once the line is on disk. */
export async function append(folder: string, added: Entry): Promise<void> {
  const path = join(folder, ledgerName);
  const line = `${JSON.stringify(added, (key, value: unknown) => (isTime(key) ? new Date(value as number).toISOString() : value))}\n`;
  try {
    const file = await open(path, "a+", 0o600);
    try {
      const { size } = await file.stat();
      const last = Buffer.alloc(1);
      if (size > 0) await file.read(last, 0, 1, size - 1);
      const whole = Buffer.from(size > 0 && last[0] !== 0x0a ? `${cut}\n${line}` : line);
      const { bytesWritten } = await file.write(whole); // one write at the end of the file: lines of two writers never mix
      if (bytesWritten !== whole.length) throw Object.assign(new Error("short write"), { code: "ENOSPC" });
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw new PipegateError("config", `${path} cannot be written (${codeOf(cause)})`, { next: "mend that first; nothing was done", cause });
  }
}

function isTime(key: string): boolean {
  return key === "at" || key === "notBefore" || key === "notAfter" || key === "nextUpdate";
}

/** What the CA `ca`, or any, has done, in order. Throws PipegateError `config`. */
export async function readLedger(folder: string, { ca }: { readonly ca?: string } = {}): Promise<Entry[]> {
  const path = join(folder, ledgerName);
  const text = await readIfThere(path, LARGEST);
  if (text === undefined) return [];
  const lines = text.split("\n").slice(0, -1); // what follows the last newline is not written yet
  return lines.flatMap((line, index) => {
    if (line.endsWith(cut) || line === "") return [];
    const found = parseLine(line);
    if (found === undefined) {
      throw new PipegateError("config", `${path}:${index + 1} is damaged, and could be a revocation`, {
        next: `restore ${path} from a copy, or mend that line`,
      });
    }
    return ca === undefined || found.ca === ca ? [found] : [];
  });
}

function parseLine(line: string): Entry | undefined {
  try {
    const { success, output } = v.safeParse(entry, JSON.parse(line));
    return success ? output : undefined;
  } catch {
    return undefined;
  }
}

export interface Standing extends Issued {
  readonly revoked: Revoked | undefined;
}

/** Every certificate with what became of it, oldest first. */
export function standings(entries: readonly Entry[]): Standing[] {
  const revoked = revocations(entries);
  return entries.flatMap((one) => (one.event === "issued" ? [{ ...one, revoked: revoked.get(one.serial) }] : []));
}

/** By serial; the first revocation counts. */
export function revocations(entries: readonly Entry[]): Map<string, Revoked> {
  const found = new Map<string, Revoked>();
  for (const one of entries) if (one.event === "revoked" && !found.has(one.serial)) found.set(one.serial, one);
  return found;
}
