/**
 * Random and mutated frames for a gateway's session, in-process: what a hostile client that knows the format would send.
 * The source is seeded, so that a failure can be played again; `run` returns what was sent when a session misbehaved.
 */
import { Buffer } from "node:buffer";
import type { Break } from "../../src/base/channel.ts";
import * as wire from "../../src/protocol/frame.ts";
import { Session } from "../../src/protocol/session.ts";
import { echo } from "./echo-stream.ts";
import { FakeClock } from "./fake-clock.ts";

/** xorshift32: small, fast, the same everywhere. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 1;
  }
  next(below: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) % below;
  }
}

const TYPES = [0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 0x80, 0x81, 0x82, 0x83, 0x83, 0x84, 0x85, 0x86, 0xc0, 0x40, 0x33, 0xff];

export interface FuzzState {
  /** The next stream id to open. */
  next: number;
  /** Tame sessions keep to the rules but for a field changed now and then, so that they live long and get deep. */
  readonly tame: boolean;
}

/** One frame: mostly well-formed and in order, sometimes with a field changed, in wild sessions sometimes noise. */
export function anyFrame(random: Random, state: FuzzState): Buffer {
  const kind = state.tame ? (state.next === 1 ? 5 : 1 + random.next(11)) : random.next(16);
  const id = kind === 0 ? random.next(0x7fffffff) : random.next(Math.max(1, (state.next - 1) / 2)) * 2 + 1;
  let frame: Buffer;
  if (kind < 5) {
    frame = Buffer.alloc(9 + random.next(random.next(8) === 0 ? 16_370 : 80));
    wire.putHeader(frame, 0, frame.length - 8, 0, state.tame ? (random.next(30) === 0 ? 2 : 0) : random.next(4), id);
  } else if (kind < 8 && (!state.tame || random.next(6) === 0 || state.next === 1)) {
    const messages = !state.tame && random.next(2) === 1;
    frame = wire.encodeOpen(state.next, { window: random.next(1 << 20), messages, weight: 1 + random.next(255), target: "echo" });
    state.next += 2;
  } else if (kind === 8 && (!state.tame || random.next(8) === 0)) frame = wire.encodeReset(id, { code: random.next(50), text: "why" });
  else if (kind <= 9) frame = wire.encodeStreamCredit(id, random.next(1 << 24));
  else if (kind === 10) frame = wire.encodeSessionCredit(random.next(1 << 28), random.next(300));
  else if (kind === 11) frame = wire.encodePing(random.next(2) === 0 ? wire.Type.PING : wire.Type.PONG, Buffer.alloc(8, 1));
  else if (kind === 12)
    frame = wire.encodeGoaway({ lastStreamId: 0, code: random.next(50), grace: 1, text: "", final: random.next(50) === 0 });
  else {
    frame = Buffer.alloc(8 + random.next(40));
    for (let at = 8; at < frame.length; at++) frame[at] = random.next(256);
    wire.putHeader(frame, 0, frame.length - 8, TYPES[random.next(TYPES.length)] as number, random.next(6) === 0 ? random.next(256) : 0, id);
  }
  if (random.next(state.tame ? 3000 : 12) === 0) frame[random.next(frame.length)] = random.next(256);
  return frame;
}

export interface FuzzResult {
  readonly frames: number;
  readonly sessions: number;
  /** How sessions ended, by reason. */
  readonly ends: ReadonlyMap<string, number>;
}

/** Sends at least `frames` frames to echoing sessions. Throws with the seed and the bytes in hex when a promise is broken. */
export function fuzzSessions({ frames, seed }: { readonly frames: number; readonly seed: number }): FuzzResult {
  const random = new Random(seed);
  const ends = new Map<string, number>();
  let sent = 0;
  let sessions = 0;
  while (sent < frames) {
    sessions++;
    const clock = new FakeClock();
    let closed = 0;
    let broken: Break | undefined;
    const session = new Session({
      role: "gateway",
      clock,
      transport: { write: (_chunk, written) => clock.soon(written), end: () => {}, destroy: () => {} },
      events: {
        open: echo,
        closed: (why) => ((broken = why), closed++),
      },
    });
    const input: Buffer[] = [wire.encodeHello({ min: 1, max: 1 }, [])];
    session.receive(input[0] as Buffer);
    const state: FuzzState = { next: 1, tame: random.next(3) > 0 };
    try {
      while (session.ready) {
        const batch = Array.from({ length: 1 + random.next(8) }, () => anyFrame(random, state));
        sent += batch.length;
        const bytes = Buffer.concat(batch);
        input.push(bytes);
        const cut = random.next(3) === 0 ? random.next(bytes.length) : bytes.length;
        session.receive(bytes.subarray(0, cut));
        if (cut < bytes.length) session.receive(bytes.subarray(cut));
        clock.advance(random.next(40));
        if (input.length > 2000) break;
      }
      session.transportClosed();
      clock.advance(5_000);
      if (closed !== 1) throw new Error(`closed ${closed} times`);
      if (clock.waiting !== 0) throw new Error(`${clock.waiting} timers are left`);
      if (session.streams.size !== 0) throw new Error("streams are left");
      const why = broken?.reason ?? "orderly";
      if (why === "internal" && broken?.detail !== undefined) throw new Error(`an internal fault: ${broken?.detail}`);
      ends.set(why, (ends.get(why) ?? 0) + 1);
    } catch (error) {
      throw new Error(`seed ${seed}, session ${sessions}: ${String(error)}\n${Buffer.concat(input).toString("hex").slice(0, 200_000)}`, {
        cause: error,
      });
    }
  }
  return { frames: sent, sessions, ends };
}
