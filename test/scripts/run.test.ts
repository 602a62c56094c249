/** The launcher behind `npm start` and `deno task start`, on the runtime that runs this test. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { nodeFlags } from "../../scripts/flags.mjs";
import { root } from "../../scripts/tree.ts";
import { ended, says, tell } from "../support/run-command.ts";
import { startProgram } from "../support/this-runtime.ts";

const program = "test/scripts/programs/answer.ts";

test("the program gets its words, and its status is the launcher's", async () => {
  const { status, out } = await ended(startProgram("scripts/run.mjs", [program, "7", "--flag", "a b"]));
  expect(status).toBe(7);
  const { words, execArgv, deno } = JSON.parse(out.toString()) as { words: string[]; execArgv: string[]; deno: boolean };
  expect(words).toEqual(["7", "--flag", "a b"]);
  expect(deno).toBe("Deno" in globalThis);
  if (!deno) expect(execArgv).toEqual(nodeFlags);
});

test("a SIGTERM reaches the program, which decides how to end", async () => {
  const child = startProgram("scripts/run.mjs", [program, "wait"]);
  const end = ended(child);
  await says(child, /words/, "stdout");
  tell(child, "SIGTERM");
  expect((await end).status).toBe(9);
});

test("without a program it says how it is used", async () => {
  const { status, err } = await ended(startProgram("scripts/run.mjs", []));
  expect(status).toBe(2);
  expect(err).toContain("usage: run.mjs");
});

test("the installed command is told what the others are", () => {
  const [first] = readFileSync(join(root, "src/cli/main.ts"), "utf8").split("\n");
  expect(first).toBe(`#!/usr/bin/env -S node ${nodeFlags.join(" ")}`);
});
