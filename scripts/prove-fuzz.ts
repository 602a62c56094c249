/**
 * `npm run prove:fuzz`: the long proof that CI does not wait for. Ten million random and mutated frames to sessions in this process, with
 * several seeds, and a hundred thousand over TLS to a whole gateway. Prints how sessions ended; exits with 1 when a promise was broken, and
 * leaves the input in test/fuzz/corpus/, where the tests play it again. FUZZ_SEED moves all seeds.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fuzzSessions } from "../test/support/frame-fuzz.ts";
import { fuzzTls, TlsFuzzError } from "../test/support/tls-fuzz.ts";
import { root } from "./tree.ts";

const SEEDS = 10;
const FRAMES_A_SEED = 1_000_000;
const FRAMES_OVER_TLS = 100_000;
const first = Number(process.env["FUZZ_SEED"] ?? 1);

function keep(kind: "session" | "tls", seed: number, hex: string): void {
  const folder = join(root, "test/fuzz/corpus", kind);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `seed-${seed}.hex`), hex);
}

function text(ends: ReadonlyMap<string, number>): string {
  return Array.from(ends, ([reason, count]) => `${reason} ${count}`).join(", ");
}

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

try {
  for (let n = 0; n < SEEDS; n++) {
    const seed = first + n * 1_000_003;
    const from = performance.now();
    try {
      const { frames, sessions, ends } = fuzzSessions({ frames: FRAMES_A_SEED, seed });
      const seconds = ((performance.now() - from) / 1000).toFixed(1);
      console.log(
        `seed ${seed}: ${frames} frames, ${sessions} sessions, ${seconds} s, heap ${mib(process.memoryUsage().heapUsed)}; ${text(ends)}`,
      );
    } catch (error) {
      keep("session", seed, (error as Error).message.split("\n").at(-1) ?? "");
      throw error;
    }
  }
  const from = performance.now();
  try {
    const { frames, connections, ends, grown } = await fuzzTls({ frames: FRAMES_OVER_TLS, seed: first });
    const seconds = ((performance.now() - from) / 1000).toFixed(1);
    console.log(`over TLS, seed ${first}: ${frames} frames, ${connections} connections, ${seconds} s, grown ${mib(grown)}; ${text(ends)}`);
  } catch (error) {
    if (error instanceof TlsFuzzError) keep("tls", first, error.input.toString("hex"));
    throw error;
  }
  console.log("no promise was broken");
} catch (error) {
  console.error(String(error).slice(0, 400));
  process.exitCode = 1;
}
