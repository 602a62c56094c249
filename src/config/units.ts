/**
 * Sizes, times and rates as people write them, with their units, and back. Promises: whole numbers out, never rounded; nothing is
 * guessed: what lacks its unit or is not exactly of the form is refused, with the right form where it can be told.
 */
import type { Reading } from "../base/reading.ts";
import type { Rate } from "../policy/rule.ts";

const sizeUnits = {
  B: 1,
  kB: 1e3,
  KiB: 2 ** 10,
  MB: 1e6,
  MiB: 2 ** 20,
  GB: 1e9,
  GiB: 2 ** 30,
  TB: 1e12,
  TiB: 2 ** 40,
} as const;
const timeUnits = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** For JSON Schema; the readers below accept nothing else. */
export const sizePattern: RegExp = /^[0-9]{1,15}(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB)$/;
export const timePattern: RegExp = /^[0-9]{1,12}(ms|s|m|h|d)$/;
export const ratePattern: RegExp = /^[0-9]{1,15}\/s( burst [0-9]{1,15})?$/;
export const byteRatePattern: RegExp =
  /^[0-9]{1,15}(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB)\/s( burst [0-9]{1,15}(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB))?$/;

/** What people write instead, in lower case. */
const sizeGuesses: Readonly<Record<string, keyof typeof sizeUnits>> = {
  b: "B",
  byte: "B",
  bytes: "B",
  k: "KiB",
  kb: "kB",
  kib: "KiB",
  m: "MiB",
  mb: "MB",
  mib: "MiB",
  g: "GiB",
  gb: "GB",
  gib: "GiB",
  t: "TiB",
  tb: "TB",
  tib: "TiB",
};
const timeGuesses: Readonly<Record<string, keyof typeof timeUnits>> = {
  ms: "ms",
  msec: "ms",
  millis: "ms",
  milliseconds: "ms",
  s: "s",
  sec: "s",
  secs: "s",
  second: "s",
  seconds: "s",
  m: "m",
  min: "m",
  mins: "m",
  minute: "m",
  minutes: "m",
  h: "h",
  hr: "h",
  hour: "h",
  hours: "h",
  d: "d",
  day: "d",
  days: "d",
};

/** `10MiB` as bytes. */
export function parseSize(text: string): Reading<number> {
  return parseAmount(text, { units: sizeUnits, guesses: sizeGuesses, bare: "B", pattern: sizePattern, format: formatSize });
}

/** `5s` as milliseconds. */
export function parseTime(text: string): Reading<number> {
  return parseAmount(text, { units: timeUnits, guesses: timeGuesses, bare: "s", pattern: timePattern, format: formatTime });
}

interface Scale {
  readonly units: Readonly<Record<string, number>>;
  readonly guesses: Readonly<Record<string, string>>;
  /** What a number without a unit most likely means. */
  readonly bare: string;
  readonly pattern: RegExp;
  format(value: number): string;
}

function parseAmount(text: string, scale: Scale): Reading<number> {
  const value = exactAmount(text, scale);
  if (value !== undefined)
    return Number.isSafeInteger(value) ? { ok: true, value } : { ok: false, note: "that is more than can be counted" };
  const guess = guessAmount(text, scale);
  return guess !== undefined && Number.isSafeInteger(exactAmount(guess, scale))
    ? { ok: false, note: `did you mean ${guess}` }
    : { ok: false };
}

/** Undefined: it is not of the form. */
function exactAmount(text: string, { pattern, units }: Scale): number | undefined {
  return pattern.test(text) ? Number.parseInt(text, 10) * units[text.replace(/^[0-9]+/, "")]! : undefined;
}

/** The right form of what somebody may have meant. */
function guessAmount(text: string, { units, guesses, bare, format }: Scale): string | undefined {
  const [, digits, word] = /^([0-9]{1,12}(?:\.[0-9]{1,6})?) {0,3}([A-Za-z]{0,12})$/.exec(text.trim()) ?? [];
  if (digits === undefined || word === undefined) return undefined;
  const unit = word === "" ? bare : Object.hasOwn(guesses, word.toLowerCase()) ? guesses[word.toLowerCase()] : undefined;
  if (unit === undefined) return undefined;
  if (!digits.includes(".") && Number(digits) > 0) return word === "" ? format(Number(digits) * units[bare]!) : `${Number(digits)}${unit}`;
  const value = Math.round(Number(digits) * units[unit]!);
  return value > 0 && Number.isSafeInteger(value) ? format(value) : undefined;
}

/** `50/s burst 100`. Without a burst it is one second's worth. */
export function parseRate(text: string): Reading<Rate> {
  return parseRateOf(text, { read: parseCount, pattern: ratePattern });
}

/** `10MiB/s burst 20MiB`. */
export function parseByteRate(text: string): Reading<Rate> {
  return parseRateOf(text, { read: parseSize, pattern: byteRatePattern });
}

function parseCount(text: string): Reading<number> {
  const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
  return value === undefined ? { ok: false } : { ok: true, value };
}

interface RateForm {
  read(text: string): Reading<number>;
  readonly pattern: RegExp;
}

function parseRateOf(text: string, { read, pattern }: RateForm): Reading<Rate> {
  if (!pattern.test(text)) {
    const guess = guessRate(text, read);
    const isGood = guess !== undefined && pattern.test(guess) && parseRateOf(guess, { read, pattern }).ok;
    return isGood ? { ok: false, note: `did you mean ${guess}` } : { ok: false };
  }
  const [rate, burst] = text.split("/s burst ") as [string, string | undefined];
  const perSecond = read(rate.replace(/\/s$/, ""));
  if (!perSecond.ok) return perSecond;
  const atOnce = burst === undefined ? perSecond : read(burst);
  return atOnce.ok ? { ok: true, value: { perSecond: perSecond.value, burst: atOnce.value } } : atOnce;
}

function guessRate(text: string, read: (text: string) => Reading<number>): string | undefined {
  const trimmed = text.trim().slice(0, 80);
  const [, rate, burst] = /^([^/,]+?) ?(?:\/ ?(?:s|sec|second)|ps)?(?:[ ,]+burst[ =:]*([^ ]+))?$/i.exec(trimmed) ?? [];
  if (rate === undefined) return undefined;
  const mended = (part: string): string | undefined => {
    const reading = read(part);
    return reading.ok ? part : reading.note?.replace(/^did you mean /, "");
  };
  const [first, second] = [mended(rate), burst === undefined ? "" : mended(burst.replace(/\/s$/, ""))];
  if (first === undefined || second === undefined) return undefined;
  return `${first}/s${second === "" ? "" : ` burst ${second}`}`;
}

/** The shortest exact form: 10485760 as `10MiB`. */
export function formatSize(bytes: number): string {
  return formatAmount(bytes, sizeUnits);
}

/** The shortest exact form: 90000 as `90s`. */
export function formatTime(ms: number): string {
  return formatAmount(ms, timeUnits);
}

function formatAmount(value: number, units: Readonly<Record<string, number>>): string {
  let best: string | undefined;
  for (const [unit, factor] of Object.entries(units)) {
    if (value % factor !== 0) continue;
    const text = `${value / factor}${unit}`;
    if (best === undefined || Number.parseInt(text, 10) < Number.parseInt(best, 10)) best = text;
  }
  return best ?? `${value}`;
}

/** `50/s burst 100`; the burst is left out where it says nothing new. */
export function formatRate({ perSecond, burst }: Rate, format: (units: number) => string = String): string {
  return burst === perSecond ? `${format(perSecond)}/s` : `${format(perSecond)}/s burst ${format(burst)}`;
}
