/** A client's and a gateway's session joined in memory, with a clock that moves when told. Bytes move in `turn()`. */
import { Buffer } from "node:buffer";
import type { Break, Channel } from "../../src/base/channel.ts";
import { Session, type SessionEvents, type SessionOptions } from "../../src/protocol/session.ts";
import type { Stream } from "../../src/protocol/stream.ts";
import type { Transport } from "../../src/protocol/writer.ts";
import { FakeClock } from "./fake-clock.ts";

/** One way of a connection in memory. `held`: bytes are kept until it is released. */
export class Wire implements Transport {
  readonly sent: Buffer[] = [];
  bytes = 0;
  held = false;
  ended = false;
  destroyed = false;
  other: { receive(chunk: Buffer): void; transportClosed(detail?: string): void } | undefined;
  /** Cuts what is sent into chunks of this many bytes. */
  chunkSize = 0;
  readonly #clock: FakeClock;
  #queue: { chunk: Buffer; written: () => void }[] = [];
  #scheduled = false;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }
  write(chunk: Buffer, written: () => void): void {
    const copy = Buffer.from(chunk); // the slab is used again
    this.sent.push(copy);
    this.bytes += copy.length;
    this.#queue.push({ chunk: copy, written });
    this.#later();
  }
  end(): void {
    this.ended = true;
    this.#later();
  }
  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.#later();
  }
  release(): void {
    this.held = false;
    this.#later();
  }
  #later(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.soon(() => {
      this.#scheduled = false;
      this.#move();
    });
  }
  #move(): void {
    if (this.held) return;
    const queue = this.#queue;
    this.#queue = [];
    for (const { chunk, written } of queue) {
      written();
      if (this.destroyed) continue;
      if (this.chunkSize === 0) this.other?.receive(chunk);
      else
        for (let at = 0; at < chunk.length; at += this.chunkSize) this.other?.receive(Buffer.from(chunk.subarray(at, at + this.chunkSize)));
    }
    if ((this.ended || this.destroyed) && this.#queue.length === 0) this.other?.transportClosed("ended");
  }
}

/** What a channel gave, collected. */
export class Collected {
  chunks: Buffer[] = [];
  messages: Buffer[] = [];
  ended = false;
  drained = 0;
  closed: { broken: Break | undefined } | undefined;
  #message: Buffer[] = [];

  constructor(channel: Channel) {
    channel.attach({
      data: (chunk, last) => {
        this.chunks.push(Buffer.from(chunk));
        this.#message.push(Buffer.from(chunk));
        if (last) {
          this.messages.push(Buffer.concat(this.#message));
          this.#message = [];
        }
      },
      end: () => {
        if (this.ended) throw new Error("a second end");
        this.ended = true;
      },
      drained: () => void this.drained++,
      closed: (broken) => {
        if (this.closed !== undefined) throw new Error("a second closed");
        this.closed = { broken };
      },
    });
  }
  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

export interface PairOptions {
  readonly client?: Partial<SessionOptions>;
  readonly gateway?: Partial<SessionOptions>;
  /** What the gateway does with a stream. Default: accept it and keep it in `incoming`. */
  readonly open?: (stream: Stream) => void;
}

export interface Pair {
  readonly clock: FakeClock;
  readonly client: Session;
  readonly gateway: Session;
  readonly toGateway: Wire;
  readonly toClient: Wire;
  readonly incoming: Stream[];
  readonly closed: { client?: { broken: Break | undefined }; gateway?: { broken: Break | undefined } };
}

export function sessionPair(options: PairOptions = {}): Pair {
  const clock = new FakeClock();
  const toGateway = new Wire(clock);
  const toClient = new Wire(clock);
  const incoming: Stream[] = [];
  const closed: Pair["closed"] = {};
  const events = (side: "client" | "gateway"): SessionEvents => ({
    closed: (broken) => {
      if (closed[side] !== undefined) throw new Error(`${side}: a second closed`);
      closed[side] = { broken };
    },
  });
  const gateway = new Session({
    role: "gateway",
    transport: toClient,
    clock,
    events: {
      ...events("gateway"),
      open: (stream) => {
        incoming.push(stream);
        if (options.open === undefined) stream.accept();
        else options.open(stream);
      },
    },
    ...options.gateway,
  });
  const client = new Session({ role: "client", transport: toGateway, clock, events: events("client"), ...options.client });
  toGateway.other = gateway;
  toClient.other = client;
  return { clock, client, gateway, toGateway, toClient, incoming, closed };
}
