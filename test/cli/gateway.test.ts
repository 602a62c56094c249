import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, ended, says, tell, type Workplace } from "../support/run-command.ts";

let place: Workplace;
let taken: Server;

beforeAll(async () => {
  const ca = createTestCa();
  place = await createWorkplace(ca.certificate, { alice: ca.client("alice"), gateway: ca.gateway() });
  taken = createServer();
  await new Promise<void>((resolve) => void taken.listen(0, "127.0.0.1", resolve));
});
afterAll(async () => {
  taken.close();
  await place.remove();
});

/** Writes a config that listens on `listen`, with `change` made to its text. */
async function config(name: string, listen = "127.0.0.1:0", change: (text: string) => string = (text) => text): Promise<string> {
  const text = `listeners:
  - listen: ${listen}
identity:
  certificate: gateway.pem
  key: gateway-key.pem
trust:
  ca: [ca.pem]
targets:
  echo: { builtin: echo }
rules:
  - clients: ["spiffe://dev/agent/*"]
    targets: [echo]
`;
  await writeFile(join(place.folder, name), change(text));
  return name;
}

interface ReadyLine {
  readonly event: string;
  readonly listen: readonly string[];
}

function readyLine(text: string): ReadyLine {
  return JSON.parse(text.split("\n").find((line) => line.includes("gateway ready"))!) as ReadyLine;
}

describe("pipegate gateway", () => {
  test("says where it listens once it does, serves, and ends with 0 after SIGTERM", async () => {
    const child = place.start(["gateway", "-c", await config("good.yaml")]);
    const end = ended(child);
    const { listen } = readyLine(await says(child, /gateway ready/u));
    const settings = { PIPEGATE_GATEWAY: listen[0]!, PIPEGATE_CERT: "alice.pem", PIPEGATE_CA: "ca.pem" };
    expect(await place.run(["pipe", "echo"], "hi", settings)).toEqual({ status: 0, out: Buffer.from("hi"), err: "" });
    tell(child, "SIGTERM");
    const { status, out, err } = await end;
    expect({ status, out: out.length }).toEqual({ status: 0, out: 0 });
    for (const line of err
      .trimEnd()
      .split("\n")
      .filter((one) => !one.startsWith("pipegate: ")))
      expect(JSON.parse(line)).toHaveProperty("event");
    expect(err).toMatch(/"event":"pipe open"[^\n]*spiffe:\/\/dev\/agent\/alice/u);
  });
  test("lets a pipe end that is open when it is told to stop, and breaks it off at a second signal", async () => {
    const child = place.start(["gateway", "-c", await config("good.yaml")]);
    const end = ended(child);
    const { listen } = readyLine(await says(child, /gateway ready/u));
    const settings = { PIPEGATE_GATEWAY: listen[0]!, PIPEGATE_CERT: "alice.pem", PIPEGATE_CA: "ca.pem" };
    const [whole, broken] = [place.start(["pipe", "echo"], settings), place.start(["pipe", "echo"], settings)];
    const [wholeEnd, brokenEnd] = [ended(whole), ended(broken)];
    for (const pipe of [whole, broken]) {
      pipe.stdin.write("hi");
      await once(pipe.stdout, "data");
    }
    const draining = says(child, /draining/u);
    tell(child, "SIGTERM");
    await draining;
    whole.stdin.end(" there");
    expect(await wholeEnd).toMatchObject({ status: 0, out: Buffer.from("hi there") });
    tell(child, "SIGTERM");
    expect(await brokenEnd).toMatchObject({ status: 5, err: expect.stringMatching(/shutting down/u) });
    expect((await end).status).toBe(0);
  });
});

describe("pipegate gateway ends with 2 and one clear line for", () => {
  const address = (): string => `127.0.0.1:${(taken.address() as AddressInfo).port}`;
  test.each([
    ["a port in use", () => config("a.yaml", address()), /already in use|in use/u],
    ["a missing config", () => Promise.resolve("nope.yaml"), /nope\.yaml/u],
    ["a folder instead of a config", () => Promise.resolve("."), /folder/u],
    [
      "an unknown key",
      () => config("b.yaml", undefined, (text) => text.replace("targets:\n  echo", "tragets:\n  echo")),
      /b\.yaml:\d+:\d+.*tragets/u,
    ],
    ["a missing certificate", () => config("c.yaml", undefined, (text) => text.replace("gateway.pem", "nope.pem")), /nope\.pem/u],
    [
      "a key that does not fit",
      () => config("d.yaml", undefined, (text) => text.replace("gateway-key.pem", "alice-key.pem")),
      /alice-key\.pem/u,
    ],
    ["no rules that parse", () => config("e.yaml", undefined, (text) => text.replace('"spiffe://dev/agent/*"', "3")), /e\.yaml:\d+:\d+/u],
  ])("%s", async (_, file, message) => {
    const { status, out, err } = await place.run(["gateway", "-c", await file()]);
    expect({ status, out: out.length }).toEqual({ status: 2, out: 0 });
    expect(err).toMatch(/^pipegate: /u);
    expect(err).toMatch(message);
    expect(err).not.toMatch(/ {4}at |node:internal/u);
  });
});
