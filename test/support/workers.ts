/** A real gateway of several workers, on loopback, led by this thread. Close it with `await using` or `close()`. */
import type { LogFields, LogLevel } from "../../src/base/log.ts";
import type { LogWriter } from "../../src/base/log-writer.ts";
import type { Config } from "../../src/config/config.ts";
import { Workers } from "../../src/workers/leader.ts";
import { configOf, keepingLogger, type GatewaySetup, type LogLine } from "./gateway.ts";
import { createTestCa, type TestCa } from "./mint.ts";

export interface TestWorkers extends AsyncDisposable {
  readonly gateway: Workers;
  readonly config: Config;
  readonly ca: TestCa;
  /** Of the framed listener. */
  readonly port: number;
  /** Lines of an event, of the leader and of all workers. */
  lines(event: string): readonly LogFields[];
}

export interface WorkersSetup extends GatewaySetup {
  /** Default: 2. */
  readonly workers?: number;
  readonly program?: URL;
}

/** Tries at a port that the system chose: between the leader's claim and the workers' another process may have dialled from it. */
const TRIES = 5;

export async function startWorkers(setup: WorkersSetup = {}): Promise<TestWorkers> {
  for (let left = setup.config?.listeners === undefined ? TRIES : 1; ; left--) {
    try {
      return await startOnce(setup);
    } catch (error) {
      if (left === 1 || !(error as Error).message.endsWith(" is already in use")) throw error;
    }
  }
}

async function startOnce({ workers = 2, program, clock, ...setup }: WorkersSetup): Promise<TestWorkers> {
  const ca = setup.ca ?? createTestCa();
  const kept: LogLine[] = [];
  const log: LogWriter = {
    ...keepingLogger(kept),
    lines: (text) => {
      for (const line of text.split("\n").filter((each) => each !== "")) {
        const { level, event, time: _, ...fields } = JSON.parse(line) as LogFields & { readonly level: LogLevel; readonly event: string };
        kept.push({ level, event, fields });
      }
    },
    flush: () => {},
  };
  const config = configOf({ ...setup, config: { workers, ...setup.config } }, ca);
  const gateway = new Workers(config, { log, ...(program && { program }), ...(clock && { clock }) });
  const [address] = await gateway.listen();
  return {
    gateway,
    config,
    ca,
    port: address?.kind === "tcp" ? address.port : 0,
    lines: (event) => kept.filter((line) => line.event === event).map(({ fields }) => fields),
    [Symbol.asyncDispose]: () => gateway.close(),
  };
}
