import { expect, test } from "vitest";
import { flood, quantile } from "../support/floods.ts";

// The whole of it, 500 of each, is `npm run prove:floods`.
test("100 silent, 100 half-hello and 100 byte-by-byte clients are cut at the deadline and leave nothing; an honest one hardly notices", async () => {
  const deadlineMs = 3_000;
  const { descriptors, left, refused, strange, lives, handshakes } = await flood({ clients: 100, deadlineMs });
  expect({ refused, strange }).toEqual({ refused: { handshake_timeout: 300 }, strange: [] });
  expect(lives.length).toBe(300);
  expect(lives[0]).toBeGreaterThan(deadlineMs - 500); // its connect may have waited for us
  expect(lives.at(-1)).toBeLessThan(deadlineMs + 3_000);
  expect(descriptors.most).toBeGreaterThan(descriptors.before + 250);
  expect(descriptors.after <= descriptors.before ? [] : left).toEqual([]);
  expect(handshakes.length).toBeGreaterThan(10);
  expect(quantile(handshakes, 0.95)).toBeLessThan(300);
}, 60_000);
