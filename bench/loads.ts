/**
 * The loads, in the order in which a subject gets them. A load runs against a subject that is up, and gives figures by name (figures.ts
 * says what they mean). docs/performance.md has their sizes, and why.
 */
import type { Using } from "./driving.ts";
import { crowd, framedBulk, idlePipes, messages, opens, pipeEcho, start } from "./framed-loads.ts";
import { many } from "./many-loads.ts";
import { bulk, connections, idle, rawEcho } from "./raw-loads.ts";
import type { Running, Subject } from "./subjects.ts";

export interface Load {
  readonly name: string;
  readonly kinds: readonly Subject["kind"][];
  /** Wants a subject that has just been started. */
  readonly fresh?: boolean;
  run(on: Running, using: Using): Promise<Readonly<Record<string, number>>>;
}

export const loads: readonly Load[] = [
  { name: "up", kinds: ["pipegate", "proxy", "ssh"], run: (on, using) => bulk(on, using, "up") },
  { name: "down", kinds: ["pipegate", "proxy", "ssh"], run: (on, using) => bulk(on, using, "down") },
  { name: "connections", kinds: ["pipegate", "proxy"], run: connections },
  { name: "echo", kinds: ["pipegate", "proxy"], run: rawEcho },
  { name: "framed-bulk", kinds: ["pipegate"], run: framedBulk },
  { name: "messages", kinds: ["pipegate"], run: messages },
  { name: "opens", kinds: ["pipegate", "ssh"], run: opens },
  { name: "pipe-echo", kinds: ["pipegate", "ssh"], run: pipeEcho },
  { name: "idle", kinds: ["pipegate", "proxy"], fresh: true, run: idle },
  { name: "idle-pipes", kinds: ["pipegate"], fresh: true, run: idlePipes },
  { name: "crowd", kinds: ["pipegate"], fresh: true, run: crowd },
  { name: "many", kinds: ["pipegate"], run: many },
  { name: "start", kinds: ["pipegate"], run: start },
];
