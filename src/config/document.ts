/**
 * A config text, or a program's object, as plain values that know where they stand. Promises: maps without prototype and without
 * `__proto__`; no key twice; no tags, no second document, no YAML 1.1; bounded in depth, in values and in aliases, in linear time.
 * Leaves to others: which keys and values there may be.
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type YAMLError } from "yaml";
import { createSuggest, type Path, type Place, type Problem } from "./problem.ts";

/** Where one value stands, as offsets into the text. */
interface Mark {
  readonly at: number;
  /** Of its key, where it has one. */
  readonly keyAt: number;
  readonly children: Map<string | number, Mark>;
}

export interface Tree {
  readonly value: unknown;
  readonly problems: readonly Problem[];
  /** Of the value, or of the nearest that holds it when it is not there. */
  place(path: Path): Place | undefined;
  /** Of the last key of `path`. */
  keyPlace(path: Path): Place | undefined;
  /** `path` without the index that a single value does not have. */
  trimmed(path: Path): Path;
}

const MAX_DEPTH = 24;
const MAX_VALUES = 100_000;
const MAX_ALIASES = 1_000;
const MAX_SYNTAX_PROBLEMS = 20;
/** Names that objects answer to by themselves. */
const reservedKeys: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);

export function readYaml(text: string): Tree {
  const lines = new LineCounter();
  // Keys are compared below: the library compares each with each.
  const options = {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    uniqueKeys: false,
    resolveKnownTags: false,
    logLevel: "error",
  } as const;
  const document = parseDocument(text, options);
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const reader = new YamlReader(placeAt);
  const syntax = syntaxProblems(document, { text, placeAt });
  if (syntax.length > 0) return tree(undefined, { problems: syntax, root: undefined, placeAt });
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null)) {
    const says = "the config is empty; pipegate demo writes one to start from";
    return tree(undefined, { problems: [{ place: { line: 1, column: 1 }, path: [], says }], root: undefined, placeAt });
  }
  const { value, mark } = reader.read(document.contents, []);
  return tree(value, { problems: reader.problems, root: mark, placeAt });
}

function syntaxProblems(
  document: Document.Parsed,
  { text, placeAt }: { readonly text: string; placeAt(offset: number): Place },
): Problem[] {
  const all = [...document.errors, ...document.warnings];
  const deep = all.find(({ code }) => code === "RESOURCE_EXHAUSTION"); // the others only follow from it
  const problems = (deep === undefined ? all.slice(0, MAX_SYNTAX_PROBLEMS) : [deep]).map((error) => ({
    place: placeAt(error.pos[0]),
    path: [],
    says: syntaxText(error, text),
  }));
  const { explicit, version } = document.directives.yaml;
  if (explicit === true && version !== "1.2") {
    problems.push({ place: placeAt(0), path: [], says: `expected YAML 1.2, got ${version}; remove the %YAML line` });
  }
  return problems;
}

function syntaxText({ code, message, pos }: YAMLError, text: string): string {
  const line = text.slice(text.lastIndexOf("\n", pos[0] - 1) + 1, pos[0] + 80);
  switch (code) {
    case "RESOURCE_EXHAUSTION":
      return "nested too deep";
    case "MULTIPLE_DOCS":
      return "a second document begins here; a config is one document";
    case "NON_STRING_KEY":
      return "a key is one plain word, not a list or a map";
    case "TAB_AS_INDENT":
      return "not YAML: a tab; indent with spaces";
    case "TAG_RESOLVE_FAILED":
      return "a tag that a config cannot have; remove the word that begins with !";
    default:
      if (/(?:^|[\s:[,-])\[[0-9a-f]*:[0-9a-f:.]*\]:\d/i.test(line))
        return `not YAML: an address in brackets needs quotes, as in "[::1]:8443"`;
      return `not YAML: ${message.replace(/\s+/g, " ").slice(0, 200)}`;
  }
}

class YamlReader {
  readonly problems: Problem[] = [];
  readonly #placeAt: (offset: number) => Place;
  readonly #anchors = new Map<string, unknown>();
  readonly #open = new Set<unknown>();
  readonly #suggest = createSuggest();
  #values = 0;
  #aliases = 0;

  constructor(placeAt: (offset: number) => Place) {
    this.#placeAt = placeAt;
  }

  read(node: unknown, path: Path, keyAt?: number): { readonly value: unknown; readonly mark: Mark } {
    const at = offsetOf(node) ?? keyAt ?? 0;
    const mark: Mark = { at, keyAt: keyAt ?? at, children: new Map() };
    const nothing = { value: undefined, mark };
    if (++this.#values > MAX_VALUES) {
      if (this.#values === MAX_VALUES + 1) this.#problem(at, path, `more than ${MAX_VALUES} values`);
      return nothing;
    }
    if (isAlias(node)) return this.#alias(node.source, { path, mark });
    if (path.length > MAX_DEPTH) return this.#problem(at, path, "nested too deep") ?? nothing;
    const anchor = isScalar(node) || isMap(node) || isSeq(node) ? node.anchor : undefined;
    if (anchor !== undefined) this.#anchors.set(anchor, node);
    if (isScalar(node)) return { value: node.value, mark };
    this.#open.add(node);
    const value = isMap(node) ? this.#map(node.items, { path, mark }) : isSeq(node) ? this.#list(node.items, { path, mark }) : null;
    this.#open.delete(node);
    return { value, mark };
  }

  #map(
    pairs: readonly { readonly key: unknown; readonly value: unknown }[],
    { path, mark }: { readonly path: Path; readonly mark: Mark },
  ): unknown {
    const value = Object.create(null) as Record<string, unknown>;
    for (const { key: keyNode, value: node } of pairs) {
      const keyAt = offsetOf(keyNode) ?? mark.at;
      const key = isScalar(keyNode) ? String(keyNode.value) : undefined;
      const first = key === undefined ? undefined : mark.children.get(key);
      if (key === undefined) this.#problem(keyAt, path, "a key that is not a text");
      else if (first !== undefined) {
        this.#problem(
          keyAt,
          [...path, key],
          `this key stands here a second time, first on line ${this.#placeAt(first.keyAt).line}; remove one of them`,
        );
      } else if (reservedKeys.has(key)) this.#problem(keyAt, [...path, key], "this name is reserved; choose another");
      else {
        const child = this.read(node, [...path, key], keyAt);
        mark.children.set(key, child.mark);
        value[key] = child.value ?? null;
      }
    }
    return value;
  }

  #list(items: readonly unknown[], { path, mark }: { readonly path: Path; readonly mark: Mark }): unknown {
    return items.map((item, index) => {
      const child = this.read(item, [...path, index]);
      mark.children.set(index, child.mark);
      return child.value ?? null;
    });
  }

  #alias(name: string, { path, mark }: { readonly path: Path; readonly mark: Mark }): { readonly value: unknown; readonly mark: Mark } {
    const nothing = { value: undefined, mark };
    if (++this.#aliases > MAX_ALIASES) {
      if (this.#aliases === MAX_ALIASES + 1) this.#problem(mark.at, path, `more than ${MAX_ALIASES} aliases`);
      return nothing;
    }
    const node = this.#anchors.get(name);
    if (node === undefined) {
      const note = this.#suggest(name, this.#anchors);
      return (
        this.#problem(mark.at, path, `nothing above is called &${name.slice(0, 60)}${note === undefined ? "" : `; ${note}`}`) ?? nothing
      );
    }
    if (this.#open.has(node)) return this.#problem(mark.at, path, `*${name.slice(0, 60)} stands inside of itself`) ?? nothing;
    return this.read(node, path, mark.keyAt);
  }

  #problem(at: number, path: Path, says: string): undefined {
    this.problems.push({ place: this.#placeAt(at), path, says });
  }
}

function offsetOf(node: unknown): number | undefined {
  return isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? (node.range?.[0] ?? undefined) : undefined;
}

/** A program's object, copied once: nobody can change it later, and no getter answers twice. */
export function readObject(object: unknown): Tree {
  const problems: Problem[] = [];
  let values = 0;
  const copy = (value: unknown, path: Path): unknown => {
    const refuse = (says: string): null => {
      problems.push({ place: undefined, path, says });
      return null;
    };
    if (++values > MAX_VALUES) return values === MAX_VALUES + 1 ? refuse(`more than ${MAX_VALUES} values`) : null;
    if (path.length > MAX_DEPTH) return refuse("nested too deep");
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value) && value.length > MAX_VALUES) return refuse(`more than ${MAX_VALUES} values`);
    if (Array.isArray(value)) return value.map((item: unknown, index) => copy(item, [...path, index]));
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== null && prototype !== Object.prototype) return refuse("expected a plain object");
    const map = Object.create(null) as Record<string, unknown>;
    for (const [key, item] of Object.entries(value)) {
      if (reservedKeys.has(key)) refuse(`the name ${key} is reserved; choose another`);
      else if (item !== undefined) map[key] = copy(item, [...path, key]);
    }
    return map;
  };
  return tree(copy(object, []), { problems, root: undefined, placeAt: undefined });
}

interface Marked {
  readonly problems: readonly Problem[];
  readonly root: Mark | undefined;
  readonly placeAt: ((offset: number) => Place) | undefined;
}

function tree(value: unknown, { problems, root, placeAt }: Marked): Tree {
  const find = (path: Path): { readonly mark: Mark; readonly whole: boolean } | undefined => {
    if (root === undefined) return undefined;
    let mark = root;
    for (const step of path) {
      const child = mark.children.get(step);
      if (child === undefined) return { mark, whole: false };
      mark = child;
    }
    return { mark, whole: true };
  };
  return {
    value,
    problems,
    place(path) {
      const found = find(path);
      return found && placeAt?.(found.mark.at);
    },
    keyPlace(path) {
      const found = find(path);
      return found && placeAt?.(found.whole ? found.mark.keyAt : found.mark.at);
    },
    trimmed(path) {
      return typeof path.at(-1) === "number" && find(path)?.whole === false ? path.slice(0, -1) : path;
    },
  };
}
