/**
 * One end of a duplex byte or message channel: a socket, a stream of a session, an echo, a process.
 * A pipe joins two of them; nothing that moves payload knows more about an end than this.
 *
 * Rules for whoever implements it:
 *  - a chunk handed over (`data`, `write`) belongs to the receiver; the giver never touches its bytes again;
 *  - while paused neither `data` nor `end` is delivered: whoever paused may still hold the last chunk, and would write it behind the end;
 *    memory held while paused is bounded by the channel;
 *  - `end` is a clean end of the incoming direction, and comes at most once; a break is never shown as `end`;
 *  - `closed` comes exactly once and last, also after `reset`; with `undefined` when both directions ended cleanly;
 *  - no method throws, all are harmless after `closed`, and no event fires from inside the `attach` call.
 */
import type { Reason } from "./reason.ts";

/** Why a channel broke: the reason, a detail for the log, and for `rate_limited` when to come again. */
export interface Break {
  readonly reason: Reason;
  readonly detail?: string;
  /** Milliseconds. */
  readonly retryAfter?: number;
}

/** Whole messages that lie in one chunk: the n-th from `places[2n]` to `places[2n + 1]`, at least one. It belongs to the receiver, as a chunk does. */
export interface Batch {
  readonly chunk: Uint8Array;
  readonly places: number[];
}

export interface ChannelEvents {
  /** `last`: this chunk ends a message (always false on byte channels). A message may come in several chunks; an empty one is an empty chunk with `last`. */
  data(chunk: Uint8Array, last: boolean): void;
  /** Whether `batch` may be called instead of `data` for whole messages. */
  readonly takesBatches?: boolean;
  /** Several whole messages at once, each as `data` with `last` would bring it: a chunk's worth may come after a pause began in its middle. */
  batch?(batch: Batch): void;
  /** The other side will send no more; its direction is complete. */
  end(): void;
  /** After a `write` that returned false, once, also when more was written since: write on. Not after `reset`. */
  drained(): void;
  closed(broken: Break | undefined): void;
}

export interface Channel {
  /** Whether message boundaries are kept. */
  readonly messages: boolean;
  /** Sets where events go; data flows from then on (unless paused). Called once. */
  attach(events: ChannelEvents): void;
  /** Takes the chunk in any case; false asks the caller to wait for `drained` before it writes more. `last` ends a message. */
  write(chunk: Uint8Array, last: boolean): boolean;
  /** Several whole messages at once, where it can; as `write` for each of them. */
  writeBatch?(batch: Batch): boolean;
  /** Ends our direction cleanly, after what was written. The other one goes on. */
  closeWrite(): void;
  /** Breaks both directions off: what is unsent is discarded, and the other side sees a break, never an end. */
  reset(broken: Break): void;
  pause(): void;
  resume(): void;
}
