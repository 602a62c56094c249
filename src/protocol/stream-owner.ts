/** What a stream asks of its session, and what it is made of. */
import type { Break } from "../base/channel.ts";
import type { Tlv } from "./tlv.ts";
import type { ReceiveWindow } from "./window.ts";
import type { Writer } from "./writer.ts";

export interface StreamOwner<Stream> {
  readonly maxPayload: number;
  readonly maxMessage: number;
  /** Cost that the session may still send. */
  readonly sendLeft: number;
  sent(cost: number): void;
  /** The stream has something to send and may. */
  ready(stream: Stream): void;
  /** A frame may go straight into the slab: nothing else waits. */
  readonly direct: Writer | undefined;
  touched(): void;
  consumed(stream: Stream, cost: number): void;
  resetByUs(stream: Stream, broken: Break): void;
  finished(stream: Stream): void;
  accept(stream: Stream, metadata: readonly Tlv[]): void;
  release(stream: Stream): void;
  later(act: () => void): void;
  now(): number;
}

export interface StreamInit {
  readonly target: string;
  readonly messages: boolean;
  readonly weight: number;
  readonly metadata: readonly Tlv[];
  readonly window: ReceiveWindow;
  readonly sendLimit: number;
  /** Whether we sent the OPEN. */
  readonly opener: boolean;
}
