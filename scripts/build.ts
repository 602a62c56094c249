/**
 * Makes dist/ for npm: declarations of src/, and its JavaScript in few files, since a start that reads 130 takes a quarter longer
 * (docs/performance.md). Packages stay packages. What was there before is gone.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { rolldown } from "rolldown";
import { root } from "./tree.ts";

/** The entries, by where they stand in dist/. What they share stands beside the worker, which is looked for beside the code that starts it. */
const input = { mod: "src/mod.ts", "cli/main": "src/cli/main.ts", "parts/worker": "src/workers/worker.ts" };

/** Some modules are loaded at once by one command and later by another. */
const checks = { ineffectiveDynamicImport: false };

/**
 * Node's modules without their facades: an `import` of one asks for all that it exports, and so loads what nobody uses. What is
 * imported by name is asked for by name.
 */
const withoutFacades = {
  name: "without-facades",
  renderChunk: (code: string) => ({
    code: code.replace(
      /^import \{(?<names>[^}]*)\} from "(?<module>node:[^"]+)";$/gm,
      (_, names: string, module: string) => `const {${names.replaceAll(" as ", ": ")}} = process.getBuiltinModule("${module}");`,
    ),
    map: null,
  }),
};

async function bundle(): Promise<void> {
  const built = await rolldown({ cwd: root, input, platform: "node", external: /^[^.\\/]/, checks, plugins: [withoutFacades] });
  await built.write({
    dir: join(root, "dist"),
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: "parts/[name].js",
    comments: false,
  });
  await built.close();
  chmodSync(join(root, "dist/cli/main.js"), 0o755);
}

rmSync(join(root, "dist"), { recursive: true, force: true });
const tsc = [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"];
const done = spawnSync(join(root, "node_modules/.bin/node"), tsc, { cwd: root, stdio: "inherit", timeout: 180_000, killSignal: "SIGKILL" });
process.exitCode = done.status ?? 1;
if (done.status === 0) await bundle();
