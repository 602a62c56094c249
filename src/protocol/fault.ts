/** A peer's violation of the protocol: always the end of the connection, never of one stream only. Does not leave the session. */
import type { Break } from "../base/channel.ts";
import type { Reason } from "../base/reason.ts";

export class ProtocolFault extends Error {
  override readonly name = "ProtocolFault";
  readonly reason: Reason;
  constructor(reason: Reason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

/** How a session ends by what was thrown: by the peer's fault, else by ours. */
export function breakOf(thrown: unknown): Break {
  if (thrown instanceof ProtocolFault) return { reason: thrown.reason, detail: thrown.message };
  return { reason: "internal", detail: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) };
}
