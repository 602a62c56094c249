/**
 * The repository's own rules that a machine can see: no word of where packages are downloaded from, no path of one machine, exact
 * versions, the traps that docs/architecture.md and the runtimes' facts forbid in src/, tests that all run, a head on each file, and
 * that the tests which docs/cases.md names are there.
 * Promises: each fault is one line with file and line. Leaves to others: imports (check-floors.ts), taste.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { root, sourceFiles, withoutComments } from "./tree.ts";

interface Rule {
  readonly files: RegExp;
  readonly pattern: RegExp;
  readonly why: string;
  /** Looks at comments, too. */
  readonly comments?: true;
}

const source = /^src\/.*\.ts$/;
const everything = /./;

// Written so that these lines do not find themselves.
export const rules: readonly Rule[] = [
  { files: everything, pattern: /"resolved"\s*:/, why: "a lock file says where packages were downloaded from" },
  {
    files: everything,
    pattern: /https?:\/\/[^\s"'`/]*(?:registry|npmjs|jsr\.io|artifactory|nexus|verdaccio)[^\s"'`]*/,
    why: "names a package registry",
  },
  {
    files: /^src\/(?!runtime\/tls-probe\.ts$).*\.ts$/, // the self-test's probe sends nothing to whoever answers it
    pattern: /rejectUnauthorized["']?\s*:(?!\s*true\b)/,
    why: "peers are always verified: rejectUnauthorized is the word true",
  },
  { files: source, pattern: /requestCert["']?\s*:(?!\s*true\b)/, why: "a client certificate is always asked for" },
  { files: source, pattern: /\bshell\s*:(?!\s*false\b)/, why: "no shell" },
  { files: source, pattern: /\bDuplex\.(?:to|from)Web\b/, why: "broken on both runtimes: use our own bridge (client/bytes.ts)" },
  { files: source, pattern: /["']SIGUSR1["']/, why: "opens a debugger port" },
  { files: source, pattern: /\b(?:subjectaltname|subject\.CN)\b/, why: "names come from the DER, never from the runtime's strings" },
  { files: source, pattern: /\bticketKeys\b/, why: "no session tickets" },
  { files: source, pattern: /^\s*(?:enum|namespace|declare module)\b/, why: "not erasable" },
  { files: /^(?:src|test|scripts|bench)\/.*\.(?:ts|mjs)$/, pattern: /\b(?:TODO|FIXME|XXX)\b/, why: "unfinished", comments: true },
  { files: /^test\/.*\.ts$/, pattern: /\b(?:describe|test|it)\.(?:only|skip|todo|fails)\b/, why: "every test runs" },
];

/** Faults in one file's text. */
export function checkText(path: string, text: string): string[] {
  const faults: string[] = [];
  const mine = path === "scripts/check-repository.ts" || path.startsWith("test/scripts/");
  const wanted = mine ? [] : rules.filter((rule) => rule.files.test(path));
  const lines = text.split("\n");
  const code = source.test(path) ? withoutComments(text).split("\n") : lines;
  const machine = `${dirname(root.replace(/\/$/, ""))}/`;
  for (const [index, line] of lines.entries()) {
    for (const { pattern, why, comments } of wanted)
      if (pattern.test(comments ? line : code[index]!)) faults.push(`${path}:${index + 1}: ${why}`);
    if (machine.length > 5 && line.includes(machine)) faults.push(`${path}:${index + 1}: a path of this machine`);
  }
  if (source.test(path) && !/^(?:#!.*\n)?\s*\/\*\*/.test(text)) faults.push(`${path}:1: has no head that says what it does`);
  return faults;
}

/** Cells of docs/cases.md whose test is not there. `read`: the text of a file below test/; undefined: there is none. */
export function checkCases(page: string, read: (path: string) => string | undefined): string[] {
  return page.split("\n").flatMap((line, index) => {
    const faults: string[] = [];
    const place = `docs/cases.md:${index + 1}:`;
    let file: { readonly path: string; readonly text: string | undefined } | undefined;
    for (const [, path, name] of line.matchAll(/`([\w./-]+\.ts)`|"([^"]+)"/g)) {
      if (path !== undefined) {
        file = { path, text: path.startsWith("scripts/") ? "" : read(path) };
        if (file.text === undefined) faults.push(`${place} there is no test/${path}`);
      } else if (file?.text !== undefined && !['"', "'", "`"].some((quote) => file!.text!.includes(quote + name)))
        faults.push(`${place} test/${file.path} has no test that begins with: ${name}`);
    }
    if (/^\| (?!case \|)/.test(line) && !/`[\w./-]+\.ts` "/.test(line)) faults.push(`${place} names no test`);
    return faults;
  });
}

function textBelowTest(path: string): string | undefined {
  const file = join(root, "test", path);
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

/** Dependencies that are not pinned to one version. */
export function checkVersions(manifest: { readonly [key: string]: unknown }): string[] {
  return ["dependencies", "devDependencies"].flatMap((kind) =>
    Object.entries((manifest[kind] ?? {}) as Record<string, string>)
      .filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))
      .map(([name, version]) => `package.json: ${name} is ${version}, not one exact version`),
  );
}

if ((import.meta as { main?: boolean }).main) {
  const paths = sourceFiles().filter((path) => statSync(join(root, path)).size < 2 << 20);
  const faults = paths.flatMap((path) => checkText(path, readFileSync(join(root, path), "latin1")));
  faults.push(...checkVersions(JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Record<string, unknown>));
  faults.push(...checkCases(readFileSync(join(root, "docs/cases.md"), "utf8"), textBelowTest));
  for (const fault of faults) console.log(fault);
  console.log(`repository: ${paths.length} files, ${faults.length} faults`);
  process.exitCode = faults.length > 0 || paths.length === 0 ? 1 : 0;
}
