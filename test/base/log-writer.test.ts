import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createLogWriter, type LogWriter } from "../../src/base/log-writer.ts";
import { startProgram } from "../support/this-runtime.ts";

const hostile = 'x\r\n{"level":"info","event":"pipe open"}\u001b[2J\u202e\u0000\u2028"\\';

function collect(format: "json" | "pretty", level: "debug" | "info" | "warn" = "info"): { log: LogWriter; lines: () => string[] } {
  let text = "";
  const destination = { write: (line: string): void => void (text += line), flush: (): void => {} };
  const log = createLogWriter({ format, level, destination, colour: false, wall: () => Date.UTC(2026, 0, 2, 3, 4, 5, 678) });
  return { log, lines: () => text.split("\n").slice(0, -1) };
}

describe("the JSON log", () => {
  test("writes one line an event, with time, level, event and fields", () => {
    const { log, lines } = collect("json");
    log.info("pipe open", { target: "db", bytes: 12, clean: true, dns: ["a", "b"], nothing: undefined });
    expect(lines().map((line) => JSON.parse(line) as unknown)).toEqual([
      { level: "info", time: "2026-01-02T03:04:05.678Z", event: "pipe open", target: "db", bytes: 12, clean: true, dns: ["a", "b"] },
    ]);
  });
  test("leaves out what is below its level", () => {
    const { log, lines } = collect("json", "warn");
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");
    expect(lines().map((line) => (JSON.parse(line) as { event: string }).event)).toEqual(["c", "d"]);
  });
  test("cannot be made to write a second line or a control character by any field", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.constant(hostile)), (text) => {
        const { log, lines } = collect("json");
        log.warn("refused", { identity: text, dns: [text] });
        expect(lines()).toHaveLength(1);
        const entry = JSON.parse(lines()[0]!) as { identity: string; dns: string[]; event: string };
        expect(entry.event).toBe("refused");
        expect(entry.identity + entry.dns.join("")).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e]/u);
      }),
    );
  });
  test("bounds a field", () => {
    const { log, lines } = collect("json");
    log.info("a", { text: "x".repeat(100_000) });
    expect(lines()[0]!.length).toBeLessThan(1000);
  });
});

describe("the pretty log", () => {
  test("shows time, level, event and fields in one line, quoting what has spaces", () => {
    const { log, lines } = collect("pretty");
    log.warn("pipe closed", { target: "db", detail: "it broke", dns: ["a", "b"] });
    log.debug("not shown");
    expect(lines()).toEqual(['03:04:05.678 warn  pipe closed target=db detail="it broke" dns=a,b']);
  });
  test("cannot be made to write a second line, or to look like another field", () => {
    const { log, lines } = collect("pretty");
    log.info("refused", { identity: hostile, cn: "x target=db" });
    expect(lines()).toHaveLength(1);
    expect(lines()[0]).not.toMatch(/[\u0000-\u001f\u202e]/u);
    expect(lines()[0]).toContain('cn="x target=db"');
  });
});

interface Ended {
  readonly status: number | null;
  readonly text: string;
}

/** Logs in a child; `hangUp` closes our end of its stderr after the first bytes. */
function child(words: readonly string[], { hangUp }: { readonly hangUp: boolean }): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const running = startProgram("test/base/log-lines.ts", words);
    let text = "";
    running.stderr.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (hangUp) running.stderr.destroy();
    });
    running.on("error", reject);
    running.on("close", (status) => resolve({ status, text }));
  });
}

describe("stderr", () => {
  test("has every line after a flush, though the process exits at once", async () => {
    const { status, text } = await child(["2000", "flush"], { hangUp: false });
    expect(status).toBe(7);
    expect(text.trimEnd().split("\n").length).toBe(2000);
  });
  test("may go away without ending the process", async () => {
    const { status, text } = await child(["2000"], { hangUp: true });
    expect(status).toBe(7);
    expect(text.length).toBeGreaterThan(0);
  });
});
