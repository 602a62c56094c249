/**
 * A client that speaks frames by hand over real TLS: for what the library would never send. It is slow or deaf on both runtimes alike,
 * because its TLS runs over a gate where the runtime's own TLS sockets do not stop reading. Control frames are kept, DATA is counted;
 * it grants no credit but what a test sends. Errors of its socket are swallowed: a test looks at frames, and at the gateway.
 */
import { Buffer } from "node:buffer";
import { connect as connectNet, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { Reason } from "../../src/base/reason.ts";
import { toReason } from "../../src/protocol/code.ts";
import * as wire from "../../src/protocol/frame.ts";
import { Flag, Type } from "../../src/protocol/frame.ts";
import { encodeParameters, parameterDefaults, type Parameters } from "../../src/protocol/parameters.ts";
import { facts } from "../../src/runtime/facts.ts";
import { Gate } from "../../src/runtime/gate.ts";
import type { SeenFrame } from "./raw-peer.ts";

export interface WireCredentials {
  readonly certificate: string;
  readonly key: string;
  /** PEM of the CA that issued the gateway's certificate. */
  readonly ca: string;
}

export interface WireOptions extends WireCredentials {
  readonly port: number;
  readonly parameters?: Partial<Parameters>;
  /** Does not send HELLO. */
  readonly silent?: boolean;
}

interface Waiting {
  readonly when: () => boolean;
  readonly act: () => void;
}

export class WireClient {
  readonly socket: TLSSocket;
  /** The TCP socket below. */
  readonly below: Socket;
  /** Everything but DATA. */
  readonly frames: SeenFrame[] = [];
  /** Payload bytes of DATA and their streams. */
  received = 0;
  readonly dataOn = new Map<number, number>();
  /** The last DATA payloads, with `keepData`. */
  keepData = false;
  readonly data: SeenFrame[] = [];
  closed = false;
  readonly #gate: Gate | undefined;
  #held: Buffer = Buffer.alloc(0);
  #settled = 0;
  #waiting: Waiting[] = [];
  /** What the gateway lets the session send, the highest id that it lets us open, and what it lets each stream send. */
  sessionLimit = parameterDefaults.sessionLimit;
  maxId = 127;
  readonly streamLimits = new Map<number, number>();

  private constructor(below: Socket, options: WireOptions) {
    this.below = below;
    this.#gate = facts.holdsTlsReads ? undefined : new Gate(below);
    this.#gate?.on("error", () => {});
    const { certificate: cert, key, ca } = options;
    const secure = { cert, key, ca, servername: "localhost", ALPNProtocols: [wire.ALPN], minVersion: "TLSv1.3" } as const;
    this.socket = connectTls({ ...secure, socket: this.#gate ?? below });
    this.socket.on("error", () => {});
    this.socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    this.socket.on("close", () => {
      this.closed = true;
      this.#look();
    });
  }

  /** Resolves once TLS stands and HELLO is under way; with `welcome: true` once WELCOME came. */
  static async dial(options: WireOptions): Promise<WireClient> {
    const below = connectNet({ host: "127.0.0.1", port: options.port, noDelay: true });
    below.on("error", () => {});
    await new Promise<void>((resolve) => {
      below.once("connect", () => resolve());
      below.once("close", () => resolve());
    });
    const client = new WireClient(below, options);
    await new Promise<void>((resolve) => {
      client.socket.once("secureConnect", () => resolve());
      client.socket.once("close", () => resolve());
    });
    if (options.silent === true) return client;
    client.send(wire.encodeHello({ min: 1, max: 1 }, encodeParameters({ ...parameterDefaults, ...options.parameters })));
    await client.seen(Type.WELCOME);
    return client;
  }

  send(...frames: readonly Buffer[]): void {
    if (!this.closed && !this.socket.destroyed) this.socket.write(Buffer.concat(frames));
  }

  /** Sends and waits while more than a little waits in the socket. */
  async push(...frames: readonly Buffer[]): Promise<void> {
    this.send(...frames);
    if (this.closed || !this.socket.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const on = (): void => {
        this.socket.off("drain", on);
        this.socket.off("close", on);
        resolve();
      };
      this.socket.on("drain", on);
      this.socket.on("close", on);
    });
  }

  open(id: number, fields: Partial<wire.OpenFields> = {}): void {
    this.send(wire.encodeOpen(id, { window: 256 << 10, messages: false, weight: 16, target: "echo", ...fields }));
  }

  /** Opens streams 1, 3, ... as fast as the gateway lets us; gives their ids once each was accepted or refused. */
  async openMany(count: number, fields: Partial<wire.OpenFields> = {}): Promise<number[]> {
    const ids = Array.from({ length: count }, (_, n) => 2 * n + 1);
    for (const id of ids) {
      await this.until(() => this.maxId >= id);
      if (this.closed) break;
      this.open(id, fields);
    }
    await this.until(() => this.#settled >= count);
    return ids;
  }

  /** Waits for a frame (on a stream), or for the connection's end. */
  async seen(type: number, id?: number): Promise<SeenFrame | undefined> {
    const find = (): SeenFrame | undefined => this.frames.find((frame) => frame.type === type && (id === undefined || frame.id === id));
    await this.until(() => find() !== undefined);
    return find();
  }

  /** Resolves when `when` holds after something came, or when the connection is closed. */
  until(when: () => boolean): Promise<void> {
    if (this.closed || when()) return Promise.resolve();
    return new Promise((act) => void this.#waiting.push({ when, act }));
  }

  /** Waits for the end, and gives the reason of the GOAWAY FINAL before it; undefined without one. */
  async end(): Promise<Reason | undefined> {
    await this.until(() => false);
    return this.final;
  }

  get final(): Reason | undefined {
    const last = this.frames.find(({ type, flags }) => type === Type.GOAWAY && (flags & Flag.FINAL) !== 0);
    return last === undefined ? undefined : toReason(last.payload.readUInt32BE(4));
  }

  /** Stops reading from the network: its TCP window goes to zero. */
  hold(): void {
    if (this.#gate !== undefined) this.#gate.hold();
    else this.socket.pause();
  }
  release(): void {
    if (this.#gate !== undefined) this.#gate.release();
    else this.socket.resume();
  }

  /** Cuts it with a RST. */
  reset(): void {
    if (this.#gate !== undefined) {
      this.below.resetAndDestroy();
      return void this.socket.destroy();
    }
    // Not the lower socket first, and not while a FIN is under way: see src/runtime/socket-channel.ts.
    if (!this.socket.writableEnded) (this.below as { resetAndClosing?: boolean }).resetAndClosing = true;
    this.socket.once("close", () => void this.below.destroy());
    this.socket.destroy();
  }
  destroy(): void {
    this.socket.destroy();
    this.below.destroy();
  }

  #onData(chunk: Buffer): void {
    let bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    while (bytes.length >= 8) {
      const length = bytes.readUInt16BE(0);
      if (bytes.length < 8 + length) break;
      const id = bytes.readUInt32BE(4);
      const type = bytes[2] as number;
      if (type === Type.DATA) {
        this.received += length;
        this.dataOn.set(id, (this.dataOn.get(id) ?? 0) + length);
      }
      if (type !== Type.DATA || this.keepData) {
        const frame = { type, flags: bytes[3] as number, id, payload: Buffer.from(bytes.subarray(8, 8 + length)) };
        (type === Type.DATA ? this.data : this.frames).push(frame);
        this.#learn(frame);
      }
      bytes = bytes.subarray(8 + length);
    }
    this.#held = Buffer.from(bytes);
    this.#look();
  }

  #learn({ type, id, payload }: SeenFrame): void {
    if (type === Type.ACCEPT || type === Type.RESET) this.#settled++;
    if (type === Type.ACCEPT) this.streamLimits.set(id, payload.readUInt32BE(0));
    if (type !== Type.CREDIT) return;
    const limit = Number(payload.readBigUInt64BE(0));
    if (id !== 0) return void this.streamLimits.set(id, limit);
    this.sessionLimit = limit;
    this.maxId = payload.readUInt32BE(8);
  }

  #look(): void {
    for (const each of [...this.#waiting]) {
      if (!this.closed && !each.when()) continue;
      this.#waiting.splice(this.#waiting.indexOf(each), 1);
      each.act();
    }
  }
}
