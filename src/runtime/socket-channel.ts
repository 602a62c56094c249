/**
 * A connected socket (TCP, unix, TLS) as a byte channel. Promises, beyond base/channel.ts: what one turn of the event loop brings
 * leaves in one write (turn.ts); a close without an end, an error, or bytes that could not be sent are a break, never an end; `reset` leaves no
 * clean end behind where the transport has a way to say so (RST; no close_notify under TLS; a unix socket can only close).
 * Leaves to others: connecting, handshakes, deadlines, and what a half-closed pipe that does not move deserves (pipe/).
 */
import { Socket } from "node:net";
import { toKeep } from "../base/bytes.ts";
import type { Break, Channel, ChannelEvents } from "../base/channel.ts";
import type { Reason } from "../base/reason.ts";
import { flushSoon, NEVER, type Written } from "./turn.ts";

export interface SocketChannelOptions {
  /** What a break that the other side or the network caused is called: `target_reset` for a back end, `session_lost` for a client. */
  readonly broken: Reason;
  /** Where pausing the socket itself does not stop its reads (TLS on Deno): hold and release what feeds it. Both or none. */
  readonly hold?: () => void;
  readonly release?: () => void;
  /** The TCP socket under a TLS socket. Default: the one that node:tls itself put it on. */
  readonly below?: Socket;
}

/** Bytes that wait here and in the socket: `write` asks for a pause from HIGH on, and says `drained` from LOW down. */
const HIGH_BYTES = 256 << 10;
const LOW_BYTES = 128 << 10;
/** So much goes to the socket at once, without waiting for the turn's end. */
const FLUSH_BYTES = 240 << 10;
/** Chunks up to these sizes are copied together: while the socket takes what we give, and while it does not and they would pin what they lie in. */
const SMALL_BYTES = 1 << 10;
const SMALL_WAITING_BYTES = 4 << 10;

/** The channel of `socket`, which must be connected, with `allowHalfOpen`, and read by nobody else. */
export function socketChannel(socket: Socket, options: SocketChannelOptions): Channel {
  return new SocketChannel(socket, options);
}

/** Where small chunks are copied together. No byte of it is written twice: the sockets still read what was handed over. */
interface Slab {
  readonly bytes: Uint8Array;
  used: number;
}

const newSlab = (length: number): Slab => ({ bytes: new Uint8Array(length), used: 0 });
const SLAB_BYTES = 64 << 10;
const OWN_SLAB_BYTES = 16 << 10;

/** The slab of all channels whose sockets take what they are given. One that waits has its own, or it would pin this one. */
let shared: Slab = newSlab(0);

class SocketChannel implements Channel, Written {
  readonly messages = false;
  readonly #socket: Socket;
  readonly #options: SocketChannelOptions;
  #events: ChannelEvents | undefined;

  // Our direction. One batch at a time is with the socket; what comes meanwhile waits here.
  #pending: Uint8Array[] = [];
  pendingBytes = 0;
  #ownSlab: Slab | undefined;
  #isDirty = false;
  #lastTurn = NEVER;
  #isFull = false;
  #finishing = false;

  // Their direction. What arrives while paused, or before anybody listens, waits in `#inbox`; sockets that pause leave it empty.
  #inbox: Uint8Array[] = [];
  #paused = false;
  #ended = false;
  #endGiven = false;
  #delivering = false;

  // The end of both.
  #broken: Break | undefined;
  #isOver = false;
  #closedGiven = false;

  constructor(socket: Socket, options: SocketChannelOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on("error", (error: Error) => this.#onError(error));
    socket.on("end", () => this.#onEnd());
    socket.on("close", () => this.#onClose());
    if (options.hold !== undefined) {
      options.hold();
      socket.on("data", (chunk: Uint8Array) => this.#onData(chunk));
      socket.resume();
    }
  }

  attach(events: ChannelEvents): void {
    this.#events = events;
    if (this.#options.hold === undefined) {
      this.#socket.on("data", (chunk: Uint8Array) => this.#onData(chunk));
    }
    if (!this.#paused) this.#read();
    if (this.#ended || this.#isOver) queueMicrotask(() => this.#deliver());
  }

  // ---- our direction

  write(chunk: Uint8Array, _last: boolean): boolean {
    if (this.#isOver || this.#finishing || this.#broken !== undefined) return true;
    const { length } = chunk;
    if (length === 0) return !this.#isFull;
    const waits = this.#socket.writableLength;
    if (length <= (waits === 0 ? SMALL_BYTES : SMALL_WAITING_BYTES)) this.#addSmall(chunk, waits);
    else this.#pending.push(waits === 0 ? chunk : toKeep(chunk));
    this.pendingBytes += length;
    if (waits === 0) {
      if (this.pendingBytes >= FLUSH_BYTES) this.#send();
      else if (!this.#isDirty) {
        this.#isDirty = true;
        this.#lastTurn = flushSoon(this, this.#lastTurn);
      }
    }
    if (this.pendingBytes + this.#socket.writableLength >= HIGH_BYTES) this.#isFull = true; // until `drained`, whatever is written meanwhile
    return !this.#isFull;
  }

  /** Copies the chunk behind the one before where that lies at the slab's end, else as the first of a run. */
  #addSmall(chunk: Uint8Array, waits: number): void {
    const { length } = chunk;
    let slab = waits === 0 ? shared : (this.#ownSlab ??= newSlab(OWN_SLAB_BYTES));
    if (slab.used + length > slab.bytes.length) {
      slab = newSlab(waits === 0 ? SLAB_BYTES : OWN_SLAB_BYTES);
      if (waits === 0) shared = slab;
      else this.#ownSlab = slab;
    }
    const start = slab.used;
    slab.bytes.set(chunk, start);
    slab.used += length;
    const at = this.#pending.length - 1;
    const before = this.#pending[at];
    if (before !== undefined && before.buffer === slab.bytes.buffer && before.byteOffset + before.length === start) {
      this.#pending[at] = slab.bytes.subarray(before.byteOffset, slab.used);
    } else this.#pending.push(slab.bytes.subarray(start, slab.used));
  }

  /** The turn is over, or we need not wait for that. */
  flush(): void {
    this.#isDirty = false;
    if (this.#broken === undefined && this.#socket.writableLength === 0) this.#send();
  }

  #send(): void {
    const chunks = this.#pending;
    const last = chunks.pop();
    if (last === undefined) return;
    this.#pending = [];
    this.pendingBytes = 0;
    this.#ownSlab = undefined;
    const socket = this.#socket;
    if (chunks.length === 0) {
      socket.write(last, this.#written);
      return;
    }
    socket.cork();
    for (const chunk of chunks) socket.write(chunk);
    socket.write(last, this.#written);
    socket.uncork();
  }

  /** The socket has handed a batch on. */
  readonly #written = (): void => {
    if (this.#broken !== undefined || this.#isOver) return;
    if (!this.#isDirty && this.#socket.writableLength === 0) this.#send();
    if (!this.#isFull || this.#finishing || this.pendingBytes + this.#socket.writableLength >= LOW_BYTES) return;
    this.#isFull = false;
    this.#events?.drained();
  };

  closeWrite(): void {
    if (this.#isOver || this.#finishing || this.#broken !== undefined) return;
    this.#finishing = true;
    this.#send();
    this.#socket.end();
  }

  // ---- their direction

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    if (this.#isOver) return; // what came before waits in the inbox
    if (this.#options.hold !== undefined) this.#options.hold();
    else this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#events !== undefined) this.#read();
  }

  #read(): void {
    if (this.#inbox.length > 0 || (this.#ended && !this.#endGiven)) {
      queueMicrotask(() => this.#deliver());
      return;
    }
    if (this.#isOver) return;
    if (this.#options.release !== undefined) this.#options.release();
    else this.#socket.resume();
  }

  #onData(chunk: Uint8Array): void {
    if (this.#broken !== undefined) return;
    if (this.#paused || this.#events === undefined || this.#inbox.length > 0) this.#inbox.push(chunk);
    else this.#events.data(chunk, false);
  }

  #onEnd(): void {
    this.#ended = true;
    this.#deliver();
  }

  /** What waited: chunks, then the end, then the close. A socket can tell its end within the turn that gave us the last chunk, also when we paused for that. */
  #deliver(): void {
    const events = this.#events;
    if (events === undefined || this.#delivering) return;
    this.#delivering = true;
    if (this.#inbox.length > 0 && this.#broken === undefined) {
      let given = 0;
      while (!this.#paused && given < this.#inbox.length && this.#broken === undefined)
        events.data(this.#inbox[given++] as Uint8Array, false);
      this.#inbox.splice(0, given);
    }
    if (this.#ended && !this.#endGiven && !this.#paused && this.#inbox.length === 0 && this.#broken === undefined) {
      this.#endGiven = true;
      events.end();
    }
    this.#delivering = false;
    if (!this.#isOver) {
      if (!this.#paused && !this.#ended && this.#inbox.length === 0) this.#read();
      return;
    }
    if (this.#closedGiven || (this.#broken === undefined && !this.#endGiven)) return;
    this.#closedGiven = true;
    this.#events = undefined; // a TLS socket outlives its end by a while: whatever hung on it need not
    events.closed(this.#broken);
  }

  // ---- the end of both

  reset(broken: Break): void {
    if (this.#closedGiven || this.#broken !== undefined) return;
    this.#broken = broken;
    this.#drop();
    if (this.#isOver) return queueMicrotask(() => this.#deliver()); // who paused had not heard yet
    cutSocket(this.#socket, this.#options.below);
  }

  #onError(error: Error): void {
    this.#broken ??= { reason: this.#options.broken, detail: error.message };
    this.#drop();
    this.#socket.destroy(); // an established TLS socket stays open otherwise
  }

  #onClose(): void {
    if (this.#isOver) return;
    if (!this.#ended) this.#broken ??= { reason: this.#options.broken, detail: "the connection was closed without an end" };
    else if (!this.#socket.writableFinished)
      this.#broken ??= { reason: this.#options.broken, detail: "the connection was closed before all was sent" };
    this.#isOver = true;
    this.#drop();
    this.#deliver();
  }

  #drop(): void {
    this.#pending = [];
    this.pendingBytes = 0;
    if (this.#broken !== undefined) this.#inbox = [];
  }
}

/** Closes a connected socket with a RST, so that nobody takes it for an end. `below`: the TCP socket under a TLS socket, if it is another than node:tls's own. */
export function cutSocket(socket: Socket, below: Socket | undefined = parentOf(socket)): void {
  // While our FIN is under way Node cannot reset: it fails, and the socket's `close` never comes. All was sent by then; closing has to do.
  const finishing = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;
  if (!finishing) resetOnClose(below ?? socket);
  if (below !== undefined) socket.once("close", () => void below.destroy());
  socket.destroy();
}

/**
 * Lets the socket's close be a RST. Not by resetAndDestroy: that ends the socket first, and a FIN before the RST looks like an end; and under a
 * TLS socket it crashes Node (a write under way finds its TLS gone). A unix socket has no reset: closing it is all there is.
 */
function resetOnClose(socket: Socket): void {
  if (socket.remoteAddress === undefined) return;
  const flags = socket as { resetAndClosing?: boolean; _resetAndClosing?: boolean };
  flags.resetAndClosing = true; // Node
  flags._resetAndClosing = true; // Deno
}

/** The TCP socket that a TLS socket stands on, if it is one. */
function parentOf(socket: Socket): Socket | undefined {
  const parent = (socket as { _parent?: unknown })._parent;
  return parent instanceof Socket ? parent : undefined;
}
