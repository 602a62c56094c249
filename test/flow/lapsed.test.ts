import { connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Config } from "../../src/config/config.ts";
import { type Client, connect } from "../../src/mod.ts";
import { type BackEnd, type Behaviour, echo, startBackEnd } from "../support/back-ends.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { createTestCa } from "../support/mint.ts";
import { opensslClient, sawBreak } from "../support/openssl-client.ts";

// A back end over TLS whose handshake goes on only when the test says so: until then the gateway dials.
const [ca, backCa] = [createTestCa(), createTestCa({ cn: "back ends" })];
const alice = ca.client("alice");
const counting: Behaviour = (socket, seen) => {
  socket.on("data", (chunk) => void (seen.received += chunk.length));
  echo(socket, seen);
};
const held: Socket[] = [];
let backEnd: BackEnd;
let relay: Server;
let setup: TestGateway;
let client: Client;

beforeAll(async () => {
  const own = backCa.gateway();
  backEnd = await startBackEnd(counting, { tls: { cert: own.certificate, key: own.key } });
  relay = createServer((socket) => void held.push(socket.pause().on("error", () => {})));
  await new Promise<void>((resolve) => void relay.listen(0, "127.0.0.1", resolve));
});
afterAll(async () => {
  relay.close();
  await backEnd.close();
});

const rules = (...targets: readonly string[]): Config["rules"] => [{ clients: ["*"], targets, limits: {}, line: 7 }];
beforeEach(async () => {
  const { port } = relay.address() as { port: number };
  const more = { kind: "builtin", builtin: "echo" } as const;
  const slow = {
    kind: "tls",
    addresses: [{ kind: "tcp", host: "127.0.0.1", port }],
    ca: [backCa.certificate],
    framing: "u32",
    dialTimeoutMs: 20_000,
  } as const;
  setup = await startGateway({ ca, targets: { slow, more }, raw: ["slow"], config: { rules: rules("*") } });
  client = await connect({ gateway: `127.0.0.1:${setup.port}`, certificate: alice.certificate, key: alice.key, ca: ca.certificate });
});
afterEach(async () => {
  await client.close();
  await setup.close();
  for (const socket of held.splice(0)) socket.destroy();
});

const dialling = (): Promise<unknown> => expect.poll(() => held.length, { timeout: 5_000 }).toBe(1);
/** Lets the handshake with the back end come to its end; resolves when the gateway has left it. */
function goOn(): { readonly left: Promise<void> } {
  const [socket] = held as [Socket];
  const onward = connectTcp({ host: "127.0.0.1", port: backEnd.port }).on("error", () => {});
  socket.pipe(onward).pipe(socket);
  socket.resume();
  return { left: new Promise((resolve) => void socket.on("close", () => resolve(onward.destroy() && undefined))) };
}

const lapses: readonly (readonly [string, { readonly reason: string; readonly detail: string }, () => Partial<Config>])[] = [
  ["rule", { reason: "forbidden", detail: "its rule was removed" }, () => ({ rules: rules("more") })],
  [
    "target",
    { reason: "unknown_target", detail: "its target was removed" },
    () => ({ targets: new Map([["more", { kind: "builtin", builtin: "echo" }]]), listeners: setup.config.listeners.slice(0, 1) }),
  ],
];

test.each(lapses)("a pipe whose %s is removed while its back end is dialled is refused", async (_, refusal, change) => {
  const opened = client.open("slow").then(
    () => "open",
    ({ code }: { code: string }) => code,
  );
  await dialling();
  await setup.gateway.reload({ ...setup.config, ...change() });
  const { left } = goOn();
  expect(await opened).toBe("forbidden"); // the client does not learn which
  await left;
  expect(setup.lines("pipe open")).toEqual([]);
  expect(setup.lines("refused")).toEqual([expect.objectContaining({ ...refusal, target: "slow", identity: "spiffe://dev/agent/alice" })]);
  expect(backEnd.received).toBe(0);
  await (await client.open("more")).close(); // its connection lives on
});

test.each(lapses)("a raw client whose %s is removed while its back end is dialled sees a break", async (_, refusal, change) => {
  const stranger = opensslClient(ca.certificate, alice);
  const run = stranger.run(setup.rawPorts[0]!, "secret", ["-ign_eof"]);
  await dialling();
  await setup.gateway.reload({ ...setup.config, ...change() });
  const { left } = goOn();
  await expect.poll(() => setup.lines("refused"), { timeout: 5_000 }).toEqual([expect.objectContaining({ ...refusal, target: "slow" })]);
  await left;
  const seen = await run;
  stranger.remove();
  expect([sawBreak(seen), seen.out.length]).toEqual([true, 0]);
  expect(backEnd.received).toBe(0);
  expect(setup.lines("pipe open")).toEqual([]);
  await expect.poll(() => setup.lines("connection close")).toEqual([expect.objectContaining(refusal)]);
});

test.each([
  ["closes", (gateway: TestGateway["gateway"]) => gateway.close()],
  ["has drained for as long as it may", (gateway: TestGateway["gateway"]) => gateway.drain(1)],
] as const)("a raw client whose back end is dialled while the gateway %s is ended for that", async (_, end) => {
  const stranger = opensslClient(ca.certificate, alice);
  const run = stranger.run(setup.rawPorts[0]!, "secret", ["-ign_eof"]);
  await dialling();
  await client.close();
  await end(setup.gateway);
  expect(sawBreak(await run)).toBe(true);
  stranger.remove();
  expect(setup.lines("connection close")).toContainEqual(expect.objectContaining({ protocol: "raw", pipes: 1, reason: "draining" }));
  expect(setup.lines("refused")).toEqual([]);
});

test("a pipe that other rules let in as well is opened although they changed while it was dialled", async () => {
  const opened = client.open("slow");
  await dialling();
  await setup.gateway.reload({ ...setup.config, rules: rules("slow", "more") });
  goOn();
  await (await opened).close();
  expect(setup.lines("refused")).toEqual([]);
});
