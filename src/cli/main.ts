#!/usr/bin/env -S node --disable-sigusr1 --initial-old-space-size=64 --max-semi-space-size=1
/** The command's first step: has V8 as Node was built for it, then loads and runs the rest. */
import { forgetSizes } from "../runtime/memory.ts";

forgetSizes();
const { command } = await import("./command.ts");
await command(process.argv.slice(2));
