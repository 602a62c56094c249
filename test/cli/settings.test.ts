import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type ConnectionFlags, readAdmin, readSettings, type Surroundings } from "../../src/cli/settings.ts";

let root: string;
let environment: Record<string, string>;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "settings-"));
});
afterAll(() => rm(root, { recursive: true }));

/** A folder of its own for each test, with files named in `files`. */
let folder: string;
let count = 0;
beforeEach(async () => {
  folder = join(root, String(count++));
  environment = { XDG_CONFIG_HOME: join(folder, "xdg") };
  await write({
    "flag.pem": "flag certificate",
    "flag-key.pem": "flag key",
    "env.pem": "env certificate",
    "env-key.pem": "env key",
    "ca.pem": "ca",
  });
});

async function write(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(path, text, { mode: 0o600 });
  }
}

function around(): Surroundings {
  return { environment: (name) => environment[name], folder };
}
const read = (flags: ConnectionFlags = {}): ReturnType<typeof readSettings> => readSettings(flags, around());

describe("a client's settings", () => {
  test("come from flags before the environment, the profile, and what demo left", async () => {
    await write({
      "xdg/pipegate/default.env": "PIPEGATE_GATEWAY=profile:1\nPIPEGATE_SERVER_NAME=profile.example\nPIPEGATE_CA=ca.pem\n",
      "xdg/pipegate/ca.pem": "profile ca",
      "certs/pipegate.env": "PIPEGATE_GATEWAY=demo:1\nPIPEGATE_CERT=alice.pem\nPIPEGATE_CA=ca.pem\n",
      "certs/alice.pem": "demo certificate",
      "certs/alice-key.pem": "demo key",
      "certs/ca.pem": "demo ca",
    });
    expect((await read()).connect).toEqual({
      gateway: "profile:1",
      serverName: "profile.example",
      certificate: "demo certificate",
      key: "demo key",
      ca: "profile ca",
    });
    environment["PIPEGATE_GATEWAY"] = "environment:1";
    environment["PIPEGATE_CERT"] = "env.pem";
    expect((await read()).connect).toMatchObject({ gateway: "environment:1", certificate: "env certificate", key: "env key" });
    expect((await read({ gateway: "flag:1", cert: "flag.pem" })).connect).toMatchObject({
      gateway: "flag:1",
      certificate: "flag certificate",
      key: "flag key",
      serverName: "profile.example",
    });
  });
  test("after demo need nothing else", async () => {
    await write({
      "certs/pipegate.env":
        "# left by demo\nPIPEGATE_GATEWAY=127.0.0.1:8443\nPIPEGATE_CERT=alice.pem\nPIPEGATE_CA=ca.pem\nPIPEGATE_ADMIN=unix:admin.sock\n",
      "certs/alice.pem": "c",
      "certs/alice-key.pem": "k",
      "certs/ca.pem": "a",
    });
    expect((await read()).connect).toEqual({ gateway: "127.0.0.1:8443", certificate: "c", key: "k", ca: "a" });
    const demo = `unix:${join(folder, "certs", "admin.sock")}`;
    expect(await readAdmin({}, around())).toEqual({ named: undefined, demo });
    expect(await readAdmin({ admin: "unix:/run/x.sock" }, around())).toEqual({ named: "unix:/run/x.sock", demo });
  });
  test("never mix a certificate of one place with the key of another", async () => {
    environment["PIPEGATE_CERT"] = "env.pem";
    environment["PIPEGATE_KEY"] = "env-key.pem";
    const { connect } = await read({ gateway: "g:1", cert: "flag.pem", ca: "ca.pem" });
    expect(connect).toMatchObject({ certificate: "flag certificate", key: "flag key" });
  });
  test("can come from a named profile, or from a profile's path", async () => {
    await write({
      "xdg/pipegate/work.env": "PIPEGATE_GATEWAY=work:1\nPIPEGATE_CERT=../../flag.pem\nPIPEGATE_CA=../../ca.pem\n",
      "other/x.env": "PIPEGATE_GATEWAY=other:1\nPIPEGATE_CERT=../env.pem\nPIPEGATE_CA=../ca.pem\n",
    });
    expect((await read({ profile: "work" })).connect).toMatchObject({ gateway: "work:1", key: "flag key" });
    expect((await read({ profile: "other/x.env" })).connect).toMatchObject({ gateway: "other:1", key: "env key" });
    environment["PIPEGATE_PROFILE"] = "work";
    expect((await read()).connect.gateway).toBe("work:1");
  });
  test("say where each came from", async () => {
    environment["PIPEGATE_CA"] = "ca.pem";
    const { places } = await read({ gateway: "g:1", cert: "flag.pem" });
    expect(places).toEqual(["gateway: g:1 (--gateway)", "cert: flag.pem (--cert)", "ca: ca.pem (PIPEGATE_CA)"]);
  });
  test("warn of a key that others can read", async () => {
    expect((await read({ gateway: "g:1", cert: "flag.pem", ca: "ca.pem" })).warnings).toEqual([]);
    await chmod(join(folder, "flag-key.pem"), 0o644);
    expect((await read({ gateway: "g:1", cert: "flag.pem", ca: "ca.pem" })).warnings[0]).toMatch(
      /flag-key\.pem can be read by other users/u,
    );
  });
});

describe("wrong settings", () => {
  const complete = { gateway: "g:1", cert: "flag.pem", ca: "ca.pem" };
  test.each([
    ["nothing given", {}, "usage", /no gateway is given/u],
    ["no certificate", { gateway: "g:1" }, "usage", /no certificate is given/u],
    ["no CA", { gateway: "g:1", cert: "flag.pem" }, "usage", /no CA is given/u],
    ["a missing file", { ...complete, cert: "nope.pem" }, "config", /nope\.pem \(--cert\) does not exist/u],
    [
      "a key that is not beside",
      { ...complete, cert: "ca.pem" },
      "config",
      /ca-key\.pem \(beside --cert; pass --key if it lies elsewhere\) does not exist/u,
    ],
    ["a folder", { ...complete, ca: "." }, "config", /\(--ca\) is a folder, not a file/u],
    ["a profile that does not exist", { ...complete, profile: "nope" }, "config", /nope\.env \(the profile\) does not exist/u],
  ] as const)("%s", async (_, flags, code, message) => {
    const error: unknown = await read(flags).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "PipegateError", code });
    expect((error as Error).message).toMatch(message);
  });
  test("an unknown name in a profile", async () => {
    await write({ "xdg/pipegate/default.env": "PIPEGATE_GATWAY=x:1\n" });
    await expect(read()).rejects.toMatchObject({ code: "config", message: expect.stringMatching(/unknown name PIPEGATE_GATWAY/u) });
  });
  test("a file that is far too large", async () => {
    await write({ "large.pem": "x".repeat((1 << 20) + 1) });
    await expect(read({ ...complete, ca: "large.pem" })).rejects.toMatchObject({ message: expect.stringMatching(/larger than 1 MiB/u) });
  });
});
