/** A worker that has a fault of its own, once it is asked to explain. */
import "../../../src/workers/worker.ts";
import { ownThread } from "../../../src/runtime/threads.ts";

ownThread().onMessage((message) => {
  if ((message as { readonly name?: string }).name === "explain")
    setTimeout(() => {
      throw new Error("a fault of the test");
    });
});
