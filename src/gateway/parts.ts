/**
 * What a gateway has from outside when it is one of several that serve the same config, each in a thread of one process (workers/).
 * Its TCP ports are theirs, too. Promises of whoever makes them: what one takes from a limit or a cap counts for all.
 */
import type { Audit } from "../audit/audit.ts";
import type { SocketAddress } from "../base/address.ts";
import type { Limiter } from "../policy/limiter.ts";
import type { Penalties } from "../tls/penalties.ts";
import type { Tally } from "../tls/tally.ts";

export interface Parts {
  readonly limiter: Limiter;
  readonly penalties: Penalties;
  /** What counts for a listener's caps. */
  tally(listen: SocketAddress): Tally;
  /** Of what the process holds together, this one's part: 1 is all. */
  readonly share: number;
  /** What gets each open and close of a pipe and each refusal. */
  readonly audit: Audit;
}
