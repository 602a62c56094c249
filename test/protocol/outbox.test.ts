import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import type { Batch } from "../../src/base/channel.ts";
import { Flag, FRAME_COST } from "../../src/protocol/frame.ts";
import { Outbox } from "../../src/protocol/outbox.ts";
import { Writer } from "../../src/protocol/writer.ts";
import { collect, collectUntil } from "../support/collect.ts";
import { cutFrames, type SeenFrame } from "../support/raw-peer.ts";

const ID = 7;
const MAX_PAYLOAD = 16_376;

/** A writer whose frames can be looked at. */
function writing(): { readonly writer: Writer; frames(): SeenFrame[] } {
  const sent: Buffer[] = [];
  const transport = { write: (chunk: Buffer, written: () => void) => (sent.push(Buffer.from(chunk)), written()), end() {}, destroy() {} };
  const writer = new Writer(transport, () => {});
  return { writer, frames: () => (writer.flush(), cutFrames(Buffer.concat(sent.splice(0)))) };
}

interface Turn {
  readonly room?: number;
  readonly wanted?: number;
  readonly ending?: boolean;
}

function put(outbox: Outbox, { writer, room = 1 << 20, wanted = 1 << 20, ending = false }: Turn & { readonly writer: Writer }): number {
  return outbox.put(writer, { id: ID, room, wanted, maxPayload: MAX_PAYLOAD, ending });
}

/** A number below `limit`, the same ones in every run. */
function dice(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) % limit;
}

/** Messages in one chunk, of which the first was sent before; `more`: bytes that the chunk has besides. */
function batchOf(messages: readonly Buffer[], more: number): [batch: Batch, start: number] {
  const places: number[] = [];
  let end = 4; // as if a prefix stood before
  for (const { length } of messages) places.push(end, (end += length));
  return [{ chunk: Buffer.concat([Buffer.alloc(4), ...messages, Buffer.alloc(more)]), places }, 2];
}

const sizes = [0, 1, 64, 256, 1024, 1025, 4095, 4096, 40_000] as const;

describe("what waits leaves in order and whole, whatever may go at a time", () => {
  test.each(Array.from({ length: 40 }, (_, seed) => seed))("seed %i", (seed) => {
    const roll = dice(seed + 1);
    const outbox = new Outbox();
    const { writer, frames } = writing();
    const messages: Buffer[] = [];
    const seen: Buffer[] = [];
    let part: Buffer[] = [];
    let cost = 0;
    let counted = 0;
    for (let step = 0; step < 400 || !outbox.empty; step++) {
      if (step < 400 && roll(2) === 0) {
        const message = Buffer.alloc(sizes[roll(sizes.length)]!, roll(256));
        messages.push(message);
        if (roll(3) > 0) outbox.push(message, { id: roll(5) === 0 ? 0 : ID, last: true });
        else {
          const others = Array.from({ length: roll(4) }, () => Buffer.alloc(sizes[roll(7)]!, roll(256)));
          const [batch, start] = batchOf([Buffer.from("sent"), message, ...others], roll(2) * 60_000);
          outbox.pushBatch(batch, { id: roll(5) === 0 ? 0 : ID, start });
          messages.push(...others);
        }
      } else cost += put(outbox, { writer, room: FRAME_COST + roll(3_000) + (outbox.nextIsEmpty ? 0 : 1), wanted: 1 + roll(3_000) });
      for (const { id, flags, payload } of frames()) {
        expect(id).toBe(ID);
        counted += FRAME_COST + payload.length;
        part.push(payload);
        if ((flags & Flag.END_MESSAGE) === 0) continue;
        seen.push(Buffer.concat(part));
        part = [];
      }
    }
    expect(seen.length).toBe(messages.length);
    expect(seen.every((message, n) => message.equals(messages[n]!))).toBe(true);
    expect([cost, part.length, outbox.bytes]).toEqual([counted, 0, 0]);
  });
});

test("small chunks leave together, up to what is wanted and never beyond the room", () => {
  const outbox = new Outbox();
  const { writer, frames } = writing();
  for (let n = 0; n < 100; n++) outbox.push(Buffer.alloc(256), { id: ID, last: true });
  const each = FRAME_COST + 256;
  expect(put(outbox, { writer, room: 4 * each + 1 })).toBe(4 * each);
  expect(put(outbox, { writer, wanted: 3 * each - 1 })).toBe(3 * each);
  expect(outbox.bytes).toBe(93 * each);
  let turns = 0;
  while (put(outbox, { writer }) > 0) turns++;
  expect(turns).toBeLessThan(5);
  expect(frames().length).toBe(100);
});

test("a batch of little at the start of a large chunk keeps no more than itself", async () => {
  const outbox = new Outbox();
  const chunk = Buffer.alloc(64 << 10);
  collect();
  const before = process.memoryUsage().arrayBuffers;
  for (let n = 0; n < 1_000; n++) outbox.pushBatch({ chunk, places: [3, 4, 7, 9] }, { id: ID, start: 0 });
  expect(await collectUntil(8 << 20, () => process.memoryUsage().arrayBuffers - before)).toBeLessThan(8 << 20);
  expect(outbox.bytes).toBe(1_000 * (2 * FRAME_COST + 3));
});

test("a batch of much stops where the socket is full, whatever is wanted", () => {
  const writer = new Writer({ write() {}, end() {}, destroy() {} }, () => {});
  const outbox = new Outbox();
  const places = Array.from({ length: 400 }, (_, n) => n).flatMap((n) => [n * 1_000, n * 1_000 + 1_000]);
  outbox.pushBatch({ chunk: Buffer.alloc(400_000), places }, { id: ID, start: 0 });
  expect(put(outbox, { writer })).toBeLessThan(150_000);
  expect(writer.blocked).toBe(true);
  expect(writer.waiting).toBeLessThan(150_000);
});

test("tiny chunks between large ones keep no large buffer each", () => {
  const outboxes = Array.from({ length: 50 }, () => new Outbox());
  collect();
  const before = process.memoryUsage().arrayBuffers;
  for (const outbox of outboxes) {
    for (let n = 0; outbox.bytes < 64 << 10; n++) outbox.push(Buffer.alloc(n % 2 === 0 ? 1 : 1025), { id: ID, last: true });
  }
  collect();
  const each = (process.memoryUsage().arrayBuffers - before) / outboxes.length;
  expect(outboxes.every(({ bytes }) => bytes < 66 << 10)).toBe(true);
  expect(each).toBeLessThan(256 << 10);
});

test.each([256, 5_000])("the end goes with the last frame, of %i bytes", (size) => {
  const outbox = new Outbox();
  const { writer, frames } = writing();
  for (let n = 0; n < 2; n++) outbox.push(Buffer.alloc(size), { id: ID, last: false });
  put(outbox, { writer, wanted: 1, ending: true });
  put(outbox, { writer, ending: true });
  expect(frames().map(({ flags }) => flags)).toEqual([0, Flag.FIN]);
});

test.each([0, 10])(
  "a thousand messages of %i bytes, each a batch in a chunk of its own, are held as less than what is counted",
  async (length) => {
    const held = (): number => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
    const bound = 30 * 1_000 * (FRAME_COST + length);
    collect();
    const before = held();
    const outboxes = Array.from({ length: 30 }, () => new Outbox());
    for (const outbox of outboxes)
      for (let n = 0; n < 1_000; n++)
        outbox.pushBatch({ chunk: new Uint8Array(length + 4), places: [4, 4 + length] }, { id: ID, start: 0 });
    expect(await collectUntil(bound, () => held() - before)).toBeLessThan(bound);
    expect(outboxes.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(bound);
  },
);
