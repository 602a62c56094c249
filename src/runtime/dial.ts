/**
 * Connections to back ends as channels: TCP (addresses in turn, names resolved in order), unix, and TLS over them (dial-tls.ts).
 * Promises: one deadline for all of it, of which each address gets an even share; no connection is handed out before it stands; a cancel,
 * a deadline or a failure leaves no socket behind; who is reached is another than ourselves. Leaves to others: when to dial.
 */
import { connect, isIP, type Socket } from "node:net";
import { addressText, type SocketAddress } from "../base/address.ts";
import type { Channel } from "../base/channel.ts";
import { systemClock, type Clock, type Timer } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import { processDescriptors, type Descriptors } from "./descriptors.ts";
import { shake, type PreparedTls } from "./dial-tls.ts";
import { forget, resolve } from "./resolve.ts";
import { cutSocket, socketChannel } from "./socket-channel.ts";

export interface DialOptions {
  /** For all addresses together, names included. */
  readonly timeoutMs: number;
  /** From `prepareTls`. Absent: no TLS. */
  readonly tls?: PreparedTls;
  readonly clock?: Clock;
  /** Where connections take their descriptors from. Default: the process's. */
  readonly descriptors?: Descriptors;
}

/** One of the two, once, not before `dial` has returned; none after `cancel`. */
export interface DialEvents {
  /** `text`: what was reached, for the log: `10.0.0.5:5432`, `[::1]:5432`, `unix:/run/x.sock`. */
  connected(channel: Channel, text: string): void;
  /** `target_unavailable` or `target_timeout`. */
  failed(error: PipegateError): void;
}

export interface Dialling {
  /** Gives up at once. Harmless when it is over. */
  cancel(): void;
}

/** An address with what is known of it before it is dialled. */
interface Destination {
  readonly address: SocketAddress;
  /** For the log; of a name: without what it is resolved to. */
  readonly text: string;
  readonly isName: boolean;
}

/** One back end, dialled many times. */
export class Dialler {
  readonly timeoutMs: number;
  readonly tls: PreparedTls | undefined;
  readonly clock: Clock;
  readonly descriptors: Descriptors;
  readonly destinations: readonly Destination[];

  /** `addresses` are tried in turn. */
  constructor(addresses: readonly SocketAddress[], { timeoutMs, tls, clock = systemClock, descriptors }: DialOptions) {
    this.timeoutMs = timeoutMs;
    this.tls = tls;
    this.clock = clock;
    this.descriptors = descriptors ?? processDescriptors();
    this.destinations = addresses.map((address) => ({
      address,
      text: addressText(address),
      isName: address.kind === "tcp" && isIP(address.host) === 0,
    }));
  }

  dial(events: DialEvents): Dialling {
    return new Dial(this, events);
  }
}

/** What went wrong, in few words: the system's code, or a sentence where there is none. */
function causeOf(error: Error): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return typeof code === "string" && !message.includes(code) ? `${message} (${code})` : message;
}

class TimeoutError extends Error {}

class Dial implements Dialling {
  readonly #dialler: Dialler;
  readonly #events: DialEvents;
  readonly #deadline: number;
  #isOver = false;
  /** Of the destination that is tried. */
  #at = -1;
  /** What its name was resolved to, and is still to be tried; the first is tried now. */
  #hosts: readonly string[] = [];
  #socket: Socket | undefined;
  #timer: Timer | undefined;
  #failures = "";
  #onlyTimeouts = true;

  constructor(dialler: Dialler, events: DialEvents) {
    this.#dialler = dialler;
    this.#events = events;
    this.#deadline = dialler.clock.now() + dialler.timeoutMs;
    this.#nextDestination();
  }

  cancel(): void {
    this.#isOver = true;
    this.#stop();
  }

  /** Ends the attempt under way. */
  #stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.destroy();
  }

  // ---- what comes next

  #nextDestination(): void {
    const { destinations, clock } = this.#dialler;
    const next = destinations[++this.#at];
    if (next === undefined) {
      clock.soon(() => this.#giveUp());
    } else if (next.isName) {
      this.#resolve(next);
    } else {
      this.#connect(next, { host: next.address.kind === "tcp" ? next.address.host : "", text: next.text });
    }
  }

  #giveUp(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#events.failed(new PipegateError(this.#onlyTimeouts ? "target_timeout" : "target_unavailable", this.#failures || "no address"));
  }

  #failed(text: string, error: Error): void {
    if (this.#isOver) return;
    this.#stop();
    if (!(error instanceof TimeoutError)) this.#onlyTimeouts = false;
    this.#failures += `${this.#failures === "" ? "" : "; "}${text}: ${causeOf(error)}`;
    const { address, isName } = this.#dialler.destinations[this.#at] as Destination;
    this.#hosts = this.#hosts.slice(1);
    if (this.#hosts.length > 0) return this.#nextHost();
    if (isName && address.kind === "tcp") forget(address.host);
    this.#nextDestination();
  }

  /** What is left of the time, shared by whatever is still to be tried: `here` of this destination. */
  #share(here: number): number {
    const { destinations, clock } = this.#dialler;
    return Math.max(0, (this.#deadline - clock.now()) / (here + destinations.length - 1 - this.#at));
  }

  // ---- names

  #resolve({ address }: Destination): void {
    const { clock } = this.#dialler;
    const { host } = address as SocketAddress & { readonly kind: "tcp" };
    const at = this.#at;
    const current = (): boolean => !this.#isOver && this.#at === at && this.#timer === timer;
    const timer = clock.after(this.#share(1), () => this.#failed(host, new TimeoutError("the name was not resolved in time")));
    this.#timer = timer;
    resolve(host, clock).then(
      (hosts) => {
        if (!current()) return;
        this.#stop();
        this.#hosts = hosts;
        this.#nextHost();
      },
      (error: Error) => {
        if (current()) this.#failed(host, error);
      },
    );
  }

  #nextHost(): void {
    const destination = this.#dialler.destinations[this.#at] as Destination;
    const host = this.#hosts[0] as string;
    this.#connect(destination, { host, text: addressText({ ...destination.address, host } as SocketAddress) });
  }

  // ---- connections

  #connect({ address }: Destination, { host, text }: { readonly host: string; readonly text: string }): void {
    const { descriptors, clock, tls } = this.#dialler;
    const giveBack = descriptors.forBackEnd();
    if (giveBack === undefined) {
      clock.soon(() => this.#failed(text, new Error("the process has no descriptors left for back ends")));
      return;
    }
    const ms = this.#share(Math.max(1, this.#hosts.length));
    const socket = address.kind === "unix" ? connect({ path: address.path, allowHalfOpen: true }) : connectTcp(host, address.port);
    this.#socket = socket;
    this.#timer = clock.after(ms, () => this.#failed(text, new TimeoutError(`no answer within ${Math.round(ms)} ms`)));
    const failed = (error: Error): void => {
      if (this.#socket === socket) this.#failed(text, error); // an error after the end is no event
    };
    const closed = (): void => failed(new Error("closed while connecting"));
    const connected = (): void => {
      if (this.#socket !== socket) return;
      if (address.kind === "tcp" && isItself(socket, address.port)) {
        cutSocket(socket); // an orderly end would keep the port for a minute
        this.#failed(text, new Error("nobody listens there: the connection came back to itself"));
      } else if (tls === undefined) {
        const channel = socketChannel(socket, { broken: "target_reset" });
        // What dialling holds goes with it: a pipe may be idle for days.
        socket.off("connect", connected).off("close", closed).off("error", failed);
        this.#stands(channel, text);
      } else {
        const stands = (channel: Channel): void => {
          if (this.#socket === socket) this.#stands(channel, text);
        };
        shake(socket, { tls, host: address.kind === "tcp" ? address.host : "localhost", stands, failed });
      }
    };
    socket.on("close", giveBack).on("close", closed).on("error", failed).on("connect", connected);
  }

  #stands(channel: Channel, text: string): void {
    this.#isOver = true;
    this.#timer?.cancel();
    this.#socket = undefined;
    this.#events.connected(channel, text);
  }
}

function connectTcp(host: string, port: number): Socket {
  return connect({ host, port, allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 });
}

/**
 * Who dials a port of his own host where nobody listens is sometimes given that very port to dial from, and is connected to himself: bytes
 * come back as if a back end had answered, and the port is taken when the back end starts again.
 */
function isItself(socket: Socket, port: number): boolean {
  return socket.localPort === port && socket.localAddress === socket.remoteAddress; // each address is a call of the system
}
