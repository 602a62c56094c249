import { createServer } from "node:net";
import { existsSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { removeStaleSocket } from "../../src/runtime/bind.ts";
import { listenLocally } from "../../src/runtime/local-listener.ts";

const folder = mkdtempSync(join(tmpdir(), "pipegate-local-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "local.sock");
const drop = (socket: { destroy(): void }): void => socket.destroy();

/** A socket's file whose server is gone: a server takes away only what lies where it bound. */
async function leaveStale(at: string): Promise<void> {
  const born = join(folder, "born.sock");
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen({ path: born }, resolve));
  renameSync(born, at);
  await new Promise<void>((resolve) => void server.close(() => resolve()));
}

describe("a unix socket for programs of this host", () => {
  test("is for its owner only, replaces a stale one, and is gone once closed", async () => {
    await leaveStale(path);
    const listener = await listenLocally({ kind: "unix", path }, drop);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    listener.close();
    await expect.poll(() => existsSync(path)).toBe(false);
  });
  test("names a missing folder and a path that is too long, as the gateway's own listener does", async () => {
    await expect(listenLocally({ kind: "unix", path: join(folder, "none/x.sock") }, drop)).rejects.toMatchObject({
      code: "config",
      message: expect.stringMatching(/folder .* does not exist/u),
    });
    await expect(listenLocally({ kind: "unix", path: join(folder, "x".repeat(120)) }, drop)).rejects.toMatchObject({
      code: "config",
      message: expect.stringMatching(/too long/u),
    });
  });
});

describe("a socket that somebody left", () => {
  test("is removed when nobody answers, and stays when somebody does", async () => {
    await leaveStale(path);
    expect([await removeStaleSocket(path), existsSync(path)]).toEqual([true, false]);
    const listener = await listenLocally({ kind: "unix", path }, drop);
    expect([await removeStaleSocket(path), existsSync(path)]).toEqual([false, true]);
    listener.close();
  });
});
