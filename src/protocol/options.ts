/** What whoever holds a session gives it, and is told by it. */
import type { Break } from "../base/channel.ts";
import type { Clock } from "../base/clock.ts";
import type { Notice } from "./frame.ts";
import type { Parameters } from "./parameters.ts";
import type { Stream } from "./stream.ts";
import type { Transport } from "./writer.ts";

export interface SessionEvents {
  /** HELLO or WELCOME came and was good. */
  ready?(peer: Parameters): void;
  /** The peer opened a stream: attach, then `accept` or `reset` it; `release` it when its back end is torn down. */
  open?(stream: Stream): void;
  /** The peer will take no more streams and closes after `graceMs`. */
  goaway?(notice: { readonly broken: Break; readonly graceMs: number }): void;
  /** The gateway has something to say that changes nothing. Only of a client's session. */
  notice?(notice: Notice): void;
  /** Once, last; undefined after an orderly close by either side. */
  closed(broken: Break | undefined): void;
}

export interface SessionOptions {
  readonly role: "client" | "gateway";
  readonly transport: Transport;
  readonly clock: Clock;
  readonly events: SessionEvents;
  /** What differs from `parameterDefaults`. */
  readonly parameters?: Partial<Parameters>;
  /** Streams that the peer may have at once; 0: it may open none. Default 256 for a gateway, 0 for a client. */
  readonly maxStreams?: number;
  /** The gateway answers the HELLO with this refusal. */
  readonly refusal?: Break;
  /** To the first frame. Default 5,000 ms. */
  readonly helloTimeoutMs?: number;
}
