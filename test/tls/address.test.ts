import { once } from "node:events";
import { existsSync, lstatSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDoor, type TestDoor } from "../support/door.ts";
import { clientOptions } from "../support/door-options.ts";
import { createTestCa } from "../support/mint.ts";
import { startProgram } from "../support/this-runtime.ts";

const ca = createTestCa();
const alice = ca.client("alice");
const folder = mkdtempSync(join(tmpdir(), "pipegate-door-"));
const path = join(folder, "door.sock");
const at = (where: string) => ({ ca, options: { address: { kind: "unix", path: where } } }) as const;
afterAll(() => rmSync(folder, { recursive: true }));

const config = (message: RegExp) => ({ code: "config", message: expect.stringMatching(message), next: expect.stringMatching(/\w/) });

describe("a listener on a unix socket", () => {
  test("serves, counts all as one source, lets only owner and group in, and takes the file away again", async () => {
    const before = process.umask(0o022);
    const door = await openDoor(at(path));
    expect([statSync(path).mode & 0o777, process.umask(before)]).toEqual([0o660, 0o022]);
    const socket = connectTls({
      path,
      ...clientOptions(ca, alice),
    });
    expect(String((await once(socket, "data"))[0])).toBe("hello\n");
    expect((await door.connection()).source).toEqual({ text: "unix", key: "unix" });
    socket.destroy();
    await door.close();
    expect(existsSync(path)).toBe(false);
  });

  /** A socket as a killed program leaves it. */
  async function leaveStale(): Promise<void> {
    const program = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    writeFileSync(join(folder, "dies.cjs"), program);
    await once(
      startProgram("", [], {
        words: ["/bin/sh", "-c", `exec "$0" ${"Deno" in globalThis ? "run -A" : ""} ${join(folder, "dies.cjs")}`, process.execPath],
      }),
      "close",
    );
    expect(lstatSync(path).isSocket()).toBe(true);
  }

  test("replaces a socket that nobody listens on, and refuses one that somebody does", async () => {
    await leaveStale();
    const door = await openDoor(at(path));
    await expect(openDoor(at(path))).rejects.toMatchObject(config(/already in use/));
    expect(existsSync(path)).toBe(true);
    await door.close();
  });

  test("is had by one of those who want it at the same time, whether a stale one lies there or nothing", async () => {
    for (const stale of [true, false]) {
      if (stale) await leaveStale();
      const doors = await Promise.allSettled(Array.from({ length: 5 }, () => openDoor(at(path))));
      const open = doors.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      expect(open.length).toBe(1);
      const socket = connectTls({ path, ...clientOptions(ca, alice) });
      expect(String((await once(socket, "data"))[0])).toBe("hello\n");
      socket.destroy();
      await open[0]!.close();
    }
  });

  test("never removes a file, a folder or a link, also not one to a stale socket", async () => {
    const file = join(folder, "file");
    writeFileSync(file, "mine");
    const link = join(folder, "link");
    symlinkSync(path, link);
    for (const where of [file, folder, link]) await expect(openDoor(at(where))).rejects.toMatchObject(config(/no socket/));
    expect([existsSync(file), lstatSync(link).isSymbolicLink()]).toEqual([true, true]);
  });

  test("names a folder that is missing", async () => {
    await expect(openDoor(at(join(folder, "none/door.sock")))).rejects.toMatchObject(config(/folder .* does not exist/));
  });

  test("names a path that is too long for a socket", async () => {
    await expect(openDoor(at(join(folder, "x".repeat(120))))).rejects.toMatchObject(config(/too long/));
  });
});

describe("a listener on a port", () => {
  let door: TestDoor;
  beforeAll(async () => {
    door = await openDoor({ ca });
  });
  afterAll(() => door.close());

  test("says which port it was given", () => {
    expect(door.listener.address).toEqual({ kind: "tcp", host: "127.0.0.1", port: expect.any(Number) });
    expect(door.port).toBeGreaterThan(0);
  });

  test("says that the port is in use, and the mend", async () => {
    await expect(openDoor({ ca, options: { address: { kind: "tcp", host: "127.0.0.1", port: door.port } } })).rejects.toMatchObject(
      config(/already in use/),
    );
  });

  test("says that an address is not of this host", async () => {
    await expect(openDoor({ ca, options: { address: { kind: "tcp", host: "192.0.2.1", port: 0 } } })).rejects.toMatchObject(
      config(/not an address of this host/),
    );
  });
});
