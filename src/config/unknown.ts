/**
 * Keys that nobody knows, all of them, each with what was likely meant: valibot tells only the first of a map.
 * Promises: a key is known if and only if the schema names it. Leaves to others: values.
 */
import { laterNote } from "./schema.ts";
import { nearest, type Path } from "./problem.ts";
import type { Schema } from "./form.ts";

/** What of a valibot schema is looked at. */
interface Shape {
  readonly type: string;
  readonly entries?: Readonly<Record<string, Shape>>;
  readonly wrapped?: Shape;
  readonly item?: Shape;
  readonly value?: Shape;
  readonly getter?: (input: unknown) => Shape;
}

export interface UnknownKey {
  readonly path: Path;
  readonly says: string;
  /** The path that was likely meant. */
  readonly meant: Path | undefined;
}

export function unknownKeys(schema: Schema<unknown>, input: unknown): UnknownKey[] {
  const found: UnknownKey[] = [];
  walk(schema, { input, path: [], found });
  return found;
}

function walk(schema: Shape, { input, path, found }: { readonly input: unknown; readonly path: Path; readonly found: UnknownKey[] }): void {
  if (schema.wrapped !== undefined) return walk(schema.wrapped, { input, path, found });
  if (schema.getter !== undefined) return walk(schema.getter(input), { input, path, found });
  if (schema.item !== undefined) {
    if (Array.isArray(input))
      for (const [index, item] of input.entries()) walk(schema.item, { input: item, path: [...path, index], found });
    return;
  }
  if (typeof input !== "object" || input === null || Array.isArray(input)) return;
  for (const [key, value] of Object.entries(input)) {
    const below =
      schema.type === "record" ? schema.value : schema.entries && Object.hasOwn(schema.entries, key) ? schema.entries[key] : undefined;
    if (below !== undefined) walk(below, { input: value, path: [...path, key], found });
    else if (schema.entries !== undefined) found.push(unknownKey([...path, key], { key, entries: schema.entries }));
  }
}

function unknownKey(
  path: Path,
  { key, entries }: { readonly key: string; readonly entries: Readonly<Record<string, unknown>> },
): UnknownKey {
  const known = Object.keys(entries);
  const near = nearest(key, known);
  const says = laterNote(key) ?? `unknown key; ${near === undefined ? `known here: ${known.join(", ")}` : `did you mean ${near}`}`;
  return { path, says, meant: near === undefined ? undefined : [...path.slice(0, -1), near] };
}
