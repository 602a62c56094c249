/** A peer that speaks frames by hand to a real session in memory: for everything that a well-behaved session would never send. */
import { Buffer } from "node:buffer";
import type { Break } from "../../src/base/channel.ts";
import * as wire from "../../src/protocol/frame.ts";
import { Flag, Type } from "../../src/protocol/frame.ts";
import { encodeParameters, parameterDefaults, type Parameters } from "../../src/protocol/parameters.ts";
import { Session, type SessionOptions } from "../../src/protocol/session.ts";
import type { Stream } from "../../src/protocol/stream.ts";
import { FakeClock } from "./fake-clock.ts";

export interface SeenFrame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Buffer;
}

export function rawFrame(type: number, flags: number, id: number, payload: Buffer | string = ""): Buffer {
  const body = Buffer.from(payload as string);
  const head = Buffer.alloc(8);
  head.writeUInt16BE(body.length, 0);
  head[2] = type;
  head[3] = flags;
  head.writeUInt32BE(id >>> 0, 4);
  return Buffer.concat([head, body]);
}

export function dataFrame(id: number, payload: Buffer | string, flags = 0): Buffer {
  return rawFrame(Type.DATA, flags, id, payload);
}

export function cutFrames(bytes: Buffer): SeenFrame[] {
  const frames: SeenFrame[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt16BE(at);
    frames.push({
      type: bytes[at + 2] as number,
      flags: bytes[at + 3] as number,
      id: bytes.readUInt32BE(at + 4),
      payload: bytes.subarray(at + 8, at + 8 + length),
    });
    at += 8 + length;
  }
  return frames;
}

export interface RawPeerOptions {
  readonly role?: "client" | "gateway";
  /** Of the hand-made side. */
  readonly parameters?: Partial<Parameters>;
  readonly session?: Partial<SessionOptions>;
  readonly open?: (stream: Stream) => void;
  /** Leave the handshake to the test. */
  readonly silent?: boolean;
}

/** `session` is the real side, by default the gateway's; the test plays the other one. */
export class RawPeer {
  readonly clock = new FakeClock();
  readonly session: Session;
  readonly streams: Stream[] = [];
  closed: { broken: Break | undefined } | undefined;
  ended = false;
  destroyed = false;
  #out: Buffer[] = [];
  #read = 0;

  constructor(options: RawPeerOptions = {}) {
    const role = options.role ?? "gateway";
    this.session = new Session({
      role,
      clock: this.clock,
      transport: {
        write: (chunk, written) => {
          this.#out.push(Buffer.from(chunk));
          this.clock.soon(written);
        },
        end: () => void (this.ended = true),
        destroy: () => void (this.destroyed = true),
      },
      events: {
        open: (stream) => {
          this.streams.push(stream);
          if (options.open === undefined) stream.accept();
          else options.open(stream);
        },
        closed: (broken) => void (this.closed = { broken }),
      },
      ...options.session,
    });
    if (options.silent === true) return;
    const own = encodeParameters({ ...parameterDefaults, ...options.parameters });
    this.send(role === "gateway" ? wire.encodeHello({ min: 1, max: 1 }, own) : wire.encodeWelcome({ resumed: 0, refusal: 0 }, own));
    this.fresh();
  }

  send(...frames: Buffer[]): void {
    this.session.receive(Buffer.concat(frames));
    this.clock.turn();
  }

  /** Frames that the session sent since the last look. */
  fresh(): SeenFrame[] {
    this.clock.turn();
    const all = cutFrames(Buffer.concat(this.#out));
    const fresh = all.slice(this.#read);
    this.#read = all.length;
    return fresh;
  }

  /** Of the type, since the last look. */
  seen(type: number): SeenFrame[] {
    return this.fresh().filter((frame) => frame.type === type);
  }

  open(id: number, fields: Partial<wire.OpenFields> = {}): void {
    this.send(wire.encodeOpen(id, { window: 256 << 10, messages: false, weight: 16, target: "echo", ...fields }));
  }

  /** The code of the GOAWAY FINAL that ended the session. */
  finalCode(): number | undefined {
    const goaway = this.fresh().find((frame) => frame.type === Type.GOAWAY && (frame.flags & Flag.FINAL) !== 0);
    return goaway?.payload.readUInt32BE(4);
  }
}
