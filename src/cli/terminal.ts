/** Where the command speaks: stdout carries payload or the asked-for answer, stderr everything said to a person. */
import { styleText } from "node:util";
import { printable } from "../base/text.ts";

/** One line of the asked-for answer, to stdout. */
export function answer(line: string): void {
  write(process.stdout, line);
}

/** What went wrong with a stream: nothing that is written to it arrives any more, and waiting for it would be for ever. */
const broken = new Map<NodeJS.WriteStream, Error>();

/** Remembers the first failure of stdout or stderr. */
export function outputBroke(stream: NodeJS.WriteStream, error: Error): void {
  if (!broken.has(stream)) broken.set(stream, error);
}

/** Whoever read our output went away: it knows, and nothing needs to be said. */
export function isReaderGone(error: Error): boolean {
  return (error as NodeJS.ErrnoException).code === "EPIPE" || error.name === "BrokenPipe";
}

/** Waits until all that was said is out. Returns why the answer did not get out, when that is not its reader's doing. */
export async function flushOutput(): Promise<Error | undefined> {
  await Promise.all([process.stdout, process.stderr].map((stream) => flush(stream)));
  const error = broken.get(process.stdout);
  return error === undefined || isReaderGone(error) ? undefined : error;
}

async function flush(stream: NodeJS.WriteStream): Promise<void> {
  if (broken.has(stream)) return;
  await new Promise<void>((resolve) => {
    stream.write("", (error) => {
      if (error) outputBroke(stream, error);
      resolve();
    });
  });
}

/** Deno throws where Node emits an error (program.ts listens for that). */
function write(stream: NodeJS.WriteStream, line: string): void {
  try {
    stream.write(`${line}\n`);
  } catch (error) {
    outputBroke(stream, error as Error);
  }
}

let quiet = false;
export function setQuiet(on: boolean): void {
  quiet = on;
}

/** One line to a person, to stderr; nothing with --quiet. */
export function say(line: string): void {
  if (!quiet) write(process.stderr, line);
}

let verbose = false;
export function setVerbose(on: boolean): void {
  verbose = on;
}

/** One line that only --verbose asks for, to stderr. */
export function mention(line: string): void {
  if (verbose) write(process.stderr, styled("dim", printable(line, 4096)));
}

/** One line about a failure, to stderr, also with --quiet. */
export function complain(line: string): void {
  write(process.stderr, printable(line, 4096));
}

type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

/** `text` in a style when stderr is a terminal that wants colour (styleText looks at NO_COLOR and the like). */
export function styled(style: Style, text: string): string {
  return process.stderr.isTTY === true && !process.env["NO_COLOR"] ? styleText(style, text) : text;
}
