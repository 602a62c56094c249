/**
 * What is wrong with a config, each as one line that an editor can follow: `file:line:col path: expected ..., got ...; did you mean ...`.
 * Promises: every line is printable and bounded; a ConfigError lists all of them, in the order of the file.
 */
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";

/** Keys and indexes from the top of the config to a value. */
export type Path = readonly (string | number)[];

/** Where something stands in the file; both count from 1. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

export interface Problem {
  /** Undefined: the config was made by a program, or the whole file is meant. */
  readonly place: Place | undefined;
  readonly path: Path;
  /** What is wrong and how to mend it, without the place. */
  readonly says: string;
}

const SHOWN_PROBLEMS = 100;

/** A config that cannot be taken. One problem is the message; several are `details`, one line each. */
export class ConfigError extends PipegateError {
  readonly problems: readonly Problem[];

  /** `file`: what the config is called in messages. At least one problem. */
  constructor(file: string, problems: readonly Problem[]) {
    const sorted = [...problems].sort(byPlace);
    const lines = sorted.slice(0, SHOWN_PROBLEMS).map((problem) => problemLine(file, problem));
    if (sorted.length > lines.length) lines.push(`${file}: and ${sorted.length - lines.length} more`);
    if (lines.length === 1) super("config", lines[0]);
    else super("config", `${sorted.length} errors in ${file}`, { details: lines });
    this.problems = sorted;
  }
}

function byPlace(a: Problem, b: Problem): number {
  return (a.place?.line ?? 0) - (b.place?.line ?? 0) || (a.place?.column ?? 0) - (b.place?.column ?? 0);
}

export function problemLine(file: string, { place, path, says }: Problem): string {
  const where = place === undefined ? file : `${file}:${place.line}:${place.column}`;
  return printable(path.length === 0 ? `${where}: ${says}` : `${where} ${pathText(path)}: ${says}`, 600);
}

/** `rules[0].limits.opens`; keys that are no plain words in quotes. */
export function pathText(path: Path): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else if (/^[A-Za-z_][\w-]*$/.test(step)) text += text === "" ? step : `.${step}`;
    else text += `[${JSON.stringify(printable(step, 60))}]`;
  }
  return text;
}

/** A value as a person would call it. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case "undefined":
      return "nothing";
    case "string":
      return `"${printable(value, 60)}"`;
    case "number":
    case "boolean":
      return String(value);
    case "object":
      if (value === null) return "nothing";
      return Array.isArray(value) ? (value.length === 0 ? "an empty list" : "a list") : "a map";
    default:
      return `a ${typeof value}`;
  }
}

/** `expected ..., got ...; NOTE`. */
export function mismatch(expected: string, got: unknown, note?: string): string {
  return `expected ${expected}, got ${shown(got)}${note === undefined ? "" : `; ${note}`}`;
}

/** `did you mean X` for the known word that is nearest to `word`, when one is near. */
export function didYouMean(word: string, known: Iterable<string>): string | undefined {
  const name = nearest(word, known);
  return name === undefined ? undefined : `did you mean ${name}`;
}

/** Comparisons for one config: less than a second, however many names are misspelt. */
const MAX_COMPARED = 50_000;

/** A didYouMean for names of the user's choice, of which there may be thousands: it falls silent after so many comparisons. */
export function createSuggest(): (word: string, known: { readonly size: number; keys(): Iterable<string> }) => string | undefined {
  let left = MAX_COMPARED;
  return (word, known) => {
    left -= known.size;
    return left < 0 ? undefined : didYouMean(word, known.keys());
  };
}

export function nearest(word: string, known: Iterable<string>): string | undefined {
  if (word.length === 0 || word.length > 64) return undefined;
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const name of known) {
    const reach = Math.max(1, Math.floor(Math.max(word.length, name.length) / 3));
    if (Math.abs(word.length - name.length) > reach) continue;
    const distance = editDistance(word.toLowerCase(), name.toLowerCase());
    if (distance <= reach && distance < (best?.distance ?? Infinity)) best = { name, distance };
  }
  return best?.name;
}

/** Letters put in, left out, changed, or two neighbours swapped. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, before[j - 2]! + 1);
      next.push(least);
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
}
