import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { PipegateError } from "../../src/base/error.ts";
import { watchFiles } from "../../src/base/watch.ts";
import type { LoadedConfig } from "../../src/config/load.ts";
import { Reloader } from "../../src/gateway/reloader.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";

let folder: string;
let file: string;
let setup: TestGateway;
let reloader: Reloader | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pipegate-reloader-"));
  file = join(folder, "file");
  await writeFile(file, "0");
  setup = await startGateway();
});
afterEach(async () => {
  reloader?.stop();
  await setup.close();
  await rm(folder, { recursive: true });
});

/** Reads the file at once, and answers when `go` says so. */
function start(go: (load: number) => Promise<void>): { readonly seen: string[]; readonly reloader: Reloader } {
  const seen: string[] = [];
  const load = async (): Promise<LoadedConfig> => {
    const text = await readFile(file, "utf8");
    await go(seen.push(text));
    return { ...setup.config, maxMessageBytes: 1_000 + Number(text), file, files: [file] };
  };
  reloader = new Reloader([file], {
    gateway: setup.gateway,
    clock: systemClock,
    load,
    watch: (files, changed) => watchFiles(files, { clock: systemClock, changed, intervalMs: 20 }),
  });
  return { seen, reloader };
}

test("what was written between the reading of the start and the first look is loaded", async () => {
  const { seen } = start(() => Promise.resolve());
  await expect.poll(() => seen).toEqual(["0"]);
});

test("what is written while a load is under way is loaded after it", async () => {
  const { seen } = start(async (load) => {
    if (load > 1) return;
    await writeFile(file, "7");
    await new Promise((resolve) => setTimeout(resolve, 100));
  });
  await expect.poll(() => seen, { timeout: 5_000 }).toEqual(["0", "7"]);
  await expect.poll(() => setup.lines("config reloaded").at(-1)).toEqual({ version: 3, changes: ["maxMessage"] });
});

test("a file that a config names for the first time is read once more when it is watched, and watched from then on", async () => {
  const more = join(folder, "more");
  const seen: string[] = [];
  const load = async (): Promise<LoadedConfig> => {
    seen.push(await readFile(more, "utf8"));
    if (seen.length === 1) await writeFile(more, "b"); // before anybody watches it
    return { ...setup.config, file, files: [file, more] };
  };
  await writeFile(more, "a");
  const watch = (files: readonly string[], changed: () => void) => watchFiles(files, { clock: systemClock, changed, intervalMs: 20 });
  reloader = new Reloader([file], { gateway: setup.gateway, clock: systemClock, load, watch });
  await expect.poll(() => seen, { timeout: 5_000 }).toEqual(["a", "b"]);
  await reloader.request();
  await writeFile(more, "cd");
  await expect.poll(() => seen.at(-1), { timeout: 5_000 }).toBe("cd");
});

test("requests that come while a load is under way share the next one", async () => {
  let go!: () => void;
  const held = new Promise<void>((resolve) => (go = resolve));
  const { seen, reloader: asked } = start((load) => (load === 1 ? held : Promise.resolve()));
  const outcomes = Array.from({ length: 20 }, () => asked.request());
  go();
  expect(new Set((await Promise.all(outcomes)).map(({ ok }) => ok))).toEqual(new Set([true]));
  expect(seen.length).toBe(2);
});

test("a load that fails is told once, and one that fails while the gateway drains not at all", async () => {
  const { reloader: asked } = start((load) =>
    load < 3 ? Promise.reject(new PipegateError("config", "no such thing")) : Promise.resolve(),
  );
  expect(await asked.request()).toMatchObject({ ok: false });
  expect(setup.lines("config refused").length).toBe(1);
  expect(setup.gateway.status().reloadFailure).toBeDefined();
  expect(await setup.gateway.metrics()).toMatch(/pipegate_config_reload_failed 1/u);
  expect(await asked.request()).toMatchObject({ ok: true });
  expect(setup.gateway.status().reloadFailure).toBeUndefined();
  expect(await setup.gateway.metrics()).toMatch(/pipegate_config_reload_failed 0/u);
  await setup.gateway.drain(0);
  expect(await asked.request()).toMatchObject({ ok: false, lines: [expect.stringMatching(/closed/u)] });
});

test("a load that failed is tried again after 5 s, until it is taken; then no more, and not once it is stopped", async () => {
  const clock = new FakeClock();
  const outcomes: boolean[] = [];
  let good = false;
  const load = (): Promise<LoadedConfig> => {
    outcomes.push(good);
    return good ? Promise.resolve({ ...setup.config, file, files: [file] }) : Promise.reject(new PipegateError("config", "no such thing"));
  };
  const watch = () => ({ watch: () => Promise.resolve(), extend: () => Promise.resolve(), stop: () => {} });
  reloader = new Reloader([file], { gateway: setup.gateway, clock, load, watch });
  const timers = (): number => clock.waiting;
  await expect.poll(timers).toBe(1);
  clock.advance(4_999);
  expect(outcomes).toEqual([false]);
  clock.advance(1);
  await expect.poll(() => outcomes).toEqual([false, false]);
  await expect.poll(timers).toBe(1);
  expect(setup.lines("config refused").length).toBe(1); // what it says is still the same
  good = true;
  clock.advance(5_000);
  await expect.poll(() => setup.gateway.status().reloadFailure).toBeUndefined();
  expect([outcomes, timers()]).toEqual([[false, false, true], 0]);
  good = false;
  await reloader.request();
  expect(timers()).toBe(1);
  reloader.stop();
  expect(timers()).toBe(0);
});
