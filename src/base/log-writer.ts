/**
 * The logger of the command: one JSON line an event, or one readable line where a person watches a terminal.
 * Promises: every text field is printable and bounded, so no peer can forge a line; writing never blocks, throws or ends the
 * process, also when the reader is gone (EPIPE) or does not read: then at most `maxBufferedBytes` wait, what is over is dropped
 * and counted, and the count is logged once there is room. `flush` writes what waits before it returns.
 * Leaves to others: what is worth logging, and with which level.
 */
import { styleText } from "node:util";
import sonic from "sonic-boom";
import type { LogFields, Logger, LogLevel, LogValue } from "./log.ts";
import { printable } from "./text.ts";

/** Where lines go. The default is stderr. */
export interface LogDestination {
  write(line: string): void;
  /** Writes what waits, before it returns. */
  flush(): void;
}

export interface LogWriterOptions {
  readonly level: LogLevel;
  /** `auto`: pretty when stderr is a terminal, else JSON. */
  readonly format: "json" | "pretty" | "auto";
  readonly destination?: LogDestination;
  /** Whether pretty lines are coloured. Default: when stderr is a terminal and NO_COLOR is not set. */
  readonly colour?: boolean;
  /** Milliseconds since the epoch. Default: the system's clock. */
  readonly wall?: () => number;
}

export interface LogWriter extends Logger {
  /** Lines that were made elsewhere, by a writer of the same options. */
  lines(text: string): void;
  flush(): void;
}

export const logDefaults = { maxBufferedBytes: 4 << 20 } as const;

/** A line to stderr leaves at once when there was none for so long; else with the others of this time, or when there are so many. */
const BATCH_MS = 20;
const BATCH_CHARACTERS = 16 << 10;

export function createLogWriter(options: LogWriterOptions): LogWriter {
  const destination = options.destination ?? openStderr();
  const wall = options.wall ?? Date.now;
  const { format, colour } = logForm(options);
  const write = format === "pretty" ? prettyWriter({ destination, wall, colour }) : jsonWriter({ destination, wall });
  const at = (level: LogLevel): Logger["info"] =>
    ranks[level] < ranks[options.level] ? nothing : (event, fields) => write(level, { event, ...fields });
  const lines = (text: string): void => destination.write(text);
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error"), lines, flush: () => destination.flush() };
}

/** How lines look here, where stderr is known. */
export function logForm({ format, colour }: Pick<LogWriterOptions, "format" | "colour">): {
  readonly format: "json" | "pretty";
  readonly colour: boolean;
} {
  const terminal = process.stderr.isTTY === true;
  return {
    format: format === "pretty" || (format === "auto" && terminal) ? "pretty" : "json",
    colour: colour ?? (terminal && !process.env["NO_COLOR"]),
  };
}

interface WriterOptions {
  readonly destination: LogDestination;
  readonly wall: () => number;
}

type Write = (level: LogLevel, entry: LogFields) => void;

function safe(value: LogValue): LogValue {
  if (typeof value === "string") return printable(value);
  if (Array.isArray(value)) return value.map((text: string) => printable(text));
  return value;
}

function jsonWriter({ destination, wall }: WriterOptions): Write {
  let at = -1;
  let time = "";
  return (level, entry) => {
    const now = wall();
    if (now !== at) time = new Date((at = now)).toISOString();
    const line: Record<string, LogValue> = { level, time };
    for (const [name, value] of Object.entries(entry)) line[name] = safe(value);
    destination.write(`${JSON.stringify(line)}\n`);
  };
}

const nothing = (): void => {};
const ranks: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };
const colours = { debug: "dim", info: "green", warn: "yellow", error: "red" } as const;

function prettyWriter({ destination, wall, colour }: WriterOptions & { readonly colour: boolean }): Write {
  const style = (name: "dim" | "green" | "yellow" | "red" | "bold", text: string): string =>
    colour ? styleText(name, text, { validateStream: false }) : text;
  return (at, { event, ...fields }) => {
    const time = new Date(wall()).toISOString().slice(11, 23);
    const words = [style("dim", time), style(colours[at], at.padEnd(5)), style("bold", printable(String(event)))];
    for (const [name, value] of Object.entries(fields)) if (value !== undefined) words.push(`${style("dim", `${name}=`)}${shown(value)}`);
    destination.write(`${words.join(" ")}\n`);
  };
}

/** A value as it stands in a pretty line: quoted when it could be mistaken for two words. */
function shown(value: LogValue): string {
  if (Array.isArray(value)) return value.map((text: string) => shown(text)).join(",");
  const text = printable(String(value));
  return /[\s"'=,]/u.test(text) || text === "" ? JSON.stringify(text) : text;
}

/** Lines to stderr: written in the background, bounded; a broken stderr swallows them. */
function openStderr(): LogDestination {
  const stream = new sonic.SonicBoom({ fd: 2, sync: false, maxLength: logDefaults.maxBufferedBytes });
  let dropped = 0;
  let broken = false;
  let batch = "";
  let timer: NodeJS.Timeout | undefined;
  const push = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (batch === "") return;
    timer = setTimeout(push, BATCH_MS);
    const lines = batch;
    batch = "";
    if (!broken) stream.write(lines);
  };
  stream.on("drop", (lines: string) => (dropped += lines.split("\n").length - 1));
  stream.on("error", () => {
    broken = true; // the reader is gone: nobody is left to be told
  });
  stream.on("drain", () => {
    if (dropped === 0 || broken) return;
    const count = dropped;
    dropped = 0;
    stream.write(`${JSON.stringify({ level: "warn", time: new Date().toISOString(), event: "log lines dropped", count })}\n`);
  });
  return {
    write(line) {
      // A write costs more than the connection that it tells of, so the lines of a moment share one.
      batch += line;
      if (batch.length >= BATCH_CHARACTERS) push();
      else timer ??= setTimeout(push, 0);
    },
    flush() {
      push();
      if (broken) return;
      try {
        stream.flushSync();
      } catch {
        broken = true; // not ready, or gone
      }
    },
  };
}
