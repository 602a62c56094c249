/** Bytes, rate and time left of a pipe, on stderr. Silent for the first second: short transfers need no words. */
import { complain, styled } from "./terminal.ts";

export interface Moved {
  /** Bytes that we sent, and that came back, so far. */
  readonly up: number;
  readonly down: number;
}

export interface ProgressOptions {
  moved(): Moved;
  /** Size of our input in bytes, when it is a regular file. */
  readonly total: number | undefined;
  /** Rewrite one line; else a line each time. */
  readonly terminal: boolean;
}

const everyMs = 500;
const quietMs = 1000;

/** Starts showing; the returned function stops, and wipes the line away. */
export function showProgress({ moved, total, terminal }: ProgressOptions): () => void {
  const started = performance.now();
  let last = { at: started, ...moved() };
  let rate = 0;
  const show = (): void => {
    const now = { at: performance.now(), ...moved() };
    const current = ((now.up + now.down - last.up - last.down) * 1000) / Math.max(1, now.at - last.at);
    rate = rate === 0 ? current : rate * 0.7 + current * 0.3;
    last = now;
    if (now.at - started < quietMs) return;
    const line = progressLine({ ...now, rate, total });
    if (terminal) process.stderr.write(`\r\x1b[K${styled("dim", line)}`);
    else complain(line);
  };
  const timer = setInterval(show, terminal ? everyMs : 4 * everyMs);
  (timer as { unref?: () => void }).unref?.();
  return () => {
    clearInterval(timer);
    if (terminal && performance.now() - started >= quietMs) process.stderr.write("\r\x1b[K");
  };
}

/** One line: `12.3 MiB sent, 1.2 KiB received, 3.4 MiB/s, 0:12 left`. */
export function progressLine({ up, down, rate, total }: Moved & { readonly rate: number; readonly total: number | undefined }): string {
  const words = [`${bytesText(up)} sent`, `${bytesText(down)} received`, `${bytesText(Math.round(rate))}/s`];
  if (total !== undefined && up < total && rate > 0) words.push(`${timeText((total - up) / rate)} left`);
  return words.join(", ");
}

/** `512 B`, `1.5 KiB`, `20 MiB`. */
export function bytesText(bytes: number): string {
  let value = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024) return `${unit === "B" || value >= 100 ? Math.round(value) : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
}

/** `0:07`, `12:00`, `3:25:00`. */
export function timeText(seconds: number): string {
  const whole = Math.ceil(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, index) => (index === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}

/** In one unit, rounded down: `12 s`, `5 min`, `23 h`, `89 d`. */
export function spanText(seconds: number): string {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)} h` : `${Math.floor(seconds / 86_400)} d`;
}
