/**
 * Sets up if need be, then runs a program of this checkout: `run.mjs [--lean] FILE [argument ...]`. Behind `npm start`, `npm test`,
 * `deno task start` and the others. Under Deno the program runs on that Deno; under Node on the pinned Node of node_modules, whatever
 * the machine's own is. `--lean` asks only for what the program itself needs where the machine's Node will do.
 * Promises: the program's exit status is ours; it is told of signals and decides when to end; a Node that is started here opens no debugger on SIGUSR1.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { denoFlags, nodeFlags } from "./flags.mjs";
import { onDeno, pinnedNode, root, setUp } from "./setup.mjs";

const words = process.argv.slice(2);
const lean = words[0] === "--lean";
if (lean) words.shift();
const [file, ...rest] = words;
if (file === undefined) {
  process.stderr.write("usage: run.mjs [--lean] FILE [argument ...]\n");
  process.exit(2);
}

const ownWillDo = onDeno || satisfies(process.versions.node, JSON.parse(readFileSync(join(root, "package.json"), "utf8")).engines.node);
setUp({ everything: !(lean && ownWillDo) });

const node = existsSync(pinnedNode) ? pinnedNode : process.execPath;
const command = onDeno
  ? [process.execPath, "run", "-A", "--quiet", ...denoFlags, `--config=${join(root, "deno.json")}`]
  : [node, ...nodeFlags];
const child = spawn(command[0], [...command.slice(1), join(root, file), ...rest], { stdio: "inherit" });
child.on("error", (error) => {
  process.stderr.write(`pipegate: cannot start ${command[0]}: ${error.message}\n`);
  process.exit(1);
});
child.on("exit", (status, signal) => process.exit(signal === null ? status : 128 + constants.signals[signal]));
// A terminal sends SIGINT and SIGHUP to the child as well, and a second one would mean "now"; SIGTERM comes to us alone.
process.on("SIGINT", () => {});
process.on("SIGHUP", () => {});
// Not by child.kill: after that Deno reports the signal even where the child handled it and ended by itself.
process.on("SIGTERM", () => void (child.pid === undefined || process.kill(child.pid, "SIGTERM")));

/** Whether `version` is in a range of the few forms that `engines` uses: `^1.2.3`, `>=1.2.3`, joined by `||`. */
function satisfies(version, range) {
  const own = version.split(".").map(Number);
  return range.split("||").some((part) => {
    const [, sign, ...floor] = /^\s*(\^|>=)(\d+)\.(\d+)\.(\d+)\s*$/.exec(part) ?? [];
    if (sign === undefined) return false;
    const difference = own.map((number, index) => number - Number(floor[index])).find((by) => by !== 0) ?? 0;
    return difference >= 0 && (sign === ">=" || own[0] === Number(floor[0]));
  });
}
