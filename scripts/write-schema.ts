/**
 * Makes schema/pipegate.schema.json, which editors read, of the schema that judges the config. Promises: the same schema gives the same
 * text; a test says when the file is out of date. Run it after a change: node scripts/run.mjs scripts/write-schema.ts
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { toJsonSchema } from "@valibot/to-json-schema";
import { configSchema } from "../src/config/schema.ts";
import { root } from "./tree.ts";

export const schemaFile: string = join(root, "schema/pipegate.schema.json");

/** The text of the file. */
export function schemaText(): string {
  const {
    $defs = {},
    $schema,
    ...schema
  } = toJsonSchema(configSchema, { typeMode: "input", target: "draft-2020-12" }) as Readonly<Record<string, unknown>>;
  // Nothing in it is recursive, so each reference can stand for what it names.
  const whole = inlined(schema, $defs as Readonly<Record<string, unknown>>) as object;
  return `${JSON.stringify({ $schema, title: "The config of pipegate", ...whole }, undefined, 2)}\n`;
}

function inlined(value: unknown, definitions: Readonly<Record<string, unknown>>): unknown {
  if (Array.isArray(value)) return value.map((item) => inlined(item, definitions));
  if (typeof value !== "object" || value === null) return value;
  const { $ref, ...rest } = value as { readonly $ref?: unknown };
  const own = Object.fromEntries(Object.entries(rest).map(([key, item]) => [key, inlined(item, definitions)]));
  if (typeof $ref !== "string") return own;
  const named = inlined(definitions[$ref.replace(/^#\/\$defs\//u, "")], definitions) as object;
  return { ...named, ...own };
}

if ((import.meta as { main?: boolean }).main) {
  mkdirSync(dirname(schemaFile), { recursive: true });
  writeFileSync(schemaFile, schemaText());
  console.log(schemaFile);
}
