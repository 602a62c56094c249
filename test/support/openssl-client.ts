/** `openssl s_client` as a stranger's TLS client: independent of both runtimes' TLS. Its files live in a folder of their own. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ended, type Ended } from "./run-command.ts";

export interface Credentials {
  readonly certificate: string;
  readonly key: string;
}

export interface OpensslClient {
  /** Starts it; killed after 30 s. `words`: more of its flags. */
  start(port: number, words?: readonly string[]): ChildProcessWithoutNullStreams;
  /** Sends `input`, then ends its direction, and gives what came until the end. */
  run(port: number, input: string | Uint8Array, words?: readonly string[]): Promise<Ended>;
  remove(): void;
}

export function opensslClient(ca: string, who?: Credentials): OpensslClient {
  const folder = mkdtempSync(join(tmpdir(), "pipegate-openssl-"));
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const trust = ["-CAfile", file("ca.pem", ca), "-verify_return_error"];
  const own = who === undefined ? [] : ["-cert", file("cert.pem", who.certificate), "-key", file("key.pem", who.key)];
  const start: OpensslClient["start"] = (port, words = []) =>
    spawn("openssl", ["s_client", "-connect", `127.0.0.1:${port}`, "-quiet", "-no_ign_eof", ...trust, ...own, ...words], {
      timeout: 30_000,
      killSignal: "SIGKILL",
    });
  return {
    start,
    run: (port, input, words) => {
      const child = start(port, words);
      child.stdin.on("error", () => {});
      child.stdin.end(input);
      return ended(child);
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Whether it saw its connection break instead of end. */
export function sawBreak({ err }: Ended): boolean {
  return /errno=104|unexpected eof|reset by peer/i.test(err);
}
