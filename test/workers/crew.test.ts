import { expect, test } from "vitest";
import { countDescriptors } from "../../src/runtime/descriptors.ts";
import { createMemory } from "../../src/workers/crew.ts";
import { createTestCa } from "../support/mint.ts";
import { configOf } from "../support/gateway.ts";
import { listenerAt } from "../support/listeners.ts";

test("what threads and their listeners have open by themselves is no client's", () => {
  const listeners = [1, 2, 3].map((port) => listenerAt({ kind: "tcp", host: "127.0.0.1", port }));
  const config = configOf({ config: { workers: 4, listeners } }, createTestCa());
  const own = createMemory(config).descriptors!.used - countDescriptors()!.used;
  expect(own).toBeGreaterThanOrEqual(4 * (6 + 3)); // six of a thread on Node, and one a listener
});
