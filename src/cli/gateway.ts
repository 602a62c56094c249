/** `pipegate gateway`: loads the config, runs the gateway, says where it listens. */
import { existsSync } from "node:fs";
import { Command } from "commander";
import { PipegateError } from "../base/error.ts";
import { loadConfig } from "../config/load.ts";
import { requireSupportedRuntime } from "../runtime/version.ts";
import { serve } from "./serve.ts";
import { demoConfigFile } from "./settings.ts";
import { say } from "./terminal.ts";

interface GatewayFlags {
  readonly config: string;
}

const examples = `Examples:
  pipegate gateway                        with pipegate.yaml of this folder
  pipegate gateway -c /etc/pipegate.yaml
  pipegate check -c /etc/pipegate.yaml    look the config through without running it
`;

export function gatewayCommand(): Command {
  return new Command("gateway")
    .description(
      "run the gateway; SIGTERM and SIGINT drain it, a second one ends it at once; SIGHUP loads the config anew, as any change of its files does",
    )
    .addHelpText("before", examples)
    .option("-c, --config <file>", "the config", "pipegate.yaml")
    .action(runGateway);
}

async function runGateway({ config: file }: GatewayFlags): Promise<void> {
  requireSupportedRuntime();
  if (!existsSync(file) && existsSync(demoConfigFile))
    throw new PipegateError("config", `${file} does not exist`, { next: `try -c ${demoConfigFile}, which pipegate demo left here` });
  const config = await loadConfig(file);
  await serve(config, {
    load: (inForce) => loadConfig(file, { inForce }),
    ready: (listening, log) => {
      log.info("gateway ready", { config: file, listen: listening, targets: [...config.targets.keys()] });
      if (process.stderr.isTTY) say(`pipegate: ready, listening on ${listening.join(", ")}`);
    },
  });
}
