/** What the guard of the inner loops and of small loads lets pass. */
import { expect, test } from "vitest";
import { judgeCounts, ratiosBeyond } from "../../bench/bounds.ts";

const count = (instructions: number, bytes: number) => ({ instructions, bytes });
const isFine = (now: ReturnType<typeof count>, before = count(1_000, 100)): boolean => judgeCounts({ a: now }, { a: before })[0]!.isFine;

test("a count passes that is recorded, is less, or is a little more, and no other", () => {
  expect([count(1_000, 100), count(1, 0), count(1_030, 107)].map((now) => isFine(now))).toEqual([true, true, true]);
  expect([count(1_031, 100), count(1_000, 107.1), count(NaN, 100), count(1_000, NaN)].map((now) => isFine(now))).toEqual(
    Array<boolean>(4).fill(false),
  );
  expect([isFine(count(1, 2), count(1, 0)), isFine(count(1, 2.1), count(1, 0))]).toEqual([true, false]);
});

test("a loop that is not recorded, or is no longer counted, is not fine", () => {
  const judged = judgeCounts({ a: count(1, 1), young: count(1, 1) }, { a: count(1, 1), old: count(1, 1) });
  expect(judged.map(({ name, isFine: fine }) => [name, fine])).toEqual([
    ["a", true],
    ["young", false],
    ["old", false],
  ]);
});

test("a ratio passes up to 1.8 times the recorded one; what is no number or is not recorded does not", () => {
  expect(ratiosBeyond({ a: 1.79, b: 1.81, c: NaN, d: 1 }, { a: 1, b: 1, c: 1 })).toEqual(["b", "c", "d"]);
});
