import { createServer } from "node:http";
import { join } from "node:path";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startProgram } from "../support/this-runtime.ts";
import { createTestCa } from "../support/mint.ts";
import { createWorkplace, ended, says, tell, type Ended } from "../support/run-command.ts";
import { standInAdmin, unasked, type StandInOptions } from "../support/stand-in-admin.ts";

let folder: string;
let socket: string;
let admin: { close(): void } | undefined;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pipegate-reload-"));
  socket = join(folder, "admin.sock");
});
afterEach(() => admin?.close());
afterAll(() => rm(folder, { recursive: true }));

async function reload(options: Partial<StandInOptions>): Promise<Ended> {
  admin = await standInAdmin(socket, { ...unasked, ...options });
  return run();
}

function run(): Promise<Ended> {
  const child = startProgram("src/cli/main.ts", ["reload", "--admin", `unix:${socket}`], {
    folder,
    environment: { XDG_CONFIG_HOME: folder },
  });
  return ended(child);
}

describe("pipegate reload", () => {
  test("waits for the outcome, and says in one line what is in force", async () => {
    let asked = 0;
    const { status, out, err } = await reload({
      reload: async () => {
        asked++;
        await new Promise((resolve) => setImmediate(resolve));
        return { ok: true, summary: "version 7: rules\u001b[2J" };
      },
    });
    expect({ status, out: out.toString(), err }).toEqual({ status: 0, out: "reloaded: version 7: rules\\u{1b}[2J\n", err: "" });
    expect(asked).toBe(1);
  });
  test("ends with 2 and every line of why not, and says that the config of before goes on serving", async () => {
    const { status, out, err } = await reload({ reload: async () => ({ ok: false, lines: ["p.yaml:1:2 one", "p.yaml:3:4 two"] }) });
    expect({ status, out: out.toString() }).toEqual({ status: 2, out: "" });
    expect(err).toBe(
      "pipegate: the config was not taken, and the one before goes on serving. Mend it, then try again.\np.yaml:1:2 one\np.yaml:3:4 two\n",
    );
  });
  test("ends with 2 when the gateway has no config file, and with 3 when there is no gateway", async () => {
    expect(await reload({})).toMatchObject({ status: 2, err: expect.stringContaining("was not started from a config file") });
    admin?.close();
    expect(await run()).toMatchObject({ status: 3, err: expect.stringMatching(/no gateway listens on/u) });
  });

  test("ends with 6 when the gateway is still at it after a minute, which it says itself before we give up", async () => {
    const server = createServer((_, response) => void response.writeHead(504).end('{"error":"late"}'));
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    try {
      expect(await run()).toMatchObject({
        status: 6,
        err: "pipegate: timed out: the gateway is still loading the config. Look what came of it: pipegate status.\n",
      });
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });

  test("puts the new config of a running gateway in force, or leaves the old one", async () => {
    const ca = createTestCa();
    const place = await createWorkplace(ca.certificate, { gateway: ca.gateway() });
    const file = join(place.folder, "pipegate.yaml");
    const text = (rules: string): string => `listeners: [{ listen: "127.0.0.1:0" }]
identity: { certificate: gateway.pem, key: gateway-key.pem }
trust: { ca: [ca.pem], maxStaleness: 1h }
targets: { echo: { builtin: echo } }
rules: [${rules}]
selfTest: skip
admin: { listen: "unix:admin.sock" }
`;
    try {
      await writeFile(file, text(""));
      const child = place.start(["gateway"]);
      const end = ended(child);
      await says(child, /gateway ready/u);
      await writeFile(file, text('{ clients: ["*"], targets: ["*"] }'));
      const taken = await place.run(["reload"]);
      expect(taken).toMatchObject({ status: 0, err: "" });
      expect(taken.out.toString()).toMatch(/^reloaded: version 2: /u);
      await writeFile(file, text("{ clients: [nonsense], targets: [echo] }"));
      const refused = await place.run(["reload", "-c", "pipegate.yaml"]);
      // The socket is found in a file that is broken elsewhere, because the gateway runs by what stood there before.
      expect(refused).toMatchObject({ status: 2, err: expect.stringMatching(/goes on serving(?:.|\n)*pipegate\.yaml:5:/u) });
      expect(JSON.parse((await place.run(["status", "--json"])).out.toString())).toMatchObject({
        version: 2,
      });
      await writeFile(file, text("{}").replace("unix:admin.sock", "tcp:1"));
      expect(await place.run(["reload"])).toMatchObject({ status: 2, err: expect.stringContaining("admin.listen") });
      tell(child, "SIGTERM");
      expect((await end).status).toBe(0);
    } finally {
      await place.remove();
    }
  });
});
