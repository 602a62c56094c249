/** A peer's violation of the protocol: always the end of the connection, never of one stream only. Does not leave the session. */
import type { Reason } from "../base/reason.ts";

export class ProtocolFault extends Error {
  override readonly name = "ProtocolFault";
  readonly reason: Reason;
  constructor(reason: Reason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}
