import { PassThrough, Writable } from "node:stream";
import { describe, expect, test } from "vitest";
import type { Break } from "../../src/base/channel.ts";
import { StdioChannel } from "../../src/cli/stdio.ts";

function failing(error: Error, how: "throws" | "emits"): NodeJS.WriteStream {
  const output = new Writable({ write: (_chunk, _encoding, done) => done(error) });
  if (how === "throws") {
    output.write = () => {
      throw error; // as Deno's stdout does on a full disk
    };
  }
  return output as unknown as NodeJS.WriteStream;
}

async function breakOf(stdio: StdioChannel): Promise<Break | undefined> {
  const closed = new Promise<Break | undefined>((resolve) => {
    stdio.attach({ data: () => {}, end: () => {}, drained: () => {}, closed: resolve });
  });
  stdio.write(Buffer.from("x"), false);
  return closed;
}

const input = (): NodeJS.ReadStream => new PassThrough() as unknown as NodeJS.ReadStream;

describe.each(["throws", "emits"] as const)("an output that %s", (how) => {
  test("for want of room breaks the pipe off and says that it is our output", async () => {
    const full = Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    const stdio = new StdioChannel({ input: input(), output: failing(full, how), lines: false });
    expect(await breakOf(stdio)).toMatchObject({ reason: "cancelled" });
    expect(stdio.fault).toBe("stdout cannot be written (no space left on device)");
    expect(stdio.readerGone).toBe(false);
  });
  test("because nobody reads it breaks the pipe off, and that needs no words", async () => {
    const gone = Object.assign(new Error("broken pipe"), { code: "EPIPE" });
    const stdio = new StdioChannel({ input: input(), output: failing(gone, how), lines: true });
    expect(await breakOf(stdio)).toMatchObject({ reason: "cancelled" });
    expect(stdio.fault).toBeUndefined();
    expect(stdio.readerGone).toBe(true);
  });
});
