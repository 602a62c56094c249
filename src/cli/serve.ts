/**
 * Runs a gateway until it is told to stop: the part that `gateway` and `demo` share. Promises: it says where it listens only once it
 * does; SIGTERM and SIGINT drain, a second one ends it at once; the log is out before the process ends.
 */
import { addressText } from "../base/address.ts";
import { PipegateError } from "../base/error.ts";
import { systemClock, within } from "../base/clock.ts";
import { createLogWriter, type LogWriter } from "../base/log-writer.ts";
import { watchFiles, type FileWatch } from "../base/watch.ts";
import type { Config, InForce } from "../config/config.ts";
import type { LoadedConfig } from "../config/load.ts";
import { Gateway } from "../gateway.ts";
import { Reloader, type Outcome } from "../gateway/reloader.ts";
import type { Workers } from "../workers/leader.ts";
import { say } from "./terminal.ts";

/** A back end takes what just ends for whole: after a fault of ours its pipes have so long to break, ms. */
const BREAK_MS = 1_000;

export interface ServeOptions {
  /** Loads the config anew; absent: it is loaded once. */
  readonly load?: (inForce: InForce) => Promise<LoadedConfig>;
  /** Called once everything listens, with the addresses as they are. */
  ready(listening: readonly string[], log: LogWriter): void | Promise<void>;
}

export async function serve(config: Config & { readonly files?: readonly string[] }, { load, ready }: ServeOptions): Promise<void> {
  const log = createLogWriter(config.log);
  let close = async (): Promise<void> => {};
  const onFault = faultHandler(log, () => close());
  process.on("uncaughtException", onFault);
  const stop = stopRequests();
  const gateway = config.workers === 1 ? new Gateway(config, { logger: log }) : await lead(config, log);
  close = () => gateway.close();
  const failed = "failed" in gateway ? gateway.failed : new Promise<never>(() => {});
  let admin: { close(): void } | undefined;
  let reloader: Reloader | undefined;
  const onHangUp = (): void => void reloader?.request();
  process.on("SIGHUP", onHangUp); // from now on: before it serves, a reload does no harm
  process.on("SIGXFSZ", onFileLimit);
  try {
    const addresses = await gateway.listen().catch((error: unknown) => {
      if (!(error instanceof PipegateError) || error.code !== "internal") throw error;
      throw new Error(`${error.message}; ${error.next}`, { cause: error }); // ours to answer for: to a client the same code is a refusal
    });
    if (load !== undefined) {
      const watch = (files: readonly string[], changed: () => void): FileWatch =>
        watchFiles(files, { clock: systemClock, changed, intervalMs: () => Math.min(1_000, gateway.maxStalenessMs / 8) }); // files that never rest are read after six looks
      reloader = new Reloader(config.files ?? [], { gateway, clock: systemClock, load, watch });
    }
    const reload = reloader && ((): Promise<Outcome> => reloader!.request());
    if (config.admin) {
      const { serveAdmin } = await import("../admin.ts"); // with node:http
      admin = await serveAdmin(gateway, config.admin.listen, reload === undefined ? {} : { reload });
    }
    for (const warning of config.warnings) log.warn("config", { detail: warning });
    await ready(addresses.map(addressText), log);
    await Promise.race([stop.first, failed]);
    say("pipegate: draining; a second signal ends it at once");
    await Promise.race([gateway.drain(), stop.second, failed]);
  } finally {
    reloader?.stop();
    await gateway.close();
    admin?.close();
    process.off("SIGHUP", onHangUp);
    process.off("SIGXFSZ", onFileLimit);
    stop.forget();
    process.off("uncaughtException", onFault);
    log.flush();
  }
}

/** Ends the process. A second fault, while what the first one interrupted breaks, does so at once. */
function faultHandler(log: LogWriter, close: () => Promise<void>): (error: unknown) => void {
  let faulted = false;
  const end = (): never => {
    log.flush();
    process.exit(1);
  };
  return (error) => {
    log.error("fault of pipegate itself", { detail: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    if (faulted) end();
    faulted = true;
    within(close(), { ms: BREAK_MS, clock: systemClock }).then(end, end);
  };
}

/** A file reached the limit of the process (`ulimit -f`): Deno would end for it, where the write that fails says the same. */
function onFileLimit(): void {}

/** One thread starts sooner without what leads others. */
async function lead(config: Config, log: LogWriter): Promise<Workers> {
  const { Workers: Several } = await import("../workers/leader.ts");
  return new Several(config, { log });
}

interface StopRequests {
  readonly first: Promise<void>;
  readonly second: Promise<void>;
  forget(): void;
}

function stopRequests(): StopRequests {
  const waiting: (() => void)[] = [];
  const first = new Promise<void>((resolve) => void waiting.push(resolve));
  const second = new Promise<void>((resolve) => void waiting.push(resolve));
  const onStop = (): void => waiting.shift()?.();
  const names = ["SIGINT", "SIGTERM"] as const;
  for (const name of names) process.on(name, onStop);
  return {
    first,
    second,
    forget: () => {
      for (const name of names) process.off(name, onStop);
    },
  };
}
