/**
 * The handshakes under way, counted in all and by source, each with its deadline. One that ended in a refusal may stay for a while until it
 * is answered: its place is taken until then, so hammering at the door costs whoever does it. Promises: every count goes down once, every
 * timer ends with its handshake. Leaves to others: sockets, and what a refusal is.
 */
import type { Socket } from "node:net";
import type { Clock, Timer } from "../base/clock.ts";
import type { Source } from "./source.ts";
import { createTally, type Count, type Tally } from "./tally.ts";

export interface HandshakeCaps {
  readonly maxHandshakes: number;
  readonly maxHandshakesPerSource: number;
}

interface Handshake {
  readonly source: Source;
  /** Of its source. */
  readonly count: Count;
  readonly timer: Timer;
  /** Refused, and told so to the log; its answer is due later. */
  readonly isRefused: boolean;
}

/** So many wait for their answer; whoever is refused beyond that has it at once, and others find places. */
const MAX_WAITING = 256;

export class Handshakes {
  readonly #caps: HandshakeCaps;
  readonly #clock: Clock;
  readonly #bySocket = new Map<Socket, Handshake>();
  readonly #tally: Tally;
  readonly #all: Count;
  #waiting = 0;
  #last: { readonly key: string; readonly count: Count } | undefined;

  constructor(caps: HandshakeCaps & { readonly tally?: Tally }, clock: Clock) {
    this.#caps = caps;
    this.#tally = caps.tally ?? createTally();
    this.#all = this.#tally.of("handshakes");
    this.#clock = clock;
  }

  /** Why there is no place for another one of this source, or (`counted`) was none for the last. Undefined: there is. */
  fullFor({ key }: Source, { counted = false } = {}): string | undefined {
    const { maxHandshakes, maxHandshakesPerSource } = this.#caps;
    const own = counted ? 1 : 0;
    if (this.#all.value - own >= maxHandshakes) return `${maxHandshakes} handshakes are under way`;
    if (this.#ofSource(key).value - own >= maxHandshakesPerSource)
      return `${maxHandshakesPerSource} handshakes of its address are under way`;
    return undefined;
  }

  /** Whether it is under way, or waits for its answer. */
  has(socket: Socket): boolean {
    return this.#bySocket.has(socket);
  }

  /** `late` is called when it is still here after `timeoutMs`. */
  enter(socket: Socket, { source, timeoutMs, late }: { readonly source: Source; readonly timeoutMs: number; late(): void }): void {
    this.#add(socket, { source, timer: this.#clock.after(timeoutMs, late), isRefused: false });
  }

  /** Calls `answer` after a while, unless its socket is gone by then; at once where too many wait. */
  answerLater(socket: Socket, { source, delayMs, answer }: { readonly source: Source; readonly delayMs: number; answer(): void }): void {
    if (delayMs === 0 || this.#waiting >= MAX_WAITING) return answer();
    this.#waiting++;
    const timer = this.#clock.after(delayMs, () => {
      this.leave(socket);
      answer();
    });
    this.#add(socket, { source, timer, isRefused: true });
  }

  /** It is over, one way or another. Where it came from; undefined when it was over before, or refused. */
  leave(socket: Socket): Source | undefined {
    const handshake = this.#bySocket.get(socket);
    if (handshake === undefined) return undefined;
    const { source, count, timer, isRefused } = handshake;
    this.#bySocket.delete(socket);
    timer.cancel();
    this.#all.add(-1);
    count.add(-1);
    if (!isRefused) return source;
    this.#waiting--;
    return undefined;
  }

  /** All of them leave. */
  clear(): Socket[] {
    const sockets = [...this.#bySocket.keys()];
    for (const socket of sockets) this.leave(socket);
    return sockets;
  }

  #add(socket: Socket, handshake: Omit<Handshake, "count">): void {
    const count = this.#ofSource(handshake.source.key);
    this.#bySocket.set(socket, { ...handshake, count });
    this.#all.add(1);
    count.add(1);
  }

  /** The one that was asked for last is at hand: one handshake asks several times. */
  #ofSource(key: string): Count {
    if (this.#last?.key !== key) this.#last = { key, count: this.#tally.of(`handshakes of ${key}`) };
    return this.#last.count;
  }
}
