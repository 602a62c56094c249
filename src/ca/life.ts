/** How long certificates and lists live: `24h`, `30d`, `90m`, always with a unit. */
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";

const units = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Milliseconds. */
export const life = {
  certificate: 24 * units.h,
  /** It takes a renewed one without a restart, but a small fleet has nobody who renews it every day. */
  gatewayCertificate: 90 * units.d,
  longestCertificate: 825 * units.d,
  authority: 3650 * units.d,
  list: 30 * units.d,
  shortest: 5 * units.m,
} as const;

/** Clocks differ: what is signed now is valid since a minute ago. */
export const backdated: number = units.m;

/** Throws PipegateError `usage`. `longest`: milliseconds. */
export function parseLife(text: string, { longest = life.longestCertificate }: { readonly longest?: number } = {}): number {
  const [, digits, unit] = /^(\d{1,6})([mhd])$/u.exec(text) ?? [];
  if (digits === undefined) {
    const bare = /^\d{1,6}$/u.test(text);
    throw new PipegateError("usage", `"${printable(text, 40)}" is not a time${bare ? ": it has no unit" : ""}`, {
      next: bare ? `write ${text}h or ${text}d` : "write hours or days, such as 24h or 30d",
    });
  }
  const ms = Number(digits) * units[unit as keyof typeof units];
  if (ms > longest) throw new PipegateError("usage", `${text} is too long`, { next: `write at most ${longest / units.d}d` });
  if (ms < life.shortest) throw new PipegateError("usage", `${text} is too short`, { next: "write at least 5m" });
  return ms;
}
