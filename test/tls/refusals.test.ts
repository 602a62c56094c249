import { Buffer } from "node:buffer";
import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";
import { describe, expect, test } from "vitest";
import type { Identity } from "../../src/identity/identity.ts";
import { createPenalties } from "../../src/tls/penalties.ts";
import { closed, openDoor, rawClient, type TestDoor } from "../support/door.ts";
import { clientOptions } from "../support/door-options.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { clientHello } from "../support/hello.ts";
import { createTestCa } from "../support/mint.ts";

const ca = createTestCa();
const alice = ca.client("alice");
const twoNames = ca.issue({ uri: ["spiffe://dev/a", "spiffe://dev/b"] });
const ambiguous = { cert: twoNames.certificate, key: twoNames.key };

function dial(door: TestDoor, options: ConnectionOptions = {}): TLSSocket {
  const socket = connectTls({ host: "127.0.0.1", port: door.port, ...clientOptions(ca, alice), ...options });
  socket.on("error", () => {});
  return socket;
}

describe.each([false, true])("whoever is refused after the handshake (raw listener: %s)", (withoutAlpn) => {
  const delayed = { withoutAlpn, alpn: ["pipegate/1", "postgresql"], refusalDelayMs: 250 };

  test("is logged at once, and told only after the delay, with all that it said meanwhile", async () => {
    const clock = new FakeClock(Date.now());
    await using door = await openDoor({ ca, options: { ...delayed, clock } });
    const client = dial(door, ambiguous);
    client.write("asking");
    const refusal = await door.refusal();
    expect(refusal.reason).toBe("bad_san");
    await new Promise((resolve) => setTimeout(resolve, 50)); // what it said is there
    clock.advance(249);
    expect(door.answers).toEqual([]);
    clock.advance(1);
    expect(door.answers).toEqual([refusal]);
    const { socket } = refusal.connection!;
    socket.on("data", (chunk: Buffer) => socket.end(`no: ${chunk.toString()}`));
    expect(String((await once(client, "data"))[0])).toBe("no: asking");
    client.destroy();
    expect([door.refusals.length, clock.waiting]).toEqual([1, 0]);
  });

  test("is cut only after the delay where it speaks another protocol", async () => {
    const clock = new FakeClock(Date.now());
    await using door = await openDoor({ ca, options: { ...delayed, clock } });
    const client = dial(door, { ...ambiguous, ALPNProtocols: ["postgresql"] });
    let isClosed = false;
    const gone = closed(client).then(() => (isClosed = true));
    expect((await door.refusal()).reason).toBe("bad_san");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isClosed).toBe(false);
    clock.advance(250);
    await gone;
    expect([door.answers, clock.waiting]).toEqual([[], 0]);
  });

  test("keeps its place among the handshakes of its address until it is answered", async () => {
    const clock = new FakeClock(Date.now());
    await using door = await openDoor({ ca, options: { ...delayed, clock, maxHandshakesPerSource: 2 } });
    const refused = [dial(door, ambiguous), dial(door, ambiguous)];
    for (const _ of refused) await door.refusal();
    await (
      await rawClient(door.port)
    ).gone;
    expect((await door.refusal()).detail).toContain("2 handshakes of its address are under way");
    clock.advance(250);
    expect(clock.waiting).toBe(0);
    const good = dial(door);
    expect(String((await once(good, "data"))[0])).toBe("hello\n");
    good.destroy();
    for (const client of refused) client.destroy();
    expect(door.refusals.length).toBe(3);
  });

  test("has a good certificate that the deny-list names, and pays for coming", async () => {
    const clock = new FakeClock(Date.now());
    const penalties = createPenalties({ mode: "enforce", thresholdMs: 500, longestMs: 60_000, exempt: [] }, clock);
    const denies = ({ principal }: Identity): string | undefined => (principal.endsWith("/alice") ? "her name" : undefined);
    await using door = await openDoor({ ca, options: { ...delayed, clock, penalties, denies } });
    const client = dial(door);
    const { reason, detail, fingerprint } = await door.refusal();
    expect({ reason, detail, fingerprint }).toEqual({
      reason: "revoked",
      detail: "trust.deny names her name; its address is kept out for 1 s",
      fingerprint: alice.fingerprint,
    });
    expect(door.connections).toEqual([]);
    client.destroy();
  });

  test("is cut, not told, when the listener stops meanwhile", async () => {
    const clock = new FakeClock(Date.now());
    await using door = await openDoor({ ca, options: { ...delayed, clock } });
    const client = dial(door, ambiguous);
    const gone = closed(client);
    await door.refusal();
    await door.listener.close();
    await gone;
    clock.advance(1_000);
    expect([door.answers, door.refusals.length, clock.waiting]).toEqual([[], 1, 0]);
  });

  test("cannot fill our memory meanwhile", async () => {
    const clock = new FakeClock(Date.now());
    await using door = await openDoor({ ca, options: { ...delayed, clock } });
    const client = dial(door, ambiguous);
    const chunk = Buffer.alloc(1 << 20);
    const pump = (): void => {
      while (!client.destroyed && client.write(chunk));
    };
    client.on("drain", pump).once("secureConnect", pump);
    const { connection } = await door.refusal();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(connection!.below.bytesRead).toBeLessThan(2 << 20);
    client.destroy();
  });
});

describe("a source whose handshakes fail", () => {
  test("is kept out before TLS once it owes too much, is let in when it has paid, and the log says both", async () => {
    const clock = new FakeClock(Date.now());
    const penalties = createPenalties({ mode: "enforce", thresholdMs: 5_000, longestMs: 60_000, exempt: [] }, clock);
    const options = { clock, penalties, withoutAlpn: true };
    await using door = await openDoor({ ca, options });
    await using other = await openDoor({ ca, options }); // of the same gateway
    for (let n = 0; n < 3; n++) {
      await (
        await rawClient(door.port, "GET / HTTP/1.1\r\n\r\n")
      ).gone;
      expect((await door.refusal()).detail.includes("; its address is kept out for 6 s")).toBe(n === 2);
    }
    for (const one of [door, other]) {
      expect((await (await rawClient(one.port, "GET / HTTP/1.1\r\n\r\n")).gone).length).toBe(0); // not even an alert
      expect(await one.refusal()).toMatchObject({ reason: "rate_limited", detail: expect.stringContaining("kept out for 6 s yet") });
    }
    clock.advance(6_000);
    const client = dial(other);
    expect(String((await once(client, "data"))[0])).toBe("hello\n");
    client.destroy();
  });

  test("pays for what the judge says of its certificate, too", async () => {
    const clock = new FakeClock(Date.now());
    const penalties = createPenalties({ mode: "enforce", thresholdMs: 4_999, longestMs: 60_000, exempt: [] }, clock);
    await using door = await openDoor({ ca, options: { clock, penalties } });
    const client = dial(door, ambiguous);
    expect((await door.refusal()).detail).toMatch(/; its address is kept out for 5 s$/u);
    await (
      await rawClient(door.port)
    ).gone;
    expect((await door.refusal()).reason).toBe("rate_limited");
    client.destroy();
  });
});

describe.each([false, true])("what comes before proof is bounded by the TLS stack (raw listener: %s)", (withoutAlpn) => {
  const record = (type: number, body: Buffer): Buffer =>
    Buffer.concat([Buffer.from([type, 3, 3, body.length >> 8, body.length & 255]), body]);
  const piece = Buffer.alloc(16_384, 1);
  const claimsMuch = Buffer.concat([Buffer.from([1, 0xff, 0xff, 0xff]), piece.subarray(4)]);
  const floods: readonly (readonly [string, { readonly hello: boolean; readonly first: Buffer; readonly more: Buffer }])[] = [
    ["a hello without end", { hello: false, first: record(22, claimsMuch), more: record(22, piece) }],
    [
      "empty records",
      { hello: false, first: Buffer.alloc(0), more: Buffer.concat(Array.from({ length: 999 }, () => record(22, Buffer.alloc(0)))) },
    ],
    [
      "changes of cipher",
      { hello: true, first: Buffer.alloc(0), more: Buffer.concat(Array.from({ length: 999 }, () => record(20, Buffer.of(1)))) },
    ],
    ["sealed records", { hello: true, first: Buffer.alloc(0), more: record(23, piece) }],
  ];
  test.each(floods)("%s", async (_, { hello, first, more }) => {
    await using door = await openDoor({ ca, options: { withoutAlpn, clock: new FakeClock(Date.now()) } }); // no deadline comes
    const client = connectTcp({ host: "127.0.0.1", port: door.port }).on("error", () => {});
    const gone = closed(client);
    if (hello) client.write(await clientHello());
    client.write(first);
    const pump = (): void => {
      while (!client.destroyed && client.bytesWritten < 64 << 20 && client.write(more));
    };
    client.on("drain", pump);
    pump();
    expect(["not_tls", "protocol_error"]).toContain((await door.refusal()).reason);
    await gone;
  });
});
