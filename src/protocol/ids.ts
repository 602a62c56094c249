/**
 * The stream ids of a session: which come next, which may be used, how far ahead the peer may open.
 * Promises: ids only grow; the peer never holds more streams than it was let, nor more than 64 that nobody has settled.
 * Leaves to others: the streams.
 */
import { ProtocolFault } from "./fault.ts";
import { MAX_STREAM_ID } from "./frame.ts";

/** OPENs that the peer may send before the first of them is settled. */
const OPEN_CREDIT = 64;

export interface StreamIdsOptions {
  /** A client's streams have odd ids, a gateway's even ones. */
  readonly role: "client" | "gateway";
  /** Streams that the peer may have at once. */
  readonly maxStreams: number;
}

export class StreamIds {
  /** Largest id that the peer lets us open. */
  maxOwn = 0;
  readonly #maxStreams: number;
  readonly #peerParity: number;
  #lastOwn: number;
  #lastPeer: number;
  #maxPeer: number;
  /** The peer's streams: those open or not yet torn down here, and of them those that are not settled. */
  #live = 0;
  #pending = 0;

  constructor({ role, maxStreams }: StreamIdsOptions) {
    this.#maxStreams = maxStreams;
    this.#peerParity = role === "gateway" ? 1 : 0;
    this.#lastOwn = role === "gateway" ? 0 : -1;
    this.#lastPeer = role === "gateway" ? -1 : 0;
    this.#maxPeer = this.#lastPeer + 2 * Math.min(maxStreams, OPEN_CREDIT);
  }

  /** Streams of the peer that hold a place. */
  get live(): number {
    return this.#live;
  }
  /** Last id that the peer opened; 0: none. */
  get lastPeer(): number {
    return Math.max(0, this.#lastPeer);
  }
  /** Largest id that the peer may open. */
  get maxPeer(): number {
    return Math.max(0, this.#maxPeer);
  }

  /** Whether the peer's side opens streams of this id. */
  isPeers(id: number): boolean {
    return (id & 1) === this.#peerParity;
  }

  /** Whether the id was never used. */
  isIdle(id: number): boolean {
    return id > (this.isPeers(id) ? this.#lastPeer : this.#lastOwn);
  }

  /** The next id of ours: `wait` while the peer does not let us, `used up` when there is none left for ever. */
  next(): number | "wait" | "used up" {
    const id = this.#lastOwn + 2;
    if (id > MAX_STREAM_ID) return "used up";
    return id > this.maxOwn ? "wait" : id;
  }

  /** We opened `id`. */
  use(id: number): void {
    this.#lastOwn = id;
  }

  /** The peer opens `id`; throws a ProtocolFault when it may not. */
  peerOpens(id: number): void {
    if (!this.isPeers(id) || id !== this.#lastPeer + 2)
      throw new ProtocolFault("protocol_error", `OPEN of stream ${id} after ${this.#lastPeer}`);
    if (id > this.#maxPeer) throw new ProtocolFault("flow_control", "OPEN over the limit");
    this.#lastPeer = id;
    this.#live++;
    this.#pending++;
  }

  /** A stream of the peer's was settled; whether the peer is to be told of more credit. */
  settled(): boolean {
    this.#pending--;
    return this.#raise();
  }

  /** A stream of the peer's gave its place back; whether the peer is to be told of more credit. */
  released({ settled }: { readonly settled: boolean }): boolean {
    this.#live--;
    if (!settled) this.#pending--;
    return this.#raise();
  }

  #raise(): boolean {
    const ahead = Math.min(OPEN_CREDIT - this.#pending, this.#maxStreams - this.#live);
    const raised = Math.min(MAX_STREAM_ID, this.#lastPeer + 2 * ahead);
    // In steps of a quarter (ids go by twos), so that it costs little, unless the peer has nearly none left.
    const step = Math.max(2, Math.min(OPEN_CREDIT, this.#maxStreams) >>> 1);
    if (raised <= this.#maxPeer || (raised - this.#maxPeer < step && this.#maxPeer - this.#lastPeer >= step)) return false;
    this.#maxPeer = raised;
    return true;
  }
}
