#!/usr/bin/env node
/** The command's first step: runs it, flushes what was said, and exits with its status. */
import process from "node:process";
import { run } from "./program.ts";

const status = await run(process.argv.slice(2));
// What is left behind (a terminal's stdin, a lingering socket) must not keep the command alive; what was written must be out.
await Promise.all([process.stdout, process.stderr].map((stream) => new Promise<void>((resolve) => stream.write("", () => resolve()))));
process.exit(status);
