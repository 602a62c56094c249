#!/usr/bin/env -S node --disable-sigusr1 --initial-old-space-size=64
/** The command's first step: runs it, flushes what was said, and exits with its status. */
import { tuneMemory } from "../runtime/memory.ts";
import { Status } from "./exit.ts";
import { run } from "./program.ts";
import { complain, flushOutput } from "./terminal.ts";

tuneMemory();
let status = await run(process.argv.slice(2));
// What is left behind (a terminal's stdin, a lingering socket) must not keep the command alive; what was written must be out.
const fault = await flushOutput();
if (fault !== undefined && status === Status.done) {
  complain(`pipegate: the answer could not be written (${fault.message}). Check where stdout leads, then try again.`);
  await flushOutput();
  status = Status.fault;
}
process.exit(status);
