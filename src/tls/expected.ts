/**
 * Connections to a listener that its own self-test makes: known by address and port that they come from, on a unix socket as the only one that comes.
 * Promises: how such a one ends is told to the test and to nobody else; whoever is let in without the test's secret server name is none
 * of them, and is served as everybody; where two came to a unix socket, neither is taken for the test's. Leaves to others: to dial, to judge.
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Reason } from "../base/reason.ts";
import type { Source } from "./source.ts";

export interface ProbeRefusal {
  readonly reason: Reason;
  readonly detail: string;
}

export interface ExpectedProbe {
  /** The port that it comes from; undefined: of a unix socket, which has none. */
  readonly port: number | undefined;
  /** The address that it comes from, where the listener has several: on another, somebody else may have that port. */
  readonly host: string | undefined;
  /** That it asks for, and nobody else knows. */
  readonly serverName: string;
  /** Once: how it ended. Without a refusal: it was let in. */
  ended(refusal?: ProbeRefusal): void;
  /** Instead of that, or after it: the listener was closed, or another client came to a unix socket, too. */
  lost(error: Error): void;
  /** It is no longer expected. */
  readonly signal: AbortSignal;
}

interface Opened {
  readonly socket: TLSSocket;
  readonly source: Source;
  readonly serverName: string | undefined;
}

interface Refused extends ProbeRefusal {
  readonly source: Source;
  readonly connection?: Opened | undefined;
}

/** Of a listener's events, those that end a handshake. */
interface Ends<Connection, Refusal> {
  connection(connection: Connection): void;
  refused(refusal: Refusal): void;
}

export class ExpectedProbes {
  readonly #open = new Set<ExpectedProbe>();
  /** Those that have not come yet. */
  readonly #waiting = new Map<number | undefined, ExpectedProbe>();
  readonly #taken = new WeakMap<Source, ExpectedProbe>();
  /** To whom somebody came on a unix socket: it, or another. */
  #onUnix: ExpectedProbe | undefined;

  expect(probe: ExpectedProbe): void {
    this.#open.add(probe);
    this.#waiting.set(probe.port, probe);
    const forget = (): void => {
      this.#open.delete(probe);
      if (this.#waiting.get(probe.port) === probe) this.#waiting.delete(probe.port);
      if (this.#onUnix === probe) this.#onUnix = undefined;
    };
    probe.signal.addEventListener("abort", forget, { once: true });
  }

  /** The source that an expected socket counts as: its own, so that no other pays for it. Undefined: it is not expected. */
  take(socket: Pick<Socket, "remotePort" | "remoteAddress" | "localAddress">): Source | undefined {
    if (this.#waiting.size === 0 && this.#onUnix === undefined) return undefined; // each address is a call of the system
    const { remotePort, remoteAddress, localAddress } = socket;
    if (remoteAddress !== localAddress) return undefined; // a probe comes from where it goes to
    if (remotePort === undefined) this.#onUnix?.lost(new Error("another client came, too"));
    const probe = this.#waiting.get(remotePort);
    if (probe === undefined || (probe.host !== undefined && remoteAddress?.replace("::ffff:", "") !== probe.host)) return undefined;
    this.#waiting.delete(remotePort);
    if (remotePort === undefined) this.#onUnix = probe;
    const source =
      probe.port === undefined
        ? { text: "unix", key: "unix", address: undefined }
        : { text: "self-test", key: probe.serverName, address: undefined };
    this.#taken.set(source, probe);
    return source;
  }

  /** The listener takes no more connections, and ends handshakes without a word. */
  stop(): void {
    for (const probe of this.#open) probe.lost(new Error("the listener was closed"));
  }

  divert<Connection extends Opened, Refusal extends Refused>(events: Ends<Connection, Refusal>): Ends<Connection, Refusal> {
    return {
      connection: (connection) => {
        const probe = this.#taken.get(connection.source);
        if (probe === undefined) return events.connection(connection);
        if (connection.serverName !== probe.serverName) {
          probe.lost(new Error("another client came first"));
          return events.connection(connection);
        }
        connection.socket.resume().end(); // what it hands out for resuming has still to arrive
        probe.ended();
      },
      refused: (refusal) => {
        const probe = this.#taken.get(refusal.source);
        if (probe === undefined) return events.refused(refusal);
        refusal.connection?.socket.destroy();
        probe.ended(refusal);
      },
    };
  }
}
