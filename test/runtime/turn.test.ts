import { expect, test } from "vitest";
import { flushSoon, NEVER, type Written } from "../../src/runtime/turn.ts";

const endOfCallback = (): Promise<void> => Promise.resolve();
const endOfTurn = async (): Promise<void> => {
  await endOfCallback();
  await new Promise<void>((resolve) => void setImmediate(resolve));
};

class Writer implements Written {
  flushes = 0;
  pendingBytes = 0;
  #last = NEVER;
  write(bytes: number): void {
    if (this.pendingBytes === 0) this.#last = flushSoon(this, this.#last);
    this.pendingBytes += bytes;
  }
  flush(): void {
    this.flushes++;
    this.pendingBytes = 0;
  }
}

test("who writes in every turn is flushed once, at the turn's end", async () => {
  const busy = new Writer();
  for (let turns = 0; turns < 3; turns++) {
    busy.write(20_000);
    await endOfTurn();
  }
  expect(busy.flushes).toBe(3);
  busy.write(10);
  await endOfCallback();
  busy.write(10);
  await endOfCallback();
  expect(busy.flushes).toBe(3);
  await endOfTurn();
  expect(busy.flushes).toBe(4);
});

test("who was quiet for a turn and has little is flushed when the running callback is over, once a turn", async () => {
  const [busy, quiet] = [new Writer(), new Writer()];
  for (let round = 1; round <= 3; round++) {
    for (let turns = 0; turns < 2; turns++) {
      busy.write(20_000);
      await endOfTurn();
    }
    busy.write(20_000);
    quiet.write(64);
    quiet.write(64);
    await endOfCallback();
    expect([quiet.flushes, busy.pendingBytes]).toEqual([2 * round - 1, 20_000]);
    quiet.write(64);
    await endOfCallback();
    expect(quiet.flushes).toBe(2 * round - 1);
    await endOfTurn();
    expect(quiet.flushes).toBe(2 * round);
  }
});

test("who was quiet and has much waits for the turn's end", async () => {
  const writer = new Writer();
  writer.write(20_000);
  await endOfCallback();
  expect(writer.flushes).toBe(0);
  await endOfTurn();
  expect(writer.flushes).toBe(1);
});
