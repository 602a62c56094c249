/** openssl as the judge of what we write: runs it on texts and files, and a folder of its own for them that is removed at the end. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

export interface Openssl {
  /** A folder for the test's own files. */
  readonly folder: string;
  /** The path of a new file with this content. */
  file(content: string | Uint8Array): string;
  /** Everything it said; throws with that when its status is not 0. */
  run(...words: string[]): string;
}

/** For a test file's top level. */
export function withOpenssl(): Openssl {
  const folder = mkdtempSync(join(tmpdir(), "pipegate-openssl-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  let files = 0;
  return {
    folder,
    file: (content) => {
      const path = join(folder, `${++files}.pem`);
      writeFileSync(path, content);
      return path;
    },
    run: (...words) => {
      const { status, stdout, stderr } = spawnSync("openssl", words, { encoding: "utf8", timeout: 20_000, killSignal: "SIGKILL" });
      if (status !== 0) throw new Error(`openssl ${words[0]} ended with ${status}: ${stdout}${stderr}`);
      return stdout + stderr;
    },
  };
}
