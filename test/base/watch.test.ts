import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type FileWatch, watchFiles } from "../../src/base/watch.ts";
import { FakeClock } from "../support/fake-clock.ts";

let folder: string;
let clock: FakeClock;
let watch: FileWatch | undefined;
let told: number;
let written = 0;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pipegate-watch-"));
  clock = new FakeClock();
  told = 0;
});
afterEach(() => {
  watch?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const at = (name: string): string => join(folder, name);

/** Every text of another time and size: what is tested is not how fine a file system's clock is. */
function write(name: string): void {
  written++;
  writeFileSync(at(name), "x".repeat(written));
  utimesSync(at(name), written, written);
}

async function start(...names: string[]): Promise<FileWatch> {
  watch = watchFiles([], { clock, intervalMs: 1000, changed: () => void told++ });
  await watch.watch(names.map(at));
  return watch;
}

/** Lets an interval pass, and the look that follows. */
async function interval(count = 1, ms = 1000): Promise<void> {
  for (let n = 0; n < count; n++) {
    clock.advance(ms);
    while (clock.waiting === 0) await new Promise((resolve) => void setImmediate(resolve));
  }
}

describe("a watch of files", () => {
  test("says nothing while they stay as they were", async () => {
    write("a");
    await start("a");
    await interval(8);
    expect(told).toBe(0);
  });
  test.each([
    ["an edit in place", () => write("a")],
    [
      "an atomic rename",
      () => {
        write("a.new");
        renameSync(at("a.new"), at("a"));
      },
    ],
    ["a removal", () => rmSync(at("a"))],
  ])("tells %s once, after it has rested for a whole interval", async (_, change) => {
    write("a");
    await start("a", "b");
    change();
    await interval();
    expect(told).toBe(0);
    await interval();
    expect(told).toBe(1);
    await interval(3);
    expect(told).toBe(1);
  });
  test("tells the swap of a folder's link, as Kubernetes makes it", async () => {
    for (const version of ["one", "two"]) {
      mkdirSync(at(version));
      write(`${version}/a`);
    }
    symlinkSync("one", at("..data"));
    symlinkSync(join("..data", "a"), at("a"));
    await start("a");
    symlinkSync("two", at("..tmp"));
    renameSync(at("..tmp"), at("..data"));
    await interval(2);
    expect(told).toBe(1);
  });
  test("tells a file that appears", async () => {
    await start("late");
    write("late");
    await interval(2);
    expect(told).toBe(1);
  });
  test("waits for a certificate and then its key, and tells them as one", async () => {
    write("a");
    write("b");
    await start("a", "b");
    write("a");
    await interval();
    write("b");
    await interval();
    expect(told).toBe(0);
    await interval();
    expect(told).toBe(1);
  });
  test("waits no longer than five intervals for files that never rest", async () => {
    write("a");
    await start("a");
    for (let n = 0; n < 6; n++) {
      expect(told).toBe(0);
      write("a");
      await interval();
    }
    expect(told).toBe(1);
  });
  test("does not mind a change that was taken back before it rested", async () => {
    write("a");
    await start("a", "b");
    write("b");
    await interval();
    rmSync(at("b"));
    await interval(3);
    expect(told).toBe(0);
  });
  test("tells again what changed after it was told", async () => {
    write("a");
    await start("a");
    for (let n = 1; n <= 3; n++) {
      write("a");
      await interval(2);
      expect(told).toBe(n);
    }
  });
  test("acknowledges what changed until it is told to watch, and forgets the other files", async () => {
    write("a");
    write("b");
    const watching = await start("a", "b");
    write("a");
    await watching.watch([at("a")]);
    write("b");
    await interval(3);
    expect(told).toBe(0);
  });
  test("looks as often as it is told now", async () => {
    let intervalMs = 1000;
    watch = watchFiles([], { clock, intervalMs: () => intervalMs, changed: () => void told++ });
    await watch.watch([at("a")]);
    intervalMs = 100;
    await interval();
    write("a");
    await interval(2, 100);
    expect(told).toBe(1);
  });
  test("keeps what was acknowledged when it is extended: a change in between is not lost", async () => {
    write("a");
    const watching = await start("a");
    write("a");
    await watching.extend([at("b")]);
    await interval(2);
    expect(told).toBe(1);
    write("b");
    await interval(2);
    expect(told).toBe(2);
  });
  test("keeps the files that it was given at once, also when it is extended before it could look at them", async () => {
    write("a");
    watch = watchFiles([at("a")], { clock, changed: () => void told++ });
    await watch.extend([at("b")]);
    write("a");
    await interval(2);
    expect(told).toBe(1);
  });
  test("leaves no timer when it is stopped, also while it looks", async () => {
    const watching = await start("a");
    watching.stop();
    expect(clock.waiting).toBe(0);
    const looked = watching.watch([at("a")]);
    watching.stop();
    await looked;
    expect(clock.waiting).toBe(0);
  });
});
