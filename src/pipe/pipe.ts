/**
 * Two channels joined: two one-way copies, each with its throttle, closed once with the first reason.
 * Promises: bytes and messages arrive in order and whole or the end that misses some sees a break, never an end; at most one
 * chunk is held each way beyond what the channels hold. Leaves to others: opening the channels, what the throttles allow.
 */
import type { Batch, Break, Channel, ChannelEvents } from "../base/channel.ts";
import type { Clock, Timer } from "../base/clock.ts";
import type { Throttle } from "../policy/throttle.ts";

export interface PipeOptions {
  readonly clock: Clock;
  /** From the client to the target, and back. Absent: no limit. */
  readonly inbound?: Throttle | undefined;
  readonly outbound?: Throttle | undefined;
  /** From the first end of a direction on: nothing moved for so long, reset. Default 300,000 ms. */
  readonly halfClosedTimeoutMs?: number;
  readonly events?: PipeEvents;
}

export interface PipeEvents {
  /** Once, when both channels are closed. */
  closed(broken: Break | undefined): void;
}

/** What one direction has carried. */
export interface WayStatus {
  readonly bytes: number;
  readonly messages: number;
  readonly waits: "limit" | "sink" | undefined;
}

export interface Pipe {
  /** From the client to the target. */
  readonly inbound: WayStatus;
  /** From the target to the client. */
  readonly outbound: WayStatus;
  /** Breaks the pipe off. The ends learn the reason; the detail is for our log. */
  kill(broken: Break): void;
}

const HALF_CLOSED_MS = 300_000;

/** Joins `client` and `target`; payload flows from now on. */
export function joinPipe(ends: { readonly client: Channel; readonly target: Channel }, options: PipeOptions): Pipe {
  return new Joined(ends, options);
}

/** One direction, from `source` into `sink`: the source's events come here. */
class Way implements ChannelEvents {
  bytes = 0;
  messages = 0;
  /** Grows with whatever the sink took. */
  progress = 0;
  waits: "limit" | "sink" | undefined;
  readonly sink: Channel;
  /** The other direction: what drains our source is what it writes. */
  back: Way | undefined;
  readonly #source: Channel;
  readonly #throttle: Throttle | undefined;
  readonly #pipe: Joined;
  /** Asked for, and not admitted yet. */
  #held: { readonly chunk: Uint8Array; readonly last: boolean } | undefined;
  #resume: (() => void) | undefined;

  constructor(pipe: Joined, ends: { readonly source: Channel; readonly sink: Channel; readonly throttle: Throttle | undefined }) {
    this.#pipe = pipe;
    this.#source = ends.source;
    this.sink = ends.sink;
    this.#throttle = ends.throttle;
  }

  data(chunk: Uint8Array, last: boolean): void {
    if (this.#throttle !== undefined && !this.#throttle.admit(chunk.length, last ? 1 : 0, (this.#resume ??= () => this.#admitted()))) {
      this.#held = { chunk, last };
      this.waits = "limit";
      this.#source.pause();
      return;
    }
    this.#pass(chunk, last);
  }

  /** What a throttle would have to hold in the middle comes message by message. */
  get takesBatches(): boolean {
    return this.#throttle === undefined && this.sink.messages && this.sink.writeBatch !== undefined;
  }

  batch(batch: Batch): void {
    const { places } = batch;
    let bytes = 0;
    for (let at = 0; at < places.length; at += 2) bytes += places[at + 1]! - places[at]!;
    this.progress++;
    this.bytes += bytes;
    this.messages += places.length / 2;
    if (!this.sink.writeBatch!(batch)) this.#wait();
  }

  #pass(chunk: Uint8Array, last: boolean): void {
    this.progress++;
    this.bytes += chunk.length;
    if (last) this.messages++;
    if (!this.sink.write(chunk, last)) this.#wait();
  }

  #wait(): void {
    this.waits = "sink";
    this.#source.pause();
  }

  #admitted(): void {
    const held = this.#held;
    if (held === undefined) return;
    this.#held = undefined;
    this.waits = undefined;
    this.#pass(held.chunk, held.last);
    if (this.waits === undefined) this.#source.resume();
  }

  end(): void {
    this.sink.closeWrite();
    this.#pipe.ended();
  }

  drained(): void {
    this.back?.goOn();
  }

  /** The sink takes more. */
  goOn(): void {
    this.progress++;
    if (this.waits !== "sink") return;
    this.waits = undefined;
    this.#source.resume();
  }

  closed(broken: Break | undefined): void {
    this.#pipe.closed(this, broken);
  }

  stop(): void {
    if (this.#held === undefined || this.#resume === undefined) return;
    this.#held = undefined;
    this.#throttle?.cancel(this.#resume);
  }
}

class Joined implements Pipe {
  readonly inbound: Way;
  readonly outbound: Way;
  readonly #clock: Clock;
  readonly #halfClosedTimeoutMs: number;
  readonly #events: PipeEvents | undefined;
  #open = 2;
  #broken: Break | undefined;
  #timer: Timer | undefined;

  constructor({ client, target }: { readonly client: Channel; readonly target: Channel }, options: PipeOptions) {
    this.#clock = options.clock;
    this.#halfClosedTimeoutMs = options.halfClosedTimeoutMs ?? HALF_CLOSED_MS;
    this.#events = options.events;
    this.inbound = new Way(this, { source: client, sink: target, throttle: options.inbound });
    this.outbound = new Way(this, { source: target, sink: client, throttle: options.outbound });
    this.inbound.back = this.outbound;
    this.outbound.back = this.inbound;
    client.attach(this.inbound);
    target.attach(this.outbound);
  }

  kill(broken: Break): void {
    this.#break(broken);
    this.outbound.sink.reset({ reason: broken.reason });
    this.inbound.sink.reset({ reason: broken.reason });
  }

  // ---- what the two directions tell

  /** The source of one has ended. */
  ended(): void {
    if (this.#timer === undefined) this.#watchEnding();
  }

  /** The source of `way` is closed. */
  closed({ sink }: Way, broken: Break | undefined): void {
    if (broken !== undefined) {
      this.#break(broken);
      // The reason crosses, the detail does not: it names back ends, and is for our log.
      sink.reset({ reason: (this.#broken ?? broken).reason });
    }
    if (--this.#open === 0) this.#finish();
  }

  #break(broken: Break): void {
    this.#broken ??= broken;
    this.#stop();
  }

  #stop(): void {
    this.inbound.stop();
    this.outbound.stop();
  }

  /** From the first end on. Both directions may have ended and the pipe still stand: while somebody does not read his last bytes. */
  #watchEnding(): void {
    const seen = this.#progress();
    this.#timer = this.#clock.after(this.#halfClosedTimeoutMs, () => {
      if (this.#progress() === seen) this.kill({ reason: "idle_timeout", detail: "one direction has ended and nothing moved" });
      else this.#watchEnding();
    });
  }

  #progress(): number {
    return this.inbound.progress + this.outbound.progress;
  }

  #finish(): void {
    this.#timer?.cancel();
    this.#stop();
    this.#events?.closed(this.#broken);
  }
}
