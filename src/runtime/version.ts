/** The oldest runtimes whose TLS does what pipegate promises (security fixes included). Below them: a sentence instead of a start. */
import { PipegateError } from "../base/error.ts";
import { facts } from "./facts.ts";

const nodeFloors: readonly (readonly [major: number, minor: number, patch: number])[] = [
  [22, 23, 0],
  [24, 17, 0],
  [26, 3, 1],
];
const denoFloor = [2, 9, 0] as const;

function below(version: readonly number[], floor: readonly number[]): boolean {
  for (const [index, least] of floor.entries()) {
    const have = version[index] ?? 0;
    if (have !== least) return have < least;
  }
  return false;
}

/** What is wrong with this runtime, as a sentence; undefined when nothing is. */
export function versionFault({ name, version }: { readonly name: "node" | "deno"; readonly version: string }): string | undefined {
  const parts = version.split(/[.-]/).slice(0, 3).map(Number);
  if (name === "deno") return below(parts, denoFloor) ? `Deno ${version} is too old: its TLS server takes certificates that it should refuse; 2.9 or later is needed` : undefined;
  const major = parts[0] ?? 0;
  const newest = nodeFloors.at(-1) as readonly [number, number, number];
  if (major > newest[0]) return undefined;
  const floor = nodeFloors.find(([floorMajor]) => floorMajor === major);
  if (floor === undefined) return `Node ${version} gets no security fixes; use 22.23.0, 24.17.0, 26.3.1 or later`;
  return below(parts, floor) ? `Node ${version} lacks security fixes; use ${floor.join(".")} or later` : undefined;
}

/** Throws a PipegateError (config) on a runtime below the floor. */
export function requireSupportedRuntime(): void {
  const fault = versionFault(facts);
  if (fault !== undefined) throw new PipegateError("config", fault, { next: "npm start and deno task start bring a fitting runtime along" });
}
