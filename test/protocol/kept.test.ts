/**
 * What a session keeps for a peer who does not read or is not read holds little more alive than its bytes, also when much else went through the
 * process between two pieces of it: Buffer's pool, where runtimes put what they read and small copies, gives 64 KiB back only whole.
 */
import { Buffer } from "node:buffer";
import { expect, test } from "vitest";
import * as wire from "../../src/protocol/frame.ts";
import { Flag, Type } from "../../src/protocol/frame.ts";
import type { Transport } from "../../src/protocol/writer.ts";
import { Writer } from "../../src/protocol/writer.ts";
import { collect, collectUntil } from "../support/collect.ts";
import { dataFrame, RawPeer } from "../support/raw-peer.ts";

const MiB = 1 << 20;

/** What others take from the pool meanwhile. */
function others(): void {
  for (let n = 0; n < 17; n++) Buffer.allocUnsafe(4 << 10);
}

/** Bytes that are held more than before, once they are below `bound` or stay above it. */
async function grown(bound: number, act: () => unknown): Promise<number> {
  const held = (): number => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  collect();
  const before = held();
  const kept = act();
  const more = await collectUntil(bound, () => held() - before);
  return kept === undefined ? Number.NaN : more;
}

test.each([
  [10, 3_000],
  [4_200, 60],
])("messages of %i bytes that wait for a reader", async (length, count) => {
  const more = await grown(3 * MiB, () => {
    const peer = new RawPeer();
    peer.open(1, { messages: true });
    const stream = peer.streams[0]!;
    stream.pause();
    stream.attach({ data() {}, end() {}, drained() {}, closed() {} });
    for (let n = 0; n < count; n++) {
      others();
      peer.session.receive(Buffer.from(dataFrame(1, Buffer.alloc(length), Flag.END_MESSAGE)));
    }
    return stream.window.pinned > 200_000 ? stream : undefined;
  });
  expect(more).toBeLessThan(3 * MiB);
});

const deaf: Transport & { readonly chunks: Uint8Array[] } = {
  chunks: [],
  write: (chunk) => void deaf.chunks.push(chunk),
  end() {},
  destroy() {},
};

test("small writes that the transport does not take, and control frames behind them", async () => {
  const more = await grown(4 * MiB, () => {
    const writer = new Writer(deaf, () => {});
    for (let n = 0; n < 8_000; n++) {
      others();
      writer.control(wire.encodePing(Type.PONG, Buffer.alloc(8)));
      writer.flush();
    }
    return writer.waiting === 8_000 * 16 ? writer : undefined;
  });
  expect(more).toBeLessThan(4 * MiB);
});

test("the metadata of a stream", () => {
  const peer = new RawPeer();
  peer.open(1, { metadata: [{ key: 0x7000, value: Buffer.from("x") }] });
  const { value } = peer.streams[0]!.metadata[0]!;
  expect([String(value), value.buffer.byteLength]).toEqual(["x", 1]);
});
