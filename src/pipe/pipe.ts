/**
 * Two channels joined: two one-way copies, each with its throttle, closed once with the first reason.
 * Promises: bytes and messages arrive in order and whole or the end that misses some sees a break, never an end; at most one
 * chunk is held each way beyond what the channels hold. Leaves to others: opening the channels, what the throttles allow.
 */
import type { Break, Channel } from "../base/channel.ts";
import type { Clock, Timer } from "../base/clock.ts";

/** The part of a client's throttle that a copy needs; `unlimited` (policy/throttle.ts) always says true. */
export interface Gate {
  /** True: go on, it is counted. False: hold the chunk; `resume` is called once when it was counted. */
  admit(bytes: number, messages: number, resume: () => void): boolean;
  /** The waiter went away. */
  cancel(resume: () => void): void;
}

export interface PipeOptions {
  readonly clock: Clock;
  /** From the client to the target, and back. Absent: no limit. */
  readonly inbound?: Gate;
  readonly outbound?: Gate;
  /** From the first end of a direction on: nothing moved for so long, reset. Default 300,000 ms. */
  readonly halfClosedTimeoutMs?: number;
  /** Once, when both channels are closed. */
  readonly closed?: (broken: Break | undefined) => void;
}

const HALF_CLOSED_MS = 300_000;

/** One direction: from `source` into `sink`. */
class Way {
  bytes = 0;
  messages = 0;
  /** Grows with whatever the sink took. */
  progress = 0;
  waits: "limit" | "sink" | undefined;
  readonly #source: Channel;
  readonly #sink: Channel;
  readonly #gate: Gate | undefined;
  #held: Uint8Array | undefined;
  #heldLast = false;

  constructor(source: Channel, sink: Channel, gate: Gate | undefined) {
    this.#source = source;
    this.#sink = sink;
    this.#gate = gate;
  }

  data(chunk: Uint8Array, last: boolean): void {
    if (this.#gate !== undefined && !this.#gate.admit(chunk.length, last ? 1 : 0, this.#resume)) {
      this.#held = chunk;
      this.#heldLast = last;
      this.waits = "limit";
      this.#source.pause();
      return;
    }
    this.#pass(chunk, last);
  }

  #pass(chunk: Uint8Array, last: boolean): void {
    this.progress++;
    this.bytes += chunk.length;
    if (last) this.messages++;
    if (this.#sink.write(chunk, last)) return;
    this.waits = "sink";
    this.#source.pause();
  }

  readonly #resume = (): void => {
    const chunk = this.#held;
    if (chunk === undefined) return;
    this.#held = undefined;
    this.waits = undefined;
    this.#pass(chunk, this.#heldLast);
    if (this.waits === undefined) this.#source.resume();
  };

  drained(): void {
    this.progress++;
    if (this.waits !== "sink") return;
    this.waits = undefined;
    this.#source.resume();
  }

  end(): void {
    this.#sink.closeWrite();
  }

  stop(): void {
    if (this.#held === undefined) return;
    this.#held = undefined;
    this.#gate?.cancel(this.#resume);
  }
}

export class Pipe {
  /** From the client to the target. */
  readonly inbound: { readonly bytes: number; readonly messages: number; readonly waits: "limit" | "sink" | undefined };
  /** From the target to the client. */
  readonly outbound: { readonly bytes: number; readonly messages: number; readonly waits: "limit" | "sink" | undefined };
  readonly #client: Channel;
  readonly #target: Channel;
  readonly #ways: readonly [Way, Way];
  readonly #options: PipeOptions;
  #open = 2;
  #broken: Break | undefined;
  #timer: Timer | undefined;

  /** Joins `client` and `target`; payload flows from now on. */
  constructor(ends: { readonly client: Channel; readonly target: Channel }, options: PipeOptions) {
    const { client, target } = ends;
    this.#client = client;
    this.#target = target;
    this.#options = options;
    const inbound = new Way(client, target, options.inbound);
    const outbound = new Way(target, client, options.outbound);
    this.inbound = inbound;
    this.outbound = outbound;
    this.#ways = [inbound, outbound];
    this.#join(client, { way: inbound, back: outbound, other: target });
    this.#join(target, { way: outbound, back: inbound, other: client });
  }

  /** Breaks the pipe off. The ends learn the reason; the detail is for our log. */
  kill(broken: Break): void {
    this.#break(broken);
    this.#client.reset({ reason: broken.reason });
    this.#target.reset({ reason: broken.reason });
  }

  #join(channel: Channel, { way, back, other }: { readonly way: Way; readonly back: Way; readonly other: Channel }): void {
    channel.attach({
      data: (chunk, last) => way.data(chunk, last),
      end: () => {
        way.end();
        if (this.#timer === undefined) this.#watchEnding();
      },
      drained: () => back.drained(),
      closed: (broken) => {
        if (broken !== undefined) {
          this.#break(broken);
          // The reason crosses, the detail does not: it names back ends, and is for our log.
          other.reset({ reason: (this.#broken ?? broken).reason });
        }
        if (--this.#open === 0) this.#finish();
      },
    });
  }

  #break(broken: Break): void {
    this.#broken ??= broken;
    for (const way of this.#ways) way.stop();
  }

  /** From the first end on. Both directions may have ended and the pipe still stand: while somebody does not read his last bytes. */
  #watchEnding(): void {
    const seen = this.#progress();
    this.#timer = this.#options.clock.after(this.#options.halfClosedTimeoutMs ?? HALF_CLOSED_MS, () => {
      if (this.#progress() === seen) this.kill({ reason: "idle_timeout", detail: "one direction has ended and nothing moved" });
      else this.#watchEnding();
    });
  }

  #progress(): number {
    return this.#ways[0].progress + this.#ways[1].progress;
  }

  #finish(): void {
    this.#timer?.cancel();
    for (const way of this.#ways) way.stop();
    this.#options.closed?.(this.#broken);
  }
}
