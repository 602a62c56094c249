/** A worker beside which another process joins: before it binds the second address of a config, that listens there, too. */
import { threadId, workerData } from "node:worker_threads";
import { Gateway } from "../../../src/gateway.ts";
import "../../../src/workers/worker.ts";
import type { Config } from "../../../src/config/config.ts";
import type { WorkerData } from "../../../src/workers/messages.ts";
import { startSharer } from "../sharer.ts";

const { bind, prepare } = Gateway.prototype;

/** One of two does: threads are numbered one after the other. */
async function join([, second]: Config["listeners"]): Promise<void> {
  if (second?.listen.kind === "tcp" && threadId % 2 === 1) await startSharer(second.listen);
}

Gateway.prototype.bind = async function () {
  await join((workerData as WorkerData).config.listeners);
  await bind.call(this);
};
Gateway.prototype.prepare = async function (config) {
  await join(config.listeners);
  return prepare.call(this, config);
};
