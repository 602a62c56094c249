import { once } from "node:events";
import { connect as connectTls } from "node:tls";
import { expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { createTestCa, type Issued } from "../support/mint.ts";

const [ca, foreign] = [createTestCa(), createTestCa({ cn: "foreign" })];
const [alice, mallory] = [ca.client("alice"), foreign.client("mallory")];
const penalties = { mode: "enforce", thresholdMs: 9_000, longestMs: 60_000, exempt: [] } as const;

/** What a client without frames gets back from echo, from an address of its own; undefined: it was cut. */
async function echoed(port: number, { who, from }: { readonly who: Issued; readonly from: string }): Promise<string | undefined> {
  const options = {
    host: "127.0.0.1",
    port,
    localAddress: from,
    servername: "localhost",
    cert: who.certificate,
    key: who.key,
    ca: ca.certificate,
  };
  const socket = connectTls(options);
  socket.on("error", () => {});
  const gone = once(socket, "close").then(
    () => undefined,
    () => undefined,
  );
  socket.once("secureConnect", () => socket.write("hi"));
  const answer = once(socket, "data").then(
    ([chunk]) => String(chunk),
    () => undefined,
  );
  const what = await Promise.race([answer, gone]);
  socket.destroy();
  return what;
}

/** Fails until the log says that its address is kept out. */
async function failUntilKeptOut(setup: TestGateway, from: string): Promise<number> {
  for (let tries = 1; tries <= 5; tries++) {
    expect(await echoed(setup.rawPorts[0]!, { who: mallory, from })).toBeUndefined();
    await expect.poll(() => setup.lines("refused").length).toBe(tries);
    if (String(setup.lines("refused").at(-1)!["detail"]).includes("its address is kept out for")) return tries;
  }
  return Infinity;
}

test("an address whose handshakes fail is kept out at every listener, others are not; it is let in when it has paid", async () => {
  let shift = 0;
  const started = Date.now();
  const clock = { ...systemClock, wall: () => started + shift, now: () => shift }; // time stands until it is moved
  await using setup = await startGateway({ ca, raw: ["echo", "echo"], config: { penalties }, clock });
  const [first, second] = setup.rawPorts as [number, number];
  const [bad, good] = ["127.0.0.2", "127.0.0.3"];
  expect(await echoed(first, { who: alice, from: bad })).toBe("hi");
  expect(await failUntilKeptOut(setup, bad)).toBe(2); // of 5 s each
  for (const port of [first, second]) {
    expect(await echoed(port, { who: alice, from: bad })).toBeUndefined(); // also who has a good certificate
    expect(await echoed(port, { who: alice, from: good })).toBe("hi");
  }
  const { refusals } = setup.gateway.status();
  expect(refusals).toMatchObject({ unknown_issuer: 2, rate_limited: 2 });
  const lines = setup.lines("refused");
  expect(lines.at(-1)).toMatchObject({
    reason: "rate_limited",
    source: expect.stringContaining(bad),
    detail: expect.stringContaining("kept out"),
  });
  expect(lines.filter(({ reason }) => reason === "rate_limited").length).toBe(1); // the second one a second later, with how many
  shift += 9_999;
  expect(await echoed(first, { who: alice, from: bad })).toBeUndefined(); // not all is paid
  shift += 1;
  expect(await echoed(first, { who: alice, from: bad })).toBe("hi");
  expect(await echoed(second, { who: alice, from: bad })).toBe("hi");
});

test("a reload that exempts an address, or ends the penalties, lets it in at once", async () => {
  await using setup = await startGateway({ ca, raw: ["echo"], config: { penalties } });
  const again = (): Promise<string | undefined> => echoed(setup.rawPorts[0]!, { who: alice, from: "127.0.0.2" });
  await failUntilKeptOut(setup, "127.0.0.2");
  expect(await again()).toBeUndefined();
  await setup.gateway.reload({ ...setup.config, penalties: { ...penalties, exempt: [{ bytes: [127, 0, 0, 2], prefix: 32 }] } });
  expect(await again()).toBe("hi");
  await setup.gateway.reload(setup.config);
  expect(await again()).toBeUndefined();
  await setup.gateway.reload({ ...setup.config, penalties: { ...penalties, mode: "off" } });
  expect(await again()).toBe("hi");
});
