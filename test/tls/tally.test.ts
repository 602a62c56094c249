import { describe, expect, test } from "vitest";
import { createTallyMemory, sharedTally } from "../../src/tls/shared-tally.ts";
import { createTally, type Tally } from "../../src/tls/tally.ts";

const memory = createTallyMemory();
let scopes = 0;

describe.each<[string, () => Tally]>([
  ["of its own", createTally],
  ["that threads share", () => sharedTally(memory, `scope ${++scopes}`)],
])("a tally %s", (_, create) => {
  test("counts each name for itself, up and down", () => {
    const tally = create();
    const [one, other] = [tally.of("one"), tally.of("other")];
    one.add(1);
    one.add(1);
    other.add(1);
    expect([one.value, other.value, tally.of("one").value, tally.of("nobody").value]).toEqual([2, 1, 2, 0]);
    one.add(-1);
    other.add(-1);
    expect([one.value, other.value]).toEqual([1, 0]);
  });
});

describe("a tally that threads share", () => {
  test("is one for all who have its memory and its scope, and another for another scope", () => {
    const [mine, theirs, elsewhere] = ["a", "a", "b"].map((scope) => sharedTally(memory, scope));
    mine!.of("1.2.3.4").add(1);
    theirs!.of("1.2.3.4").add(1);
    expect([mine!.of("1.2.3.4").value, theirs!.of("1.2.3.4").value, elsewhere!.of("1.2.3.4").value]).toEqual([2, 2, 0]);
  });

  test("never counts less than there is, and of a thousand names hardly one for another", () => {
    const tally = sharedTally(createTallyMemory(), "many");
    const names = Array.from({ length: 1_000 }, (_, n) => `10.0.${n >> 8}.${n & 255}`);
    for (const name of names) tally.of(name).add(1);
    const counts = names.map((name) => tally.of(name).value);
    expect(Math.min(...counts)).toBe(1);
    expect(counts.filter((count) => count > 1).length).toBeLessThanOrEqual(20); // 3 or 4 are likely
    for (const name of names) tally.of(name).add(-1);
    expect(names.every((name) => tally.of(name).value === 0)).toBe(true);
  });
});
