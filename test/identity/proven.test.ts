import { expect, test } from "vitest";
import { type Proof, ProvenLeaves } from "../../src/identity/proven.ts";

const proof = (fingerprint: string): Proof => ({ identity: { fingerprint } }) as Proof;

test("of the leaves that were proven so many are remembered, and the one that came first is forgotten first", () => {
  const proven = new ProvenLeaves(3);
  const all = ["a", "b", "c", "d"];
  for (const fingerprint of all) proven.add(proof(fingerprint));
  expect(all.map((fingerprint) => proven.find(fingerprint)?.identity.fingerprint)).toEqual([undefined, "b", "c", "d"]);
});

test("ten thousand are remembered where nobody says how many", () => {
  const proven = new ProvenLeaves();
  for (let n = 0; n <= 10_000; n++) proven.add(proof(`${n}`));
  expect([0, 1, 10_000].map((n) => proven.find(`${n}`) !== undefined)).toEqual([false, true, true]);
});
