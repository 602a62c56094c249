/**
 * Makes a fresh clone ready to run, on a machine with only Node and npm or only Deno: installs what package-lock.json names when
 * it is not all there, so that node_modules/.bin holds the pinned Node and Deno. Plain JavaScript for Node 20 and Deno alike,
 * because it runs before anything is installed. Promises: does nothing, in a few milliseconds, when everything is in place.
 * Leaves to others: what is run afterwards (run.mjs).
 *
 * `npm install`, not `npm ci`: packages with a binary per platform are locked here for the platforms that the registry in use had,
 * and `npm ci` refuses such a lock. `npm install` honours it all the same, and --no-save keeps it from rewriting it.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../", import.meta.url));
export const onDeno = "Deno" in globalThis;
export const pinnedNode = join(root, "node_modules/.bin/node");

/** The npm that does the install where there is only Deno. */
const npmForDeno = "npm:npm@11.19.1";
const longestInstallMs = 15 * 60_000;

/** `everything`: also what tests and checks need. False: what the program itself needs, where that is enough to run it. */
export function setUp({ everything }) {
  if (isInstalled({ everything })) return;
  // Over an existing node_modules --omit=dev would take away what an earlier install brought.
  const lean = !everything && !existsSync(join(root, "node_modules"));
  process.stderr.write(
    `Installing what package-lock.json names into node_modules/ (${lean ? "a few seconds" : "under a minute, but for downloads"}) ...\n`,
  );
  const words = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", ...(lean ? ["--omit=dev"] : [])];
  const { command, before, environment } = npmHere();
  const done = spawnSync(command, [...before, ...words], {
    cwd: root,
    env: environment,
    stdio: ["ignore", "inherit", "inherit"],
    timeout: longestInstallMs,
    killSignal: "SIGKILL",
  });
  if (done.status === 0 && isInstalled({ everything })) return;
  const why = done.error?.message ?? (done.status === 0 ? "node_modules/ is still not complete" : `npm ended with status ${done.status}`);
  process.stderr.write(
    `pipegate: the installation failed: ${why}. Check the network and the npm registry that is configured, then try again.\n`,
  );
  process.exit(1);
}

/** Whether each package of the lock that this platform needs stands in node_modules in the locked version. */
function isInstalled({ everything }) {
  try {
    if (everything && !existsSync(pinnedNode)) return false;
    const locked = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
    const installed = JSON.parse(readFileSync(join(root, "node_modules/.package-lock.json"), "utf8")).packages;
    return Object.entries(locked).every(([path, { version, optional, dev }]) => {
      if (path === "" || optional || (dev && !everything)) return true;
      return installed[path]?.version === version;
    });
  } catch {
    return false; // no node_modules, or one that npm did not make
  }
}

/** How to call npm: the one that started us; else the one on PATH; on Deno alone one that Deno fetches and runs. */
function npmHere() {
  if (onDeno) return { command: process.execPath, before: denoNpmWords, environment: denoAsNode() };
  const from = process.env.npm_execpath;
  if (from && /npm-cli\.[cm]?js$/.test(from)) return { command: process.execPath, before: [from], environment: process.env };
  return { command: "npm", before: [], environment: process.env };
}

const denoNpmWords = ["run", "-A", "--quiet", "--no-config", "--no-lock", "--node-modules-dir=none", npmForDeno];

/**
 * The environment in which Deno does an npm install: install scripts say `node` and `npm`, and where there is only Deno, both are it.
 * So the packages `node` and `deno` put their binaries in place there, too, and the tests of both runtimes run from either.
 */
function denoAsNode() {
  const folder = join(root, ".cache/deno-as-node");
  mkdirSync(folder, { recursive: true });
  const deno = quoted(process.execPath);
  script(join(folder, "npm"), `exec ${deno} ${denoNpmWords.map(quoted).join(" ")} "$@"`);
  script(join(folder, "node"), `exec ${deno} run -A --quiet --no-config --no-lock --unstable-sloppy-imports --unstable-detect-cjs "$@"`);
  return { ...process.env, PATH: `${folder}${delimiter}${process.env.PATH ?? ""}`, DENO_NO_PACKAGE_JSON: "1" };
}

function quoted(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function script(path, line) {
  writeFileSync(path, `#!/bin/sh\nDENO_NO_PACKAGE_JSON=1\nexport DENO_NO_PACKAGE_JSON\n${line}\n`);
  chmodSync(path, 0o755);
}
