/** Where the command speaks: stdout carries payload or the asked-for answer, stderr everything said to a person. */
import { styleText } from "node:util";
import { printable } from "../base/text.ts";

/** One line of the asked-for answer, to stdout. */
export function answer(line: string): void {
  process.stdout.write(`${line}\n`);
}

let quiet = false;
export function setQuiet(on: boolean): void {
  quiet = on;
}

/** One line to a person, to stderr; nothing with --quiet. */
export function say(line: string): void {
  if (!quiet) process.stderr.write(`${line}\n`);
}

let verbose = false;
export function setVerbose(on: boolean): void {
  verbose = on;
}

/** One line that only --verbose asks for, to stderr. */
export function mention(line: string): void {
  if (verbose) process.stderr.write(`${styled("dim", printable(line, 4096))}\n`);
}

/** One line about a failure, to stderr, also with --quiet. */
export function complain(line: string): void {
  process.stderr.write(`${printable(line, 4096)}\n`);
}

type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

/** `text` in a style when stderr is a terminal that wants colour (styleText looks at NO_COLOR and the like). */
export function styled(style: Style, text: string): string {
  return process.stderr.isTTY === true && !process.env["NO_COLOR"] ? styleText(style, text) : text;
}
