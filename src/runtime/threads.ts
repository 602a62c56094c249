/**
 * A thread of this process that runs a program of ours, and what passes between the two. Promises: how a thread ended is told once, also
 * when it ended by a fault; what is posted arrives in order, or the thread ends. Leaves to others: what it runs, what the messages mean.
 */
import { parentPort, Worker, workerData } from "node:worker_threads";

export interface Thread {
  post(message: unknown): void;
  /** Ends it, wherever it is. */
  end(): Promise<void>;
}

export interface ThreadEvents {
  message(message: unknown): void;
  /** Once and last; with the fault that ended it, if one did. */
  ended(fault: Error | undefined): void;
}

/** `program`: a module, without its ending, which is that of the caller's own. */
export function startThread(program: URL, { data, events }: { readonly data: unknown; readonly events: ThreadEvents }): Thread {
  const ending = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  const worker = new Worker(new URL(`${program.href}${ending}`), { workerData: data });
  let fault: Error | undefined;
  worker.on("message", (message) => events.message(message));
  worker.on("messageerror", (error) => {
    fault = error;
    void worker.terminate(); // what it said is lost, and somebody waits for it
  });
  worker.on("error", (error) => (fault = error instanceof Error ? error : new Error(String(error))));
  worker.once("exit", () => events.ended(fault));
  return {
    post: (message) => worker.postMessage(message),
    end: async () => void (await worker.terminate()),
  };
}

/** Of the thread that asks. Throws where that is no thread. */
export function ownThread(): { readonly data: unknown; post(message: unknown): void; onMessage(act: (message: unknown) => void): void } {
  const port = parentPort;
  if (port === null) throw new Error("this program runs in a thread of the gateway only");
  return { data: workerData, post: (message) => port.postMessage(message), onMessage: (act) => void port.on("message", act) };
}
