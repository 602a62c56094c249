import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serveAdmin } from "../../src/admin.ts";
import { statusLines } from "../../src/cli/status.ts";
import type { GatewayStatus } from "../../src/gateway.ts";
import { type Client, connect } from "../../src/mod.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { createWorkplace, type Workplace } from "../support/run-command.ts";

let running: TestGateway;
let admin: { close(): void };
let client: Client;
let place: Workplace;
let socket: string;

beforeAll(async () => {
  running = await startGateway();
  place = await createWorkplace(running.ca.certificate);
  socket = join(place.folder, "admin.sock");
  admin = await serveAdmin(running.gateway, `unix:${socket}`);
  client = await connect({ gateway: `127.0.0.1:${running.port}`, ...running.ca.client("alice"), ca: running.ca.certificate });
  const pipe = await client.open("echo");
  await pipe.writable.getWriter().write(new Uint8Array(2048));
  await pipe.readable.getReader().read();
  await client.open("nowhere").catch(() => {});
});
afterAll(async () => {
  await client.close();
  admin.close();
  await running.close();
  await place.remove();
});

describe("pipegate status", () => {
  test("shows where the gateway listens, its counters and its live pipes", async () => {
    const { status, out, err } = await place.run(["status", "--admin", `unix:${socket}`]);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    const text = out.toString();
    expect(text).toMatch(
      new RegExp(
        `^ready, listening on 127\\.0\\.0\\.1:${running.port}\nconfig: version 1, loaded [0-9]+ s ago\nconnections: 1 now, 1 in all; pipes: 1 now\nrefusals: `,
        "u",
      ),
    );
    expect(text).toMatch(/unknown_target 1/u);
    expect(text).toMatch(/^PIPE +IDENTITY +TARGET +BACK END/mu);
    expect(text).toMatch(/spiffe:\/\/dev\/agent\/alice +echo +echo +bytes +2\.0 KiB +2\.0 KiB/u);
  });
  test("gives the same as JSON, and the counters as Prometheus text", async () => {
    const json = JSON.parse((await place.run(["status", "--admin", `unix:${socket}`, "--json"])).out.toString()) as GatewayStatus;
    expect(json).toMatchObject({ state: "ready", connections: 1, pipes: [{ target: "echo", bytesIn: 2048, bytesOut: 2048 }] });
    const metrics = (await place.run(["status", "--metrics"], "", { PIPEGATE_ADMIN: `unix:${socket}` })).out.toString();
    expect(metrics).toMatch(/^# HELP pipegate_/mu);
  });
  test("ends with 3 when no gateway is there, and with 2 when nothing says where", async () => {
    const config = `listeners: [{ listen: "127.0.0.1:1" }]\nidentity: { certificate: gone.pem, key: gone-key.pem }\ntrust: { ca: [gone-ca.pem] }\ntargets: { echo: { builtin: echo } }\nrules: [{ clients: ["*"], targets: ["*"] }]\nadmin: { listen: "unix:admin.sock" }\n`;
    await writeFile(join(place.folder, "pipegate.yaml"), config); // what it names is not read
    await mkdir(join(place.folder, "certs"));
    await writeFile(join(place.folder, "certs", "pipegate.env"), "PIPEGATE_ADMIN=unix:left-by-demo.sock\n");
    expect(await place.run(["status"])).toMatchObject({ status: 0, err: "" });
    expect(await place.run(["status", "-c", "pipegate.yaml"])).toMatchObject({ status: 0, err: "" });
    await rm(join(place.folder, "certs"), { recursive: true });
    await rm(join(place.folder, "pipegate.yaml"));
    const gone = await place.run(["status", "--admin", "unix:/tmp/no-such.sock"]);
    expect(gone).toMatchObject({ status: 3, err: expect.stringMatching(/no gateway listens on \/tmp\/no-such\.sock/u) });
    expect(await place.run(["status"])).toMatchObject({ status: 2, err: expect.stringMatching(/no admin socket is named/u) });
  });
});

describe("the table", () => {
  test("cannot be broken by an identity's text", () => {
    const pipe = {
      id: "1.1",
      connection: "1",
      identity: "x\n\u001b[2J\u202e",
      target: "t",
      backEnd: "b",
      mode: "bytes",
      seconds: 1,
      waits: [],
    } as const;
    const status = {
      state: "ready",
      listeners: [],
      version: 2,
      loadedAt: 0,
      reloadFailure: { at: 60_000, lines: ["pipegate.yaml:1:1: \u001b[2J"] },
      judgedMs: 0,
      audit: { seq: 7, hash: "ab", failing: "ENOSPC", lost: 2 },
      identities: [
        { identity: "x\n\u202e", fingerprint: "f", serial: "0a", issuer: "i", notAfter: 200_000_000, lastUse: 0, connections: 1 },
      ],
      connections: 1,
      connectionsTotal: 1,
      refusals: {},
      pipes: [{ ...pipe, bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0 }],
    } as const;
    const lines = statusLines(status, 120_000);
    expect(lines).toHaveLength(14);
    expect(lines.slice(1, 4)).toEqual([
      "config: version 2, loaded 2 min ago",
      "NOT TAKEN: what the config says now, tried 60 s ago; the one before goes on serving:",
      "  pipegate.yaml:1:1: \\u{1b}[2J",
    ]);
    expect(lines.slice(4, 6)).toEqual(["audit log: line 7, ab, 2 lost", "AUDIT LOG FAILING: ENOSPC"]);
    expect(lines.at(-1)).toMatch(/for 2 d +0a +1 +2 min ago$/u);
    expect(lines.join("")).not.toMatch(/[\u0000-\u001f\u202e]/u);
  });
});
