import { expect, test } from "vitest";
import { playSessions } from "../support/session-model.ts";

const seed = Number(process.env["FUZZ_SEED"] ?? 20_261_121);
const PLAYS = 120;

test("whatever programs and the wire do, all that is said arrives once and in order, and whoever wants to end comes to an end", () => {
  let ends = 0;
  for (let play = 0; play < PLAYS; play++) ends += playSessions(seed + play);
  expect(ends).toBeGreaterThan(PLAYS);
}, 60_000);
