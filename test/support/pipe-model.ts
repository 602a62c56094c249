/**
 * Pipes of messages from a session to back ends with a framing, for tests that do anything between two messages or within the delivery of one.
 * Promises: the programs at both ends go on to an orderly end once told to `finish`; what is not as it was sent is in `faults`.
 */
import { Buffer } from "node:buffer";
import fc from "fast-check";
import type { Batch } from "../../src/base/channel.ts";
import { joinPipe, type Pipe, type WayStatus } from "../../src/pipe/pipe.ts";
import type { Throttle } from "../../src/policy/throttle.ts";
import type { Stream } from "../../src/protocol/stream.ts";
import { frameChannel } from "../../src/target/framing.ts";
import { channelPair } from "./channel-pair.ts";
import { ChannelWatch } from "./channel-watch.ts";
import { type Pair, sessionPair } from "./session-pair.ts";
import { encode, type Kept, split } from "../target/frame-reference.ts";

const STREAMS = 4;

const acts = ["pause", "resume", "end", "reset", "kill", "close", "drain", "hold", "release"] as const;
type Act = (typeof acts)[number];
type Side = "client" | "back";

export interface PipeStep {
  readonly stream: number;
  readonly side: Side;
  readonly act: "one" | "parts" | "together" | "turn" | "arm" | Act;
  /** What an armed act does within the delivery of the next message of the stream and the side, and to which stream. */
  readonly armed: Act;
  readonly to: number;
  readonly sizes: readonly number[];
}

const size = fc.oneof(fc.nat(40), fc.nat(300), fc.constantFrom(0, 0, 1_024, 4_096, 4_097, 16_376, 16_377, 20_000, 65_535));
const common = [
  "one",
  "parts",
  "together",
  "together",
  "together",
  "turn",
  "turn",
  "pause",
  "resume",
  "resume",
  "hold",
  "release",
  "release",
] as const;
export const pipeSteps = (rare: boolean): fc.Arbitrary<PipeStep> =>
  fc.record({
    stream: fc.nat(STREAMS - 1),
    side: fc.constantFrom("client", "back"),
    act: fc.constantFrom(...common, ...common, ...(rare ? (["arm", "arm", "arm", "end", "reset"] as const) : (["turn"] as const))),
    armed: fc.constantFrom(...acts, "reset", "reset", "end"),
    to: fc.nat(STREAMS - 1),
    sizes: fc.oneof(
      fc.array(size, { minLength: 1, maxLength: 60 }),
      fc
        .tuple(fc.constantFrom(0, 0, 1, 12), fc.constantFrom(1_023, 1_024, 1_025, 3_000))
        .map(([length, count]) => Array.from({ length: count }, () => length)),
    ),
  });

/** Admits two of three, and the third when it is asked to go on. */
class Gate implements Throttle {
  /** That it was asked for. */
  messages = 0;
  #asked = 0;
  #waiting: (() => void)[] = [];
  admit(_bytes: number, messages: number, resume: () => void): boolean {
    this.messages += messages;
    if (++this.#asked % 3 > 0) return true;
    this.#waiting.push(resume);
    return false;
  }
  cancel(resume: () => void): void {
    this.#waiting = this.#waiting.filter((other) => other !== resume);
  }
  goOn(): void {
    for (const resume of this.#waiting.splice(0)) resume();
  }
}

interface Line {
  readonly pipe: Pipe;
  readonly gate: Gate;
  readonly isGated: boolean;
  readonly stream: Stream;
  readonly client: ChannelWatch;
  readonly back: ChannelWatch;
  readonly sent: { readonly client: Buffer[]; readonly back: Buffer[] };
  readonly ended: { client: boolean; back: boolean };
}

function batchOf(messages: readonly Buffer[]): Batch {
  const places: number[] = [];
  let end = 0;
  for (const { length } of messages) places.push(end, (end += length));
  return { chunk: Buffer.concat(messages), places };
}

export class PipeWorld {
  readonly pair: Pair;
  readonly lines: Line[] = [];
  readonly #framing: Kept;
  #seed = 0;

  constructor({ framing, chunkSize, gated }: { readonly framing: Kept; readonly chunkSize: number; readonly gated: boolean }) {
    this.#framing = framing;
    const backs: Pick<Line, "pipe" | "gate" | "isGated" | "back">[] = [];
    const pair = (this.pair = sessionPair({
      open: (stream) => {
        const [below, back] = channelPair();
        const gate = new Gate();
        const isGated = gated && backs.length > 1; // streams with and without, whose clients take batches and do not
        const limit = isGated ? gate : undefined;
        stream.accept();
        const target = frameChannel(below, framing, { maxMessageBytes: 1 << 20 });
        backs.push({
          gate,
          isGated,
          back: new ChannelWatch(back),
          pipe: joinPipe({ client: stream, target }, { clock: pair.clock, inbound: limit, outbound: limit }),
        });
      },
    }));
    pair.toGateway.chunkSize = pair.toClient.chunkSize = chunkSize;
    const streams = Array.from({ length: STREAMS }, (_, n) => pair.client.open("x", { messages: true, weight: [16, 255, 1, 40][n]! }));
    pair.clock.turn();
    for (const [n, stream] of streams.entries())
      this.lines.push({
        stream,
        client: new ChannelWatch(stream, { batches: n % 2 > 0 }),
        ...backs[n]!,
        sent: { client: [], back: [] },
        ended: { client: false, back: false },
      });
  }

  async turn(): Promise<void> {
    for (let n = 0; n < 4; n++) {
      this.pair.clock.turn();
      await Promise.resolve();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async do(step: PipeStep): Promise<void> {
    if (step.act === "turn") return this.turn();
    const line = this.lines[step.stream]!;
    if (step.act === "arm") {
      const watch = line[step.side];
      watch.onData = () => {
        watch.onData = () => {};
        this.act(step.armed, step.to, step.side);
      };
    } else if (step.act === "one" || step.act === "parts" || step.act === "together") this.#send(line, step);
    else this.act(step.act, step.stream, step.side);
  }

  #send(line: Line, { side, act, sizes }: PipeStep): void {
    if (line.ended[side]) return;
    const first = ++this.#seed % 200;
    const messages = sizes.map((length, n) => Buffer.alloc(length, 11 + ((first + n) % 200)));
    line.sent[side].push(...messages);
    if (side === "back") {
      const bytes = encode(messages, this.#framing);
      for (const piece of act === "together" ? split(bytes, [65_536]) : split(bytes, act === "one" ? [1_400] : [7, 65_000, 100]))
        line.back.channel.write(piece, false);
    } else if (act === "together") line.stream.writeBatch(batchOf(messages));
    else
      for (const message of messages) {
        const middle = act === "parts" ? message.length >> 1 : 0;
        if (middle > 0) line.stream.write(message.subarray(0, middle), false);
        line.stream.write(message.subarray(middle), true);
      }
  }

  act(act: Act, to: number, side: Side): void {
    const line = this.lines[to]!;
    const { pair } = this;
    if (act === "pause") line[side].pause();
    else if (act === "resume") {
      line[side].resume();
      line.gate.goOn();
    } else if (act === "end") {
      line.ended[side] = true;
      line[side].channel.closeWrite();
    } else if (act === "reset") line[side].channel.reset({ reason: "cancelled" });
    else if (act === "kill") line.pipe.kill({ reason: "revoked" });
    else if (act === "close") pair.gateway.close({ reason: "revoked" });
    else if (act === "drain") pair.gateway.drain(1_000);
    else if (act === "hold") pair[side === "client" ? "toClient" : "toGateway"].held = true;
    else pair[side === "client" ? "toClient" : "toGateway"].release();
  }

  async finish(): Promise<void> {
    const { pair, lines } = this;
    pair.toClient.release();
    pair.toGateway.release();
    for (const line of lines) {
      line.client.onData = line.back.onData = () => {};
      line.ended.client = line.ended.back = true;
      line.client.channel.closeWrite();
      line.back.channel.closeWrite();
    }
    let before = -1;
    let bytes = 0;
    for (let still = 0; still < 3; still = bytes === before ? still + 1 : 0) {
      before = bytes;
      for (const { client, back, gate } of lines) {
        client.resume();
        back.resume();
        gate.goOn();
      }
      await this.turn();
      bytes = lines.reduce(
        (sum, { client, back, pipe }) =>
          sum +
          client.bytes +
          back.bytes +
          pipe.inbound.messages +
          pipe.outbound.messages +
          Number(client.isClosed) +
          Number(back.isClosed),
        0,
      );
    }
  }

  /** What is not as it was sent, or not as it was counted; empty when all is well. */
  faults(): readonly string[] {
    const { client, gateway } = this.pair.closed;
    const strange = [client, gateway].filter((end) => !["revoked", "draining", "session_lost", undefined].includes(end?.broken?.reason));
    return [
      ...this.lines.flatMap((line, n) => this.#faultsOf(line).map((fault) => `${n}: ${fault}`)),
      ...strange.map(() => "the session broke"),
    ];
  }

  #faultsOf({ client, back, sent, pipe, gate, isGated }: Line): readonly string[] {
    const wire = encode(sent.client, this.#framing);
    const faults = [...client.faults, ...back.faults];
    const require = (isSo: boolean, fault: string): void => void (isSo || faults.push(fault));
    require(client.isClosed && back.isClosed, "not closed");
    require(client.messages.every((message, n) => sent.back[n]?.equals(message) === true), "the client got others");
    require(wire.subarray(0, back.bytes).equals(back.content), "the back end got others");
    require(!client.ended || client.messages.length === sent.back.length, "the client got an end too early");
    require(!back.ended || back.bytes === wire.length, "the back end got an end too early");
    require(pipe.outbound.messages >= client.messages.length, "more came than was counted");
    if (client.broken !== undefined || back.broken !== undefined) return faults;
    require(client.ended && back.ended, "no end");
    require(!isGated || gate.messages === pipe.inbound.messages + pipe.outbound.messages, "not all were admitted");
    require(counted(pipe.inbound) === text(sent.client) && counted(pipe.outbound) === text(sent.back), "another number was counted");
    return faults;
  }
}

const counted = ({ messages, bytes, waits }: WayStatus): string => `${messages} of ${bytes}, waits ${String(waits)}`;
const text = (all: readonly Buffer[]): string =>
  counted({ messages: all.length, bytes: all.reduce((sum, { length }) => sum + length, 0), waits: undefined });
