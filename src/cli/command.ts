/** The command from its words to its end: runs it, flushes what was said, and exits with its status. */
import { Status } from "./exit.ts";
import { run } from "./program.ts";
import { complain, flushOutput } from "./terminal.ts";

export async function command(words: readonly string[]): Promise<never> {
  let status = await run(words);
  // What is left behind (a terminal's stdin, a lingering socket) must not keep the command alive; what was written must be out.
  const fault = await flushOutput();
  if (fault !== undefined && status === Status.done) {
    complain(`pipegate: the answer could not be written (${fault.message}). Check where stdout leads, then try again.`);
    await flushOutput();
    status = Status.fault;
  }
  process.exit(status);
}
