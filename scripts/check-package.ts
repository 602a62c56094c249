/**
 * Builds dist/ and looks at what npm would publish: publint's rules, the entries that package.json promises, a command that starts
 * with a line for Node, and nothing that does not belong there. Promises: each fault is one line; publishes nothing.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { root } from "./tree.ts";

const needed = ["package.json", "README.md", "LICENSE", "dist/mod.js", "dist/mod.d.ts", "dist/cli/main.js", "dist/parts/worker.js"];
const belongs = /^(?:package\.json|README\.md|LICENSE|dist\/.+\.(?:js|d\.ts)|docs\/.+\.(?:md|yaml)|schema\/.+\.json)$/;

/** Faults of a package that holds these files; `command` is the text of dist/cli/main.js. */
export function checkContents(paths: readonly string[], command: string): string[] {
  return [
    ...needed.filter((path) => !paths.includes(path)).map((path) => `the package lacks ${path}`),
    ...paths.filter((path) => !belongs.test(path)).map((path) => `the package should not hold ${path}`),
    ...(/^#!\/usr\/bin\/env (?:-S )?node\b/.test(command) ? [] : ["dist/cli/main.js does not start with #!/usr/bin/env node"]),
  ];
}

/** Of `files` (path to text), those that look for others beside themselves and do not stand beside them. */
export function checkNeighbours(files: ReadonlyMap<string, string>): string[] {
  return [...files]
    .filter(([path, text]) => text.includes("import.meta.url") && !path.startsWith("dist/parts/"))
    .map(([path]) => `${path} looks for the worker beside itself, which stands in dist/parts`);
}

/** Of `files` (path to text), those that import a module of Node's, and with it whatever that exports (scripts/build.ts leaves no such import). */
export function checkFacades(files: ReadonlyMap<string, string>): string[] {
  return [...files]
    .filter(([, text]) => /^(?:import|export)\b.*"node:/m.test(text))
    .map(([path]) => `${path} imports a module of Node's, which loads more than is used`);
}

function run(words: readonly string[]): { readonly ok: boolean; readonly stdout: string } {
  const [command, ...rest] = words as readonly [string, ...string[]];
  const done = spawnSync(command, rest, {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    timeout: 180_000,
    killSignal: "SIGKILL",
  });
  if (done.error !== undefined) console.log(`cannot run ${command}: ${done.error.message}`);
  return { ok: done.status === 0, stdout: done.stdout ?? "" };
}

function main(): string[] {
  const node = join(root, "node_modules/.bin/node");
  const built = run([node, "scripts/build.ts"]);
  if (!built.ok) return [`the build failed\n${built.stdout}`];
  const packed = run(["npm", "pack", "--dry-run", "--json", "--ignore-scripts", "--loglevel=error"]);
  if (!packed.ok) return ["npm pack failed"];
  // npm 11 answers with a list, npm 12 with an object by name.
  const answer = Object.values(JSON.parse(packed.stdout) as Record<string, { readonly files: readonly { readonly path: string }[] }>)[0];
  const paths = answer?.files.map(({ path }) => path) ?? [];
  const command = join(root, "dist/cli/main.js");
  const faults = checkContents(paths, existsSync(command) ? readFileSync(command, "utf8") : "");
  const scripts = paths.filter((path) => path.endsWith(".js"));
  const texts = new Map(scripts.map((path) => [path, readFileSync(join(root, path), "utf8")]));
  faults.push(...checkNeighbours(texts), ...checkFacades(texts));
  const lint = run([node, "node_modules/publint/src/cli.js", "--strict"]);
  if (!lint.ok) faults.push(`publint:\n${lint.stdout}`);
  console.log(`package: ${paths.length} files, ${faults.length} faults`);
  return faults;
}

if ((import.meta as { main?: boolean }).main) {
  const faults = main();
  for (const fault of faults) console.log(fault);
  process.exitCode = faults.length > 0 ? 1 : 0;
}
