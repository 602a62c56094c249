import { PassThrough, Writable } from "node:stream";
import { describe, expect, test, vi } from "vitest";
import type { Break } from "../../src/base/channel.ts";
import { StdioChannel } from "../../src/cli/stdio.ts";
import { ChannelWatch } from "../support/channel-watch.ts";

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

describe("lines of input", () => {
  /** Feeds `chunks` to a channel that is stopped, lets it go on, and gives what came out of it. */
  function fed(chunks: readonly Buffer[], { stopAfter = Infinity }: { readonly stopAfter?: number } = {}) {
    const source = new PassThrough();
    const stdio = new StdioChannel({ input: source as unknown as NodeJS.ReadStream, output: process.stdout, lines: true });
    const pieces: { readonly chunk: Uint8Array; readonly last: boolean }[] = [];
    stdio.attach({
      data: (chunk, last) => {
        pieces.push({ chunk, last });
        if (pieces.length % stopAfter === 0) stdio.pause();
      },
      end: () => {},
      drained: () => {},
      closed: () => {},
    });
    stdio.pause();
    for (const chunk of chunks) source.emit("data", chunk); // a stream that was paused may still have some to give
    return { stdio, pieces };
  }

  test("that come in many pieces while we may not pass them on are never copied", () => {
    const chunks = Array.from({ length: 4_000 }, (_, at) => Buffer.from(at % 1_000 === 999 ? "x\n" : "x"));
    const concat = vi.spyOn(Buffer, "concat");
    const { stdio, pieces } = fed(chunks);
    expect(pieces).toEqual([]);
    stdio.resume();
    expect(concat).not.toHaveBeenCalled();
    concat.mockRestore();
    expect(pieces.map(({ chunk }) => chunk.length).reduce((sum, length) => sum + length)).toBe(4_000);
    expect(pieces.filter(({ last }) => last)).toHaveLength(4);
    const memory = new Set(chunks.map((chunk) => chunk.buffer));
    expect(pieces.every(({ chunk }) => memory.has(chunk.buffer as ArrayBuffer))).toBe(true);
  });
  test("are cut in the same places, wherever the pieces end and however often we are stopped", () => {
    const text = "one\n\ntwo and\nthree\n";
    for (let size = 1; size <= text.length; size++) {
      const chunks = Array.from({ length: Math.ceil(text.length / size) }, (_, at) => Buffer.from(text.slice(at * size, (at + 1) * size)));
      const { stdio, pieces } = fed(chunks, { stopAfter: 1 });
      for (let turn = 0; turn < 2 * text.length; turn++) stdio.resume();
      expect(pieces.map(({ chunk, last }) => Buffer.from(chunk).toString() + (last ? "\n" : "")).join("")).toBe(text);
    }
  });
  test("of which the last has no newline are whole before the end, which waits where that line has stopped us", () => {
    const source = new PassThrough();
    const stdio = new StdioChannel({ input: source as unknown as NodeJS.ReadStream, output: process.stdout, lines: true });
    const watch = new ChannelWatch(stdio);
    watch.onData = (_chunk, last) => last && watch.pause();
    source.emit("data", Buffer.from("half"));
    source.emit("end");
    expect(watch).toMatchObject({ messages: [Buffer.from("half")], ended: false, faults: [] });
    watch.resume();
    expect(watch).toMatchObject({ messages: [Buffer.from("half")], ended: true, faults: [] });
  });
});
