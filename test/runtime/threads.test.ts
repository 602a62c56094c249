import type { EventEmitter } from "node:events";
import { expect, test, vi } from "vitest";
import { ownThread, startThread } from "../../src/runtime/threads.ts";

/** Of Node and Deno none can be made to lose a message from outside: a thread that does as the test says. */
const { threads } = vi.hoisted(() => ({ threads: [] as EventEmitter[] }));
vi.mock("node:worker_threads", async () => {
  const { EventEmitter: Emitter } = await import("node:events");
  class Worker extends Emitter {
    constructor() {
      super();
      threads.push(this);
    }
    terminate(): Promise<number> {
      this.emit("exit", 1);
      return Promise.resolve(1);
    }
  }
  return { Worker, parentPort: null, workerData: undefined };
});

test("a thread of which a message is lost is ended, and that is told once, with the fault", () => {
  const said: unknown[] = [];
  const ended: unknown[] = [];
  const events = { message: (message: unknown) => void said.push(message), ended: (fault: unknown) => void ended.push(fault) };
  startThread(new URL("program", import.meta.url), { data: 1, events });
  const [thread] = threads;
  thread!.emit("message", "hello");
  const fault = new Error("cannot be read");
  thread!.emit("messageerror", fault);
  thread!.emit("exit", 1);
  expect([said, ended]).toEqual([["hello"], [fault]]);
});

test("who is no thread has none of its own", () => {
  expect(ownThread).toThrow("in a thread of the gateway only");
});
