/**
 * Sees to it that a listening server goes on accepting. A Deno that once ran out of descriptors in `accept` never accepts again and says
 * nothing, so where facts say so a server that was quiet for a while is dialled now and then; if it does not take that up, it listens anew.
 * Promises: nothing is done where accepting keeps up by itself, and on unix sockets. Leaves to others: to hang up on sockets that `takeOwn` knows.
 */
import { createConnection, type Server, type Socket } from "node:net";
import type { SocketAddress, TcpAddress } from "../base/address.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { bindServer } from "./bind.ts";
import { facts } from "./facts.ts";
import { nearEnd, somePort } from "./near-end.ts";

/** Ports that probes of any thread come from just now; 0: none. */
let ports: Int32Array = new Int32Array(0);

/** In a thread: the probe of one may be accepted by another, which has to know it. */
export function shareProbes(memory: SharedArrayBuffer): void {
  ports = new Int32Array(memory);
}

export function createProbeMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(MAX_PROBES * Int32Array.BYTES_PER_ELEMENT);
}

/** Without effect where nothing is shared. */
function announce(port: number): void {
  ports.find((_, index) => Atomics.compareExchange(ports, index, 0, port) === 0);
}

/** It is a probe's no longer. Whether it was one's until now. */
function takeBack(port: number): boolean {
  const cell = ports.indexOf(port);
  return cell >= 0 && Atomics.compareExchange(ports, cell, port, 0) === port;
}

export interface WatchOptions {
  /** As bound. */
  readonly address: SocketAddress;
  readonly clock: Clock;
  /** Whether other threads listen there, too. */
  readonly shared?: boolean;
  /** The server did not accept, and listens anew. */
  troubled(error: Error): void;
}

export interface AcceptWatch {
  /** Whether an accepted socket is the watch's own; of each probe one is: whoever has its port afterwards is a client. */
  takeOwn(socket: Socket): boolean;
  /** Descriptors are scarce: it looks more often for a while, as accepting may end at any moment. */
  scarce(): void;
  stop(): void;
}

/** How long a server is quiet before it is dialled, and how long it may then take. */
interface Pace {
  readonly everyMs: number;
  readonly patienceMs: number;
}

const CALM: Pace = { everyMs: 3_000, patienceMs: 1_000 };
/** A client whose SYN was dropped meanwhile sends it again after a second: by then it should be heard. */
const SCARCE: Pace = { everyMs: 300, patienceMs: 300 };
/** Looks since descriptors were scarce last, until it is calm again. */
const SCARCE_LOOKS = 30;
/** At one moment, of all threads. */
const MAX_PROBES = 256;

const nothing: AcceptWatch = { takeOwn: () => false, scarce: () => {}, stop: () => {} };

export function watchAccepting(server: Server, options: WatchOptions): AcceptWatch {
  const { address } = options;
  return facts.keepsAccepting || address.kind === "unix" ? nothing : new Watch(server, { ...options, address });
}

class Watch implements AcceptWatch {
  readonly #server: Server;
  readonly #options: WatchOptions & { readonly address: TcpAddress };
  #timer: Timer;
  #probe: { readonly socket: Socket; readonly host: string; readonly port: number; isOver: boolean } | undefined;
  #accepted = true;
  #scarceLooks = 0;
  /** It does not listen, and is about to. */
  #isMending = false;
  #stopped = false;

  constructor(server: Server, options: WatchOptions & { readonly address: TcpAddress }) {
    this.#server = server;
    this.#options = options;
    server.on("connection", () => (this.#accepted = true));
    this.#timer = options.clock.after(CALM.everyMs, () => this.#look());
  }

  get #pace(): Pace {
    return this.#scarceLooks > 0 ? SCARCE : CALM;
  }

  takeOwn({ remotePort, remoteAddress, localAddress }: Socket): boolean {
    const probe = this.#probe;
    if (remotePort === undefined) return false;
    if (probe?.isOver === false && remotePort === probe.port && remoteAddress?.replace("::ffff:", "") === probe.host) {
      this.#over();
      return true;
    }
    return remoteAddress === localAddress && takeBack(remotePort);
  }

  /** Whoever comes from the port of the probe is not the probe any more. */
  #over(): void {
    if (this.#probe === undefined || this.#probe.isOver) return;
    this.#probe.isOver = true;
    takeBack(this.#probe.port);
  }

  scarce(): void {
    const isNews = this.#scarceLooks === 0;
    this.#scarceLooks = SCARCE_LOOKS;
    if (!isNews || this.#probe !== undefined || this.#isMending || this.#stopped) return;
    this.#timer.cancel();
    this.#lookLater();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer.cancel();
    this.#over();
    this.#probe?.socket.destroy();
  }

  #next(delayMs: number, act: () => void): void {
    if (!this.#stopped) this.#timer = this.#options.clock.after(delayMs, act);
  }

  #lookLater(): void {
    this.#next(this.#pace.everyMs, () => this.#look());
  }

  #look(): void {
    const quiet = !this.#accepted;
    this.#accepted = false;
    if (this.#scarceLooks > 0) this.#scarceLooks--;
    if (!quiet) return this.#lookLater();
    const { host, port } = this.#options.address;
    const local = nearEnd(host);
    const localPort = somePort();
    let failed = false; // without having failed it is not connected where too many wait already
    let probe: Socket;
    try {
      probe = createConnection({ host: local, port, localAddress: local, localPort });
    } catch {
      return this.#lookLater(); // Deno throws what it should tell
    }
    const { shared = false } = this.#options;
    if (shared) announce(localPort);
    this.#probe = { socket: probe, host: local, port: localPort, isOver: false };
    let answered = false; // another thread has accepted it, and hung up
    probe.on("error", () => {
      failed = true; // the port is taken, or still no descriptors: that is for the next time
      this.#over();
    });
    probe.once("close", () => (answered = shared));
    probe.resume();
    const judge = (): void => {
      this.#over();
      this.#probe = undefined;
      const isWell = this.#accepted || failed || answered;
      probe.destroy();
      if (isWell) return this.#lookLater();
      void this.#again();
    };
    // In two steps: a process that was busy for all that time has accepted between them what came.
    const half = this.#pace.patienceMs / 2;
    this.#next(half, () => this.#next(half, judge));
  }

  async #again(): Promise<void> {
    this.#isMending = true;
    if (this.#server.listening) this.#server.close();
    try {
      await bindServer(this.#server, this.#options.address, { shared: this.#options.shared ?? false });
    } catch {
      return this.#next(this.#pace.everyMs, () => void this.#again());
    }
    if (this.#stopped) return void this.#server.close(); // meanwhile
    this.#isMending = false;
    this.#options.troubled(new Error("accepting had stopped, for want of descriptors; it listens anew"));
    this.#lookLater();
  }
}
