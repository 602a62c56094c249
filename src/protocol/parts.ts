/**
 * What the parts of a session share: its state, and one another. The parts are what it sends (sender.ts), what it receives (incoming.ts),
 * its streams and their credit (roster.ts), and its life (session.ts).
 */
import type { Break } from "../base/channel.ts";
import type { Clock } from "../base/clock.ts";
import type { ControlBudget } from "./budget.ts";
import type { Heartbeat } from "./heartbeat.ts";
import type { StreamIds } from "./ids.ts";
import type { SessionEvents } from "./options.ts";
import type { Parameters } from "./parameters.ts";
import type { Sender } from "./sender.ts";

export interface SessionState {
  phase: "hello" | "active" | "closing" | "closed";
  /** Why it ends, or ended. */
  broken: Break | undefined;
  /** Set by GOAWAY, from either side. */
  draining: Break | undefined;
  /** NOTICEs sent by a gateway, read by a client. */
  notices: number;
  /** What the peer said of itself; the defaults until `ready`. */
  peer: Parameters;
}

export interface SessionParts {
  readonly role: "client" | "gateway";
  readonly state: SessionState;
  readonly clock: Clock;
  readonly events: SessionEvents;
  /** What we said, or will say, of ourselves. */
  readonly own: Parameters;
  readonly ids: StreamIds;
  readonly budget: ControlBudget;
  readonly sender: Sender;
  readonly heartbeat: Heartbeat;
}
