/** What a listener tells: who came through the door, who was turned away, and who of those can still hear why. */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Reason } from "../base/reason.ts";
import type { Identity } from "../identity/identity.ts";
import type { Proof } from "../identity/proven.ts";
import type { Source } from "./source.ts";

/** A TLS connection that is open. Its error listener is set. */
export interface OpenConnection {
  readonly id: string;
  readonly socket: TLSSocket;
  /** The accepted socket below: a reset is sent on it. */
  readonly below: Socket;
  /** Stops and goes on with reading, where the TLS socket's own pause does not hold. */
  readonly hold: (() => void) | undefined;
  readonly release: (() => void) | undefined;
  /** Undefined when the client asked for no protocol. */
  readonly alpn: string | undefined;
  /** Lower case. */
  readonly serverName: string | undefined;
  readonly source: Source;
}

export interface SecureConnection extends OpenConnection {
  readonly identity: Identity;
  /** For judging it again when trust or time have moved on. */
  readonly proof: Proof;
}

export interface ListenerRefusal {
  readonly reason: Reason;
  readonly detail: string;
  readonly source: Source;
  readonly fingerprint?: string | undefined;
  readonly serverName?: string | undefined;
  /** Still open, and speaks pipegate/1: `answer` comes for it, unless it leaves before. */
  readonly connection?: OpenConnection | undefined;
}

/** Of a connection that can be told. */
export interface AnswerableRefusal extends ListenerRefusal {
  readonly connection: OpenConnection;
}

export interface ListenerEvents {
  connection(connection: SecureConnection): void;
  /** Once for each that came and was not let in, at once. */
  refused(refusal: ListenerRefusal): void;
  /** After that, when the answer is due: whoever gets this tells the connection why, and closes it. */
  answer(refusal: AnswerableRefusal): void;
  /** Accepting failed for want of descriptors or memory; it goes on by itself when there are some. */
  troubled?(error: Error): void;
}
