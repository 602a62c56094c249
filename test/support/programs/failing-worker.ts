/** A worker that fails as the target says which it is asked to explain: see `failures`. */
import { threadId } from "node:worker_threads";
import { Gateway } from "../../../src/gateway.ts";
import "../../../src/workers/worker.ts";
import type { Calls, ToWorker } from "../../../src/workers/messages.ts";
import { ownThread } from "../../../src/runtime/threads.ts";

const { prepare } = Gateway.prototype;
const fault = (): never => {
  throw new Error("a fault of the test");
};
/** Threads are numbered one after the other, so of two this is one. */
const isOdd = threadId % 2 === 1;

const failures: Readonly<Record<string, () => unknown>> = {
  throw: () => setTimeout(fault),
  reject: () => void Promise.reject(new Error("a fault of the test")),
  handler: fault,
  hang: () => {
    for (;;);
  },
  /** From now on one of two cannot put a config in force. */
  commit: () => {
    Gateway.prototype.prepare = async function (config) {
      const prepared = await prepare.call(this, config);
      return isOdd ? { ...prepared, commit: async () => fault() } : prepared;
    };
  },
  /** From now on one of two ends while it prepares a config. */
  prepare: () => {
    Gateway.prototype.prepare = function (config) {
      if (isOdd) setTimeout(fault);
      return isOdd ? new Promise(() => {}) : prepare.call(this, config);
    };
  },
};

ownThread().onMessage((given) => {
  const message = given as ToWorker;
  if (message.kind !== "call" || message.name !== "explain") return;
  const [{ target }] = message.args as Parameters<Calls["explain"]>;
  failures[target]?.();
});
