/** What a config is refused for, one line each, as the command prints them; none when it is taken. */
import { ConfigError, parseConfig } from "../../src/config/load.ts";

export function linesOf(error: unknown): readonly string[] {
  if (!(error instanceof ConfigError)) throw error;
  return error.details.length > 0 ? error.details : [error.message];
}

/** Of a text, no file looked at; the config is called `c`. */
export function problemsOf(text: string): readonly string[] {
  try {
    parseConfig(text, { file: "c" });
    return [];
  } catch (error) {
    return linesOf(error);
  }
}

export async function problemsOfLoading(loading: Promise<unknown>): Promise<readonly string[]> {
  try {
    await loading;
    return [];
  } catch (error) {
    return linesOf(error);
  }
}

/** A config that is good, line for line replaceable: each key of `changes` is the beginning of a line, to be replaced whole. */
export function configText(changes: Readonly<Record<string, string>> = {}): string {
  let lines = [
    "listeners: [{ listen: 127.0.0.1:0 }]",
    "identity: { certificate: gateway.pem, key: gateway-key.pem }",
    "trust: { ca: ca.pem }",
    "targets: { echo: { builtin: echo } }",
    'rules: [{ clients: ["*"], targets: [echo] }]',
  ];
  for (const [start, line] of Object.entries(changes)) {
    const before = lines;
    lines = lines.map((old) => (old.startsWith(start) ? line : old));
    if (lines.every((one, index) => one === before[index])) lines.push(line);
  }
  return `${lines.filter((line) => line !== "").join("\n")}\n`;
}
