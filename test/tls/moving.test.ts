import { connect } from "node:net";
import { expect, test, vi } from "vitest";
import { openDoor } from "../support/door.ts";
import { createTestCa } from "../support/mint.ts";

/** Watches of accepting that were begun and not stopped. */
const watches = new Set<object>();
vi.mock("../../src/runtime/accepting.ts", () => ({
  watchAccepting: () => {
    const watch = { takeOwn: () => false, stop: () => void watches.delete(watch) };
    watches.add(watch);
    return watch;
  },
}));

const somewhere = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });

test("a listener that moves leaves where it was, and is looked after where it is", async () => {
  await using door = await openDoor({ ca: createTestCa() });
  await door.listener.move(somewhere);
  const { address } = door.listener;
  expect(address.kind === "tcp" && (await isOpen(address.port))).toBe(true);
  expect([await isOpen(door.port), watches.size]).toEqual([false, 1]);
  door.listener.stop();
  expect(watches.size).toBe(0);
});

test("a listener that is stopped while it moves listens nowhere, and nothing looks after it", async () => {
  const door = await openDoor({ ca: createTestCa() });
  const moving = door.listener.move(somewhere);
  door.listener.stop();
  await moving;
  const { address } = door.listener;
  expect(address.kind === "tcp" && (await isOpen(address.port))).toBe(false);
  expect(watches.size).toBe(0);
});
