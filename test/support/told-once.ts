/** Whether a gateway that is closed has told each connection, pipe and refusal once, in its log and in its audit log. */
import { readFile } from "node:fs/promises";
import { expect } from "vitest";
import type { TestGateway } from "./gateway.ts";

const sorted = (values: readonly unknown[]): string[] => values.map(String).sort();
const key = (line: Readonly<Record<string, unknown>>): string =>
  ["pipe", "connection", "reason", "target"].map((name) => line[name]).join(" ");

/** Closes it first. */
export async function expectToldOnce(setup: TestGateway, auditFile: string): Promise<void> {
  await setup.close();
  const ids = (event: string, name: string): string[] => sorted(setup.lines(event).map((line) => line[name]));
  for (const what of ["connection", "pipe"]) {
    const opened = ids(`${what} open`, what);
    expect(new Set(opened).size, `each ${what} is told once`).toBe(opened.length);
    expect(ids(`${what} close`, what), `each ${what} is told to close once`).toEqual(opened);
  }
  const text = await readFile(auditFile, "utf8");
  const audited = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
  for (const event of ["pipe open", "pipe close", "refused"])
    expect(sorted(audited.filter((line) => line["event"] === event).map(key)), `audited: ${event}`).toEqual(
      sorted(setup.lines(event).map(key)),
    );
}
