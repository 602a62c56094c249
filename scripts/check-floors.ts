/**
 * Holds src/ to the map in docs/architecture.md: who may import whom. Promises: every import, type or not, static or dynamic, is
 * either allowed by the table below or reported with file and line; an import that cannot be read is reported, too; rings are
 * reported; a room or top-level file that the table does not know is reported. A test compares the table with the document.
 */
import { readFileSync } from "node:fs";
import { dirname, join, normalize, relative, sep } from "node:path";
import process from "node:process";
import { root, sourceFiles, withoutComments } from "./tree.ts";

interface Room {
  /** Rooms of ours that it may import from. */
  readonly from: readonly string[];
  /** Whether it may use the modules of `edge` as more than types. */
  readonly edge?: boolean;
}

const below = (...rooms: readonly string[]): Room => ({ from: rooms });
const stages = ["base", "runtime", "identity", "protocol", "tls", "policy", "target", "pipe", "ca", "config"] as const;

/** A room is a folder of src/, or a top-level file; `client` and `gateway` are a file with a folder of the same name. */
export const rooms: Readonly<Record<string, Room>> = {
  base: below(),
  audit: below("base"),
  runtime: { from: ["base"], edge: true },
  identity: below("base"),
  protocol: below("base"),
  tls: below("base", "runtime", "identity", "protocol"),
  policy: below("base", "identity"),
  target: below("base", "runtime", "identity"),
  pipe: below("base", "identity", "policy", "target"),
  ca: below("base", "identity"),
  config: below("base", "identity", "protocol", "tls", "policy", "target", "pipe"),
  metrics: below(...stages),
  journal: below(...stages, "metrics", "audit"),
  explain: below("base", "identity", "policy", "config"),
  gateway: below(...stages, "metrics", "journal", "explain", "audit"),
  workers: below(...stages, "metrics", "journal", "explain", "gateway", "audit"),
  client: below("base", "runtime", "identity", "protocol", "pipe"),
  admin: below(...stages, "metrics", "journal", "explain", "gateway"),
  mod: below(...stages, "explain", "gateway", "client"),
  // Past mod.ts, too: a subcommand that loads only what it uses starts sooner.
  cli: below(...stages, "metrics", "journal", "explain", "gateway", "workers", "client", "admin", "mod", "audit"),
};

/** Modules that reach out of the process: only runtime/ uses them. */
const edge = new Set(
  ["net", "tls", "dgram", "child_process", "http", "https", "http2", "cluster", "inspector"].map((name) => `node:${name}`),
);

interface Import {
  readonly line: number;
  /** Undefined: not a plain string, so nobody can say what it loads. */
  readonly specifier: string | undefined;
  readonly typeOnly: boolean;
}

/** What keeps the floors from holding, one line each; `files` maps a path below src/ (with `/`) to its text. */
export function checkFloors(files: ReadonlyMap<string, string>): string[] {
  const faults: string[] = [];
  const graph = new Map<string, string[]>();
  for (const [path, text] of files) {
    const imported: string[] = [];
    const name = roomOf(path);
    const room = rooms[name];
    if (room === undefined) faults.push(`src/${path}: the room ${name} is not in the table of scripts/check-floors.ts`);
    for (const found of importsOf(text)) {
      const where = `src/${path}:${found.line}`;
      const { specifier } = found;
      if (specifier === undefined) faults.push(`${where}: an import whose specifier is not a plain string`);
      else if (specifier.startsWith(".")) {
        const target = normalize(join(dirname(path), specifier))
          .split(sep)
          .join("/");
        const fault = files.has(target) ? judge(path, target) : `imports ${specifier}, which is not a file of src/`;
        if (fault !== undefined) faults.push(`${where}: ${fault}`);
        imported.push(target);
      } else if (edge.has(specifier) && !found.typeOnly && room?.edge !== true) {
        faults.push(`${where}: ${name} uses ${specifier}, which only runtime may`);
      }
    }
    graph.set(path, imported);
  }
  return [...faults, ...rings(graph)];
}

function judge(path: string, target: string): string | undefined {
  const [from, to] = [roomOf(path), roomOf(target)];
  if (from === to || rooms[from]?.from.includes(to) !== false) return undefined;
  return `${from} imports ${to} (${target}); it may import from ${rooms[from].from.join(", ") || "nothing of ours"}`;
}

/** `tls/listener.ts` stands in `tls`, `gateway.ts` in `gateway`. */
function roomOf(path: string): string {
  return path.split("/")[0]!.replace(/\.ts$/, "");
}

const statement =
  /^[ \t]*(?:import|export)\b(?:(?<typed>\s+type\b)?(?<names>[\w\s{},*$]*?)\bfrom\s*|\s*)(?<quote>["'])(?<specifier>[^"'\n]+)\k<quote>/gm;
const call =
  /(?<![\w.#])(?:import|require|createRequire|getBuiltinModule)\s*\(\s*(?:(?<quote>["'])(?<specifier>[^"'\n]+)\k<quote>\s*\))?|\.getBuiltinModule\b/g;

/** Every import of a module's text, in comments not. */
export function importsOf(text: string): Import[] {
  const code = withoutComments(text);
  const found: Import[] = [];
  const lineAt = (index: number): number => code.slice(0, index).split("\n").length;
  for (const match of code.matchAll(statement)) {
    const { typed, names, specifier } = match.groups!;
    const listed = /^\s*\{(?<list>[^}]*)\}\s*$/.exec(names ?? "")?.groups?.["list"];
    const allTypes = listed !== undefined && listed.split(",").every((name) => name.trim() === "" || /^\s*type\s/.test(name));
    found.push({ line: lineAt(match.index + match[0].length), specifier, typeOnly: typed !== undefined || allTypes });
  }
  for (const match of code.matchAll(call)) {
    // `import("./x.ts").Y` as a type reads the same; it counts as an import like any other.
    found.push({ line: lineAt(match.index), specifier: match.groups?.["specifier"], typeOnly: false });
  }
  return found;
}

/** Each ring of imports once, as a path back to its first file. */
function rings(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) found.push(`src/${path}: a ring of imports: ${[...trail.slice(at), path].join(" -> ")}`);
    if (at >= 0 || done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return found;
}

if ((import.meta as { main?: boolean }).main) {
  const files = new Map(
    sourceFiles()
      .filter((path) => /^src\/.*\.ts$/.test(path))
      .map((path) => [relative("src", path).split(sep).join("/"), readFileSync(join(root, path), "utf8")]),
  );
  const faults = checkFloors(files);
  for (const fault of faults) console.log(fault);
  console.log(`floors: ${files.size} files, ${faults.length} faults`);
  process.exitCode = faults.length > 0 || files.size === 0 ? 1 : 0;
}
