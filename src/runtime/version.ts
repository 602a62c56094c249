/**
 * The oldest runtimes whose TLS does what pipegate promises (security fixes included). Below them: a sentence instead of a start.
 * Promises: a version that cannot be read is too old. Leaves to others: bringing a fitting runtime along (scripts/run.mjs).
 */
import { PipegateError } from "../base/error.ts";
import { facts } from "./facts.ts";

type Version = readonly [major: number, minor: number, patch: number];

/**
 * By major; those between them get no security fixes any more, newer ones will do. 22 is not among them: there a back end's reset that meets a
 * write under way is now and then read as a clean end (seen in 1 to 3 of 240 pipes on 22.23.0, in none on 24.17.0, 24.21.0 and 26.10.0).
 */
const nodeFloors: readonly Version[] = [
  [24, 17, 0],
  [26, 3, 1],
];
const denoFloor: Version = [2, 9, 0];

function below(version: Version, floor: Version): boolean {
  for (const [index, least] of floor.entries()) {
    const have = version[index] as number;
    if (have !== least) return have < least;
  }
  return false;
}

function parse(text: string): Version {
  const found = /^(\d+)\.(\d+)\.(\d+)/.exec(text);
  return found === null ? [0, 0, 0] : [Number(found[1]), Number(found[2]), Number(found[3])];
}

/** What is wrong with this runtime, as a sentence; undefined when nothing is. */
export function versionFault({ name, version: text }: { readonly name: "node" | "deno"; readonly version: string }): string | undefined {
  const version = parse(text);
  if (name === "deno") {
    return below(version, denoFloor)
      ? `Deno ${text} is too old: its TLS server takes certificates that it should refuse; 2.9 or later is needed`
      : undefined;
  }
  if (!below(version, nodeFloors.at(-1) as Version)) return undefined;
  const floor = nodeFloors.find(([major]) => major === version[0]);
  if (floor === undefined) return `Node ${text} is not supported; use ${nodeFloors.map((one) => one.join(".")).join(", ")} or later`;
  return below(version, floor) ? `Node ${text} lacks security fixes; use ${floor.join(".")} or later` : undefined;
}

/** Throws a PipegateError (config) on a runtime below the floor. */
export function requireSupportedRuntime(): void {
  const fault = versionFault(facts);
  if (fault !== undefined)
    throw new PipegateError("config", fault, { next: "npm start and deno task start bring a fitting runtime along" });
}
