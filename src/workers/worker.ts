/**
 * The program of a worker: a whole gateway in a thread, which does what the leader asks. Promises: it has the config as the leader read it,
 * so all judge the same bytes; what it takes from a cap or a limit counts for all; a fault ends the thread. Leaves to others: files, signals,
 * the admin socket, the log and the audit log (leader.ts).
 */
import { systemClock, within } from "../base/clock.ts";
import { addressText } from "../base/address.ts";
import type { Config } from "../config/config.ts";
import { Gateway, type Prepared } from "../gateway.ts";
import { loadTrust } from "../identity/trust.ts";
import { Limiter } from "../policy/limiter.ts";
import { shareProbes } from "../runtime/accepting.ts";
import { shareDescriptors } from "../runtime/descriptors.ts";
import { ownThread } from "../runtime/threads.ts";
import { createPenalties, penaltyAmounts, type Penalties } from "../tls/penalties.ts";
import { sharedTally } from "../tls/shared-tally.ts";
import { type Calls, plainError, type PlainConfig, type ToLeader, type ToWorker, type WorkerData } from "./messages.ts";
import { Relay } from "./relay.ts";

/** How long a faulty thread may take to break its pipes, ms. */
const BREAK_MS = 1_000;

const thread = ownThread();
const data = thread.data as WorkerData;
const post = (message: ToLeader): void => thread.post(message);
const { memory } = data;
shareDescriptors(memory.descriptors);
shareProbes(memory.probes);
const relay = new Relay(post, data);
const ledger = createPenalties(data.config.penalties, systemClock);
let gateway: Gateway | undefined;
let prepared: Prepared | undefined;

/** What one of us charges, all do. */
const penalties: Penalties = {
  keptOut: (source) => ledger.keptOut(source),
  charge: (source, reason) => {
    if (penaltyAmounts[reason] !== undefined) post({ kind: "charge", charge: [source, reason] });
    return ledger.charge(source, reason);
  },
  change: (options) => ledger.change(options),
  get size() {
    return ledger.size;
  },
};

/** With the trust that is built of it here. */
async function whole(config: PlainConfig): Promise<Config> {
  const { trust } = config;
  const known = gateway?.inForce.trust;
  return { ...config, trust: { ...trust, built: await loadTrust({ ...trust, now: systemClock.wall(), known }) } };
}

function serving(): Gateway {
  if (gateway === undefined) throw new Error("this worker has not been opened");
  return gateway;
}

const calls: Calls = {
  open: async () => {
    gateway = new Gateway(await whole(data.config), {
      logger: relay.logger,
      parts: {
        limiter: new Limiter({ clock: systemClock, memory: memory.limiter }),
        penalties,
        tally: (address) => sharedTally(memory.tally, addressText(address)),
        share: 1 / data.workers,
        audit: relay.audit,
      },
    });
    await gateway.open();
  },
  bind: () => serving().bind(),
  serve: () => void serving().serve(),
  prepare: async (config) => {
    prepared = undefined;
    prepared = await serving().prepare(await whole(config));
    return prepared.reloaded;
  },
  commit: async () => {
    await prepared?.commit();
    prepared = undefined;
  },
  abandon: async () => {
    await prepared?.abandon();
    prepared = undefined;
  },
  drain: (graceMs) => serving().drain(graceMs),
  close: async () => {
    await gateway?.close();
    relay.flush();
  },
  status: () => ({ ...serving().status(), cpuSeconds: cpuSeconds() }),
  counts: () => {
    const { metrics, gauges } = serving().counts();
    return { metrics: metrics.counted(), gauges };
  },
  explain: (request) => serving().explain(request),
};

/** Of this thread. */
function cpuSeconds(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1e6;
}

async function answer({ id, name, args }: ToWorker & { readonly kind: "call" }): Promise<void> {
  try {
    const value = await (calls[name] as (...given: readonly unknown[]) => unknown)(...args);
    post({ kind: "answer", id, value });
  } catch (error) {
    post({ kind: "failure", id, error: plainError(error) });
  }
}

function looked(): void {
  relay.heard();
  post({ kind: "alive" });
}

/** A back end takes what just ends for whole: before this thread ends, its pipes have to break. A second fault does not wait for that. */
let faulted = false;
async function fault(error: unknown): Promise<void> {
  if (!faulted) {
    faulted = true;
    relay.flush();
    post({ kind: "fault", error: plainError(error) });
    await within(gateway?.close() ?? Promise.resolve(), { ms: BREAK_MS, clock: systemClock }).catch(() => {});
    relay.flush(); // how they ended
  }
  process.exit(1); // this thread; the leader hears of it
}

process.on("uncaughtException", (error) => void fault(error));

thread.onMessage((given) => {
  const message = given as ToWorker;
  if (message.kind === "call") void answer(message);
  else if (message.kind === "look") looked();
  else if (message.kind === "charge") ledger.charge(...message.charge);
  else relay.auditIs(message.failing);
});
