/**
 * The frames of frame-fuzz.ts over real TLS connections to a whole gateway, with an echo in the process and one behind TCP.
 * Promises: seeded, so that the frames can be sent again (not their timing); a connection that a broken promise was seen on is thrown
 * with its input; what is counted is what the gateway itself logged as the end of each connection.
 */
import { Buffer } from "node:buffer";
import { connect } from "../../src/client.ts";
import * as wire from "../../src/protocol/frame.ts";
import { collect } from "./collect.ts";
import { anyFrame, Random, type FuzzState } from "./frame-fuzz.ts";
import { startGateway, type TestGateway } from "./gateway.ts";
import { echo, startBackEnd, targetOf } from "./back-ends.ts";
import { createTestCa, type Issued } from "./mint.ts";
import { WireClient, type WireCredentials } from "./wire-client.ts";

export interface TlsFuzzResult {
  readonly frames: number;
  readonly connections: number;
  /** How the gateway says they ended. */
  readonly ends: ReadonlyMap<string, number>;
  /** What the heap (and buffers beside it) grew by between a quarter of the way and the end, bytes. */
  readonly grown: number;
}

/** A promise was broken, perhaps by `input`: what the connection sent after its HELLO. */
export class TlsFuzzError extends Error {
  readonly input: Buffer;
  constructor(message: string, input: Buffer, cause: unknown) {
    super(message, { cause });
    this.input = input;
  }
}

const LANES = 4;
const FRAMES_A_CONNECTION = 600;

/** The honest client of `gateways` gets its bytes back. */
async function serves({ port }: TestGateway, who: WireCredentials): Promise<void> {
  const client = await connect({ gateway: `127.0.0.1:${port}`, serverName: "localhost", ...who });
  const pipe = await client.open("echo", { messages: true });
  const sent = Buffer.alloc(100_000, "honest");
  await pipe.send(sent);
  const back = await pipe.receive();
  if (back === undefined || !sent.equals(back)) throw new Error("an honest client got something else back");
  await client.close();
}

/** One connection's life: HELLO, then frames until the gateway or we have enough. Returns how many were sent. */
async function oneConnection(
  random: Random,
  { port, who, input }: { readonly port: number; readonly who: WireCredentials; readonly input: Buffer[] },
): Promise<number> {
  const client = await WireClient.dial({ port, ...who, parameters: { sessionLimit: 1 << 30, streamWindow: 1 << 20 } });
  const state: FuzzState = { next: 1, tame: random.next(3) > 0 };
  let sent = 0;
  while (!client.closed && client.final === undefined && sent < FRAMES_A_CONNECTION) {
    const batch = Array.from({ length: 1 + random.next(8) }, () => anyFrame(random, state));
    sent += batch.length;
    const bytes = Buffer.concat(batch);
    input.push(bytes);
    const cut = random.next(3) === 0 ? random.next(bytes.length) : bytes.length;
    await client.push(bytes.subarray(0, cut));
    if (cut < bytes.length) await client.push(bytes.subarray(cut));
    await new Promise((resolve) => setTimeout(resolve, 0)); // so that the gateway judges most of it before we have sent more than it will read
  }
  const how = random.next(4);
  if (how === 0) client.reset();
  else if (how === 1) client.destroy();
  else {
    if (how === 2) client.send(wire.encodeGoaway({ lastStreamId: 0, code: 0, grace: 0, text: "", final: true }));
    client.socket.end();
  }
  await client.end();
  return sent;
}

async function quiet(gateway: TestGateway): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    const { connections, pipes } = gateway.gateway.status();
    if (connections === 0 && pipes.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`left after 4 s: ${JSON.stringify(gateway.gateway.status())}`);
}

function held(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Sends at least `frames` frames. Throws a TlsFuzzError when a promise is broken. */
export async function fuzzTls({ frames, seed }: { readonly frames: number; readonly seed: number }): Promise<TlsFuzzResult> {
  const ca = createTestCa();
  const backEnd = await startBackEnd(echo);
  const gateways = [await startGateway({ ca }), await startGateway({ ca, targets: { echo: targetOf(backEnd) } })] as const;
  const credentials = ({ certificate, key }: Issued): WireCredentials => ({ certificate, key, ca: ca.certificate });
  const [who, honest] = [credentials(ca.client("mallory")), credentials(ca.client("honest"))];
  let [sent, connections, warm] = [0, 0, 0];
  const lane = async (n: number): Promise<void> => {
    const random = new Random(seed + n * 7919);
    while (sent < frames) {
      const gateway = gateways[connections++ % 2] as TestGateway;
      const input: Buffer[] = [];
      const before = gateway.log.length;
      try {
        sent += await oneConnection(random, { port: gateway.port, who, input });
        // Codes that nobody knows are read as `internal`, too; their text is the frames' own "why", and no fault of ours.
        const fault = gateway.log
          .slice(before)
          .find(({ fields }) => fields["reason"] === "internal" && String(fields["detail"] ?? "").length > 3);
        if (fault !== undefined) throw new Error(`an internal fault: ${String(fault.fields["detail"])}`);
      } catch (error) {
        throw new TlsFuzzError(`seed ${seed}, lane ${n}: ${String(error)}`, Buffer.concat(input), error);
      }
      if (warm === 0 && sent > frames / 4) warm = held();
      if (connections % 50 === 0) await serves(gateway, honest);
    }
  };
  try {
    await Promise.all(Array.from({ length: LANES }, (_, n) => lane(n)));
    for (const gateway of gateways) {
      await serves(gateway, honest);
      await quiet(gateway);
    }
    const grown = held() - warm;
    const ends = new Map<string, number>();
    for (const { reason, identity } of gateways.flatMap((gateway) => gateway.lines("connection close"))) {
      if (identity === "spiffe://dev/agent/mallory") ends.set(String(reason), (ends.get(String(reason)) ?? 0) + 1);
    }
    return { frames: sent, connections, ends, grown };
  } finally {
    for (const gateway of gateways) await gateway.close();
    await backEnd.close();
  }
}
