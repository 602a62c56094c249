import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { schemaFile, schemaText } from "../../scripts/write-schema.ts";
import { root } from "../../scripts/tree.ts";
import { loadConfig, parseConfig } from "../../src/config/load.ts";
import { createTestCa } from "../support/mint.ts";

const example = await readFile(join(root, "docs/pipegate.example.yaml"), "utf8");

test("the example loads as it stands, beside fresh certificates", async () => {
  const folder = await mkdtemp(join(tmpdir(), "example-"));
  try {
    const ca = createTestCa();
    const own = ca.gateway();
    await mkdir(join(folder, "certs"));
    const files = {
      "gateway.pem": own.certificate,
      "gateway-key.pem": own.key,
      "ca.pem": ca.certificate,
      "crl.pem": ca.crl().pem,
      "internal-ca.pem": ca.certificate,
    };
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, "certs", name), text, { mode: 0o600 });
    await writeFile(join(folder, "pipegate.yaml"), example);
    const config = await loadConfig(join(folder, "pipegate.yaml"));
    expect(config.warnings).toEqual([]);
    expect([...config.targets.keys()]).toEqual(["echo", "db", "cache", "jobs", "api"]);
    expect(config.rules.map(({ line }) => example.split("\n")[line - 1]!.trim())).toEqual([
      '- clients: ["spiffe://dev/agent/*"]',
      '- clients: ["dns:*.ci.example", "cn:legacy"]',
      '- clients: ["dns:*.example"]',
    ]);
    expect(config.rules.map(({ shadow }) => shadow)).toEqual([false, false, true]);
    expect(config.rules[0]!.limits).toEqual({
      opens: { perSecond: 50, burst: 100 },
      bytes: { perSecond: 10 << 20, burst: 20 << 20 },
      messages: { perSecond: 5000, burst: 5000 },
      connects: { perSecond: 10, burst: 20 },
      pipes: 100,
      connections: 8,
    });
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("schema/pipegate.schema.json is up to date", async () => {
  const written = await readFile(schemaFile, "utf8");
  expect(written === schemaText() ? "up to date" : "run: node scripts/run.mjs scripts/write-schema.ts").toBe("up to date");
});

interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema | false;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
}

test("the schema knows every key of the example, and nothing of it takes unknown keys or lacks a description", () => {
  const schema = JSON.parse(schemaText()) as JsonSchema;
  const open: string[] = [];
  const silent: string[] = [];
  const described = (one: JsonSchema, path: string): void => {
    if (one.type === "object" && one.additionalProperties === undefined) open.push(path);
    if (one.description === undefined && one.anyOf === undefined) silent.push(path);
    for (const [key, below] of Object.entries(one.properties ?? {})) described(below, `${path}.${key}`);
    if (one.items) described(one.items, `${path}[]`);
    if (typeof one.additionalProperties === "object") described(one.additionalProperties, `${path}.*`);
    for (const below of one.anyOf ?? []) described(below, path);
  };
  described(schema, "config");
  expect({ open, silent }).toEqual({ open: [], silent: [] });
  const keys = Object.keys(parseConfig(example).shape);
  expect(Object.keys(schema.properties!)).toEqual(expect.arrayContaining(keys));
});
