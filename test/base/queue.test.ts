import fc from "fast-check";
import { expect, test } from "vitest";
import { Queue } from "../../src/base/queue.ts";
import { collect } from "../support/collect.ts";

test("a queue gives in the order in which it was given, whatever comes between", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom("push", "push", "take", "clear"), { maxLength: 500 }), (steps) => {
      const queue = new Queue<{ readonly n: number }>();
      const model: { readonly n: number }[] = [];
      for (const [n, step] of steps.entries()) {
        if (step === "push") {
          const item = { n };
          queue.push(item);
          model.push(item);
        } else if (step === "take") expect(queue.take()).toBe(model.shift());
        else {
          queue.clear();
          model.length = 0;
        }
        expect(queue.length).toBe(model.length);
        expect(queue.first).toBe(model[0]);
      }
    }),
  );
});

test("a queue that never runs empty keeps nothing of what was taken", async () => {
  const queue = new Queue<object>();
  const taken: WeakRef<object>[] = [];
  for (let n = 0; n < 10_000; n++) {
    queue.push({ n });
    if (n > 3) taken.push(new WeakRef(queue.take()!));
  }
  await new Promise((resolve) => setTimeout(resolve)); // a WeakRef holds on until the turn is over
  collect();
  expect(queue.length).toBe(4);
  expect(taken.filter((ref) => ref.deref() !== undefined).length).toBeLessThan(10);
});
