import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../support/listeners.ts";
import { createWorkplace, ended, says, tell, type Workplace } from "../support/run-command.ts";

let place: Workplace;
let demo: ChildProcessWithoutNullStreams;
let printed: string;
let port: number;
const started = { npm_lifecycle_event: "start" };

beforeAll(async () => {
  place = await createWorkplace("");
  port = await freePort();
  demo = place.start(["demo", "--port", String(port)], started);
  printed = await says(demo, /Ctrl-C ends it/u, "stdout");
});
afterAll(async () => {
  if (demo.exitCode === null) tell(demo, "SIGKILL");
  await place.remove();
});

/** The lines to type, as words after the command's own name. */
function linesToType(): string[][] {
  return [...printed.matchAll(/^ {2}echo hi \| (?:npm run --silent pipegate --|deno task --quiet pipegate) (.+)$/gmu)].map((match) =>
    match[1]!.split(" "),
  );
}

describe("pipegate demo", () => {
  test("prints a first line that brings hi back", async () => {
    expect(linesToType()).toHaveLength(2);
    expect(await place.run(linesToType()[0]!, "hi\n")).toEqual({ status: 0, out: Buffer.from("hi\n"), err: "" });
  });
  test("prints a second line that is refused, with the reason and what to do", async () => {
    const { status, out, err } = await place.run(linesToType()[1]!, "hi\n");
    expect({ status, out: out.length }).toEqual({ status: 4, out: 0 });
    expect(err).toMatch(/^pipegate: refused: no rule lets this identity reach that target\. .+\n$/u);
  });
  test("has a back end over TCP that answers, with bytes and with lines", async () => {
    expect((await place.run(["pipe", "upper"], "hi there\n")).out.toString()).toBe("HI THERE\n");
    expect((await place.run(["pipe", "upper", "--lines"], "a\nb\n")).out.toString()).toBe("A\nB\n");
  });
  test("writes the ports that it has into its config", () => {
    const text = readFileSync(join(place.folder, "certs/demo.yaml"), "utf8");
    expect(text).toContain(`- listen: 127.0.0.1:${port}\n`);
    expect(Number(/upper: \{ tcp: 127\.0\.0\.1:(\d+),/u.exec(text)?.[1])).toBeGreaterThan(1023);
  });
  test("leaves a config that a missing one is told of", async () => {
    const { status, err } = await place.run(["gateway"]);
    expect({ status, err }).toEqual({
      status: 2,
      err: "pipegate: pipegate.yaml does not exist. Try -c certs/demo.yaml, which pipegate demo left here.\n",
    });
  });
  test("can be looked into", async () => {
    const { status, out } = await place.run(["status"]);
    expect(status).toBe(0);
    expect(out.toString()).toMatch(new RegExp(`^ready, listening on 127\\.0\\.0\\.1:${port}\n`, "u"));
  });
  test("keeps keys from others", () => {
    for (const name of ["ca", "gateway", "client", "stranger"])
      expect(statSync(join(place.folder, "certs", `${name}-key.pem`)).mode & 0o077).toBe(0);
  });
  test("takes the next port when its own is taken, says so, and uses what lies there already", async () => {
    const before = readFileSync(join(place.folder, "certs/ca.pem"), "utf8");
    const profile = readFileSync(join(place.folder, "certs/pipegate.env"), "utf8");
    const second = place.start(["demo", "--port", String(port)], started);
    const end = ended(second);
    const text = await says(second, /Ctrl-C ends it/u, "stdout");
    expect(text).toMatch(/are used again/u);
    expect(readFileSync(join(place.folder, "certs/ca.pem"), "utf8")).toBe(before);
    expect((await place.run(["pipe", "echo"], "hi")).out.toString()).toBe("hi");
    tell(second, "SIGINT");
    const { status, err } = await end;
    expect(status).toBe(0);
    // The next one that is free: others on this machine take ports, too.
    const [, next] = new RegExp(`port ${port} is taken, so the gateway listens on (\\d+)`, "u").exec(err) ?? [];
    expect(Number(next)).toBeGreaterThan(port);
    writeFileSync(join(place.folder, "certs/pipegate.env"), profile);
  });
  test("ends with 0 when told, and takes its socket away", async () => {
    const end = ended(demo);
    tell(demo, "SIGTERM");
    expect((await end).status).toBe(0);
    expect(existsSync(join(place.folder, `certs/admin-${port}.sock`))).toBe(false);
  });
  test("lets the stranger in within seconds, once its config says so, and keeps what was written", async () => {
    const file = join(place.folder, "certs/demo.yaml");
    const mended = (text: string): string => text.replace(/clients: \[.*?\] .*to let the stranger in: (\[.*\])/u, "clients: $1");
    const withoutPorts = (text: string): string => text.replace(/:\d+/gu, "");
    demo = place.start(["demo", "--port", String(port)], started);
    await says(demo, /Ctrl-C ends it/u, "stdout");
    expect(existsSync(join(place.folder, `certs/admin-${port}.sock`))).toBe(true);
    const stranger = async (): Promise<string> => (await place.run(["pipe", "echo", "--cert", "certs/stranger.pem"], "hi")).out.toString();
    expect(await stranger()).toBe("");
    const text = readFileSync(file, "utf8");
    writeFileSync(file, mended(text));
    await expect.poll(stranger, { timeout: 10_000 }).toBe("hi");
    expect(readFileSync(file, "utf8")).toBe(mended(text));
    tell(demo, "SIGTERM");
    await ended(demo);
    demo = place.start(["demo", "--port", String(port)], started);
    await says(demo, /Ctrl-C ends it/u, "stdout");
    expect(withoutPorts(readFileSync(file, "utf8"))).toBe(withoutPorts(mended(text)));
  });
  test("takes away the socket that a killed one left, and nothing that is in use or is no socket", async () => {
    const certs = (name: string): string => join(place.folder, "certs", name);
    const end = ended(demo);
    tell(demo, "SIGKILL");
    await end;
    writeFileSync(certs("admin-1.sock"), "a file");
    expect(existsSync(certs(`admin-${port}.sock`))).toBe(true);
    const other = await freePort();
    demo = place.start(["demo", "--port", String(other)], started);
    await says(demo, /Ctrl-C ends it/u, "stdout");
    const left = [port, other, 1].map((one) => existsSync(certs(`admin-${one}.sock`)));
    expect(left).toEqual([false, true, true]);
    expect(readFileSync(certs("demo.yaml"), "utf8")).toContain(`- listen: 127.0.0.1:${other}\n`);
  });
});
