/** Makes dist/ for npm: JavaScript and declarations of src/, the command executable. What was there before is gone. */
import { spawnSync } from "node:child_process";
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { root } from "./tree.ts";

rmSync(join(root, "dist"), { recursive: true, force: true });
const tsc = [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"];
const done = spawnSync(join(root, "node_modules/.bin/node"), tsc, { cwd: root, stdio: "inherit", timeout: 180_000, killSignal: "SIGKILL" });
if (done.status === 0) chmodSync(join(root, "dist/cli/main.js"), 0o755);
process.exitCode = done.status ?? 1;
