/** The library's way to a gateway: an object of the config's shape is judged as the file would be, and a gateway made of it. Leaves to others: both. */
import { PipegateError } from "../base/error.ts";
import type { Config, InForce } from "../config/config.ts";
import { Gateway, type GatewayOptions } from "../gateway.ts";

export interface ReadConfigOptions {
  /** Where relative paths in the config start. Default: the working folder. */
  readonly folder?: string;
  /** Of the gateway that is to take it: what has expired there keeps nothing else out. Default: it is for a start. */
  readonly inForce?: InForce;
}

/**
 * Judges an object of the same shape as the config file, in the same way, and reads the files that it names: what `Gateway.reload` takes.
 * Rejects with a PipegateError `config` that carries everything that is wrong.
 */
export async function readConfig(config: unknown, { folder = ".", inForce }: ReadConfigOptions = {}): Promise<Config> {
  const { configFrom } = await import("../config/load.ts"); // so that client programs do not load what reads configs
  const read = await configFrom(config, { folder, inForce });
  if (read.workers > 1)
    throw new PipegateError("config", `workers: ${read.workers}: a gateway in a program's own thread is one`, {
      next: "leave workers out, or run pipegate gateway with a config file",
    });
  return read;
}

export interface CreateGatewayOptions extends GatewayOptions, Pick<ReadConfigOptions, "folder"> {}

/** A gateway in this process, of a config that `readConfig` takes; it rejects as that does. Nothing is opened before `listen()`. */
export async function createGateway(config: unknown, options: CreateGatewayOptions = {}): Promise<Gateway> {
  const { folder = "." } = options;
  return new Gateway(await readConfig(config, { folder }), options);
}
