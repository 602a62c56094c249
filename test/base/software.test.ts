import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { version } from "../../src/base/software.ts";

test.each(["package.json", "deno.json"])("the version is the one of %s", (file) => {
  const manifest = JSON.parse(readFileSync(new URL(`../../${file}`, import.meta.url), "utf8")) as { version: string };
  expect(version).toBe(manifest.version);
});
