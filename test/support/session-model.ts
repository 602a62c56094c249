/**
 * Two sessions joined by a wire that moves in fits, and at their streams programs that do anything (model-program.ts). The wire takes the
 * bytes of a write only when it moves: a buffer that is used again too early shows.
 * Promises: seeded; when the programs only want to end, all come to an end, or somebody was not woken: it throws, as for whatever else is wrong.
 */
import { Buffer } from "node:buffer";
import type { Parameters } from "../../src/protocol/parameters.ts";
import { Session } from "../../src/protocol/session.ts";
import type { Stream } from "../../src/protocol/stream.ts";
import type { Transport } from "../../src/protocol/writer.ts";
import { FakeClock } from "./fake-clock.ts";
import { Random } from "./frame-fuzz.ts";
import { type Manners, pick, Program, Said } from "./model-program.ts";

/** One way of the connection. */
class FitfulWire implements Transport {
  readonly #queue: { readonly chunk: Buffer; readonly written: () => void }[] = [];
  other: Session | undefined;

  get empty(): boolean {
    return this.#queue.length === 0;
  }
  write(chunk: Buffer, written: () => void): void {
    this.#queue.push({ chunk, written });
  }
  end(): void {}
  destroy(): void {}

  /** Moves a write, in chunks of `size` bytes, or (0) whole. */
  move(size: number): void {
    const first = this.#queue.shift();
    if (first === undefined) return;
    const bytes = Buffer.from(first.chunk);
    first.written();
    const step = size === 0 ? bytes.length : size;
    for (let at = 0; at < bytes.length; at += step) this.other?.receive(Buffer.from(bytes.subarray(at, at + step)));
  }
}

interface Talk {
  readonly stream: Stream;
  readonly near: Said;
  readonly far: Said;
}

class Play {
  readonly #random: Random;
  readonly #clock = new FakeClock();
  readonly #ways = [new FitfulWire(), new FitfulWire()] as const;
  readonly #manners: Manners;
  readonly #maxStreams: number;
  readonly #talks: Talk[] = [];
  readonly programs: Program[] = [];
  readonly #unanswered: Stream[] = [];
  readonly #closed: string[] = [];
  readonly #client: Session;
  readonly #gateway: Session;

  constructor(seed: number) {
    const random = (this.#random = new Random(Math.imul(seed + 1, 0x9e3779b1)));
    this.#manners = {
      maxMessage: pick(random, [1, 1_000, 16_312, 66_000, 1 << 20]),
      pause: pick(random, [0, 100, 400]),
      reset: pick(random, [0, 0, 3, 30]),
      disobey: pick(random, [0, 0, 200]),
    };
    this.#maxStreams = pick(random, [1, 3, 20]);
    const clock = this.#clock;
    const closed = (): void => void this.#closed.push("closed");
    this.#gateway = new Session({
      role: "gateway",
      transport: this.#ways[1],
      clock,
      events: { open: (stream) => void this.#unanswered.push(stream), closed },
      parameters: this.#parameters(),
      maxStreams: pick(random, [1, 4, 256]),
    });
    this.#client = new Session({ role: "client", transport: this.#ways[0], clock, events: { closed }, parameters: this.#parameters() });
    this.#ways[0].other = this.#gateway;
    this.#ways[1].other = this.#client;
  }

  #parameters(): Partial<Parameters> {
    return {
      maxPayload: pick(this.#random, [1_024, 1_500, 16_376, 16_376, 65_535]),
      streamWindow: pick(this.#random, [1_000, 5_000, 16_384, 262_144, 262_144]),
      earlyWindow: pick(this.#random, [0, 63, 64, 65, 300, 16_384]),
      sessionLimit: pick(this.#random, [700, 5_000, 40_000, 1 << 20, 4 << 20]),
      maxMessage: this.#manners.maxMessage,
    };
  }

  // ---- streams

  readonly #open = (): void => {
    if (this.#talks.length >= this.#maxStreams) return;
    const stream = this.#client.open("x", { messages: this.#random.next(2) === 0, weight: pick(this.#random, [1, 16, 16, 255]) });
    const key = 2 * this.#talks.length;
    const talk = { stream, near: new Said(key), far: new Said(key + 1) };
    this.#talks.push(talk);
    this.#join(stream, { said: talk.near, heard: talk.far });
  };

  #join(stream: Stream, words: { readonly said: Said; readonly heard: Said }): void {
    const program = new Program(stream, { ...words, random: this.#random, manners: this.#manners, within: this.#open });
    this.programs.push(program);
    if (this.#random.next(2) === 0) program.act();
  }

  /** What a gateway's opener does: accepts, refuses, and gives back the places of what is closed. */
  #answer(): void {
    for (const { stream, closed } of this.programs) if (closed !== undefined && !stream.opener) stream.release();
    for (const stream of this.#unanswered.splice(0)) {
      const talk = this.#talks.find((each) => each.stream.id === stream.id);
      if (talk === undefined) throw new Error(`stream ${stream.id} was opened by nobody`);
      if (stream.closed) stream.release();
      else if (this.#manners.reset > 0 && this.#random.next(12) === 0) {
        stream.reset({ reason: "forbidden" });
        stream.release();
      } else {
        stream.accept();
        this.#join(stream, { said: talk.far, heard: talk.near });
      }
    }
  }

  // ---- the play

  run(): void {
    const random = this.#random;
    const sizes = pick(random, [[0], [0, 0, 1_000], [0, 7, 333, 5_000], [1, 0, 0]]);
    for (let steps = 20 + random.next(200); steps > 0; steps--) {
      const kind = random.next(10);
      if (kind === 0) this.#open();
      else if (kind < 4) this.programs[random.next(this.programs.length + 1)]?.act();
      else if (kind < 8) for (let times = random.next(4); times >= 0; times--) pick(random, this.#ways).move(pick(random, sizes));
      else if (kind === 8) this.#clock.turn();
      else this.#clock.advance(pick(random, [0.05, 1, 11, 40]));
      if (random.next(4) === 0) this.#answer();
      this.#requireReady();
    }
    this.#finish();
    this.#close();
  }

  #requireReady(): void {
    if (this.#closed.length > 0) throw new Error("a session ended");
  }

  /** Only ends are wanted now, and nothing holds them up. */
  #finish(): void {
    for (let idle = 0; idle < 3;) {
      for (const program of [...this.programs]) program.finish();
      for (const way of this.#ways) way.move(0);
      this.#clock.advance(100); // small windows take more CREDIT than the budget has at once
      this.#answer();
      idle = this.#ways.every((way) => way.empty) && this.#unanswered.length === 0 ? idle + 1 : 0;
    }
    this.#requireReady();
    if (!this.#client.ready || !this.#gateway.ready) throw new Error("a session is not ready");
    const stuck = this.programs.filter(({ closed }) => closed === undefined);
    if (stuck.length > 0) throw new Error(["streams are stuck:", ...stuck.map(({ text }) => text)].join("\n"));
    for (const { closed, text } of this.programs) {
      const reason = closed?.broken?.reason;
      if (reason !== undefined && (this.#manners.reset === 0 || (reason !== "cancelled" && reason !== "forbidden")))
        throw new Error(`broken by ${reason}: ${text}`);
    }
  }

  #close(): void {
    this.#client.close();
    for (let times = 0; times < 50; times++) {
      for (const way of this.#ways) way.move(0);
      this.#clock.advance(100);
    }
    const { size } = this.#client.streams;
    if (this.#closed.length !== 2 || this.#clock.waiting > 0 || size + this.#gateway.streams.size > 0) throw new Error("something is left");
  }
}

/** Plays once; how many streams it had. */
export function playSessions(seed: number): number {
  const play = new Play(seed);
  try {
    play.run();
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
  }
  return play.programs.length;
}
