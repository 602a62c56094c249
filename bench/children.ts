/**
 * The processes of a bench: started with a time limit, ended with everything they started, and what they cost.
 * Promises: no child outlives the bench; CPU and memory are those of a process and its descendants (Linux).
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, connect as dial } from "node:net";
import { createInterface, type Interface } from "node:readline";
import process from "node:process";

const longestMs = 10 * 60_000;
/** USER_HZ: fixed in Linux's interface to /proc. */
const TICKS_PER_SECOND = 100;
const live = new Set<ChildProcess>();

process.on("exit", () => {
  for (const child of live) killGroup(child, "SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

export interface StartOptions {
  readonly environment?: Readonly<Record<string, string>>;
  /** After so long it is killed. Default: ten minutes. */
  readonly limitMs?: number;
}

/** A running child that speaks lines on stdout and ends when its stdin does. */
export class Child {
  readonly process: ChildProcess;
  readonly ended: Promise<number | null>;
  readonly #lines: Interface;
  readonly #name: string;
  #errors = "";

  constructor(words: readonly string[], options: StartOptions = {}) {
    this.#name = words.slice(0, 4).join(" ");
    this.process = spawn(words[0]!, words.slice(1), {
      env: { ...process.env, ...options.environment },
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    live.add(this.process);
    const timer = setTimeout(() => killGroup(this.process, "SIGKILL"), options.limitMs ?? longestMs);
    this.#lines = createInterface({ input: this.process.stdout! });
    this.process.stdin!.on("error", () => {});
    this.process.stderr!.on("data", (chunk: Buffer) => (this.#errors = (this.#errors + chunk.toString()).slice(-2000)));
    this.ended = new Promise((resolve) => {
      const done = (status: number | null): void => {
        clearTimeout(timer);
        live.delete(this.process);
        resolve(status);
      };
      this.process.on("error", (error) => {
        this.#errors += error.message;
        done(null);
      });
      this.process.on("close", (status) => done(status));
    });
  }

  /** The next line of stdout, as JSON. Rejects with what it said on stderr when it ends first. */
  async answer(): Promise<Record<string, number>> {
    const line = await Promise.race([
      new Promise<string>((resolve) => this.#lines.once("line", resolve)),
      this.ended.then((status) => Promise.reject(new Error(`${this.#name} ended (${status}): ${this.#errors.trim()}`))),
    ]);
    return JSON.parse(line) as Record<string, number>;
  }
  /** Settles when a line of stderr has these words. */
  async told(words: string): Promise<void> {
    const found = new Promise<void>((resolve) => {
      const look = (): void => (this.#errors.includes(words) ? resolve() : undefined);
      this.process.stderr!.on("data", look);
      look();
    });
    await Promise.race([found, this.ended.then(() => Promise.reject(new Error(`${this.#name} ended: ${this.errors}`)))]);
  }
  say(line: string): void {
    this.process.stdin!.write(`${line}\n`);
  }
  /** Ends its stdin; waits for a child that ends by that. */
  async finish(): Promise<void> {
    this.process.stdin!.end();
    await this.ended;
  }
  /** SIGTERM, then SIGKILL. */
  async stop(): Promise<void> {
    killGroup(this.process, "SIGTERM");
    const timer = setTimeout(() => killGroup(this.process, "SIGKILL"), 2_000);
    await this.ended;
    clearTimeout(timer);
    killGroup(this.process, "SIGKILL"); // what it left behind
  }
  get errors(): string {
    return this.#errors.trim();
  }
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // nothing is left of it
  }
}

/** Runs a program that answers with one line of JSON. */
export async function ask(words: readonly string[], options: StartOptions = {}): Promise<Record<string, number>> {
  const child = new Child(words, { limitMs: 90_000, ...options });
  const answer = await child.answer();
  const status = await child.ended;
  if (status !== 0) throw new Error(`${words.slice(0, 4).join(" ")} ended with ${status}: ${child.errors}`);
  return answer;
}

function descendants(pid: number): number[] {
  const found = [pid];
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").trim();
      for (const child of children === "" ? [] : children.split(" ")) found.push(...descendants(Number(child)));
    }
  } catch {
    // it ended while we looked
  }
  return found;
}

/** User and system seconds that the process and its descendants have used, by their clocks. `load`: the compiled load.c. */
export function cpuSeconds(load: string, pid: number): number {
  const text = execFileSync(load, ["cpu", ...descendants(pid).map(String)], { encoding: "utf8", timeout: 10_000 });
  return (JSON.parse(text) as { seconds: number }).seconds;
}

/** The same for each of its threads, by id, as /proc counts: in 10 ms. */
export function threadSeconds(pid: number): Map<number, number> {
  const found = new Map<number, number>();
  for (const one of descendants(pid)) {
    try {
      for (const thread of readdirSync(`/proc/${one}/task`)) {
        const fields = readFileSync(`/proc/${one}/task/${thread}/stat`, "utf8").split(") ").at(-1)!.split(" ");
        found.set(Number(thread), (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND);
      }
    } catch {
      // ended
    }
  }
  return found;
}

/** Resident memory of the process and its descendants, KiB. */
export function residentKib(pid: number): number {
  let sum = 0;
  for (const one of descendants(pid)) {
    try {
      sum += Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${one}/status`, "utf8"))?.[1] ?? 0);
    } catch {
      // ended
    }
  }
  return sum;
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A port of 127.0.0.1 that was free just now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** Waits until something accepts on the port. */
export async function whenOpen(port: number, child: Child): Promise<void> {
  const end = performance.now() + 20_000;
  while (performance.now() < end) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = dial(port, "127.0.0.1");
      socket.on("connect", () => resolve(true));
      socket.on("error", () => resolve(false));
      socket.on("connect", () => socket.destroy());
    });
    if (open) return;
    if (child.process.exitCode !== null) break;
    await sleep(50);
  }
  throw new Error(`nothing listens on ${port}: ${child.errors}`);
}
