/** Serves the pipegate.yaml of its folder, as the command does, and has a fault of its own once something comes on stdin. */
import process from "node:process";
import { serve } from "../../../src/cli/serve.ts";
import { loadConfig } from "../../../src/config/load.ts";

process.stdin.once("data", () => {
  throw new Error("a fault of the test");
});
await serve(await loadConfig("pipegate.yaml"), {
  ready: (listen, log) => log.info("gateway ready", { listen }),
});
