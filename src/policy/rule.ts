/** What a rule says. The config builds rules; policy.ts decides by them. Units stand in the names; absent means no limit. */

export interface Rate {
  /** Units (opens, messages, bytes, connections) per second, a whole number, 1 or more. */
  readonly perSecond: number;
  /** How many units may come at once after a pause, a whole number, 1 or more. */
  readonly burst: number;
}

export interface Limits {
  readonly connects?: Rate;
  readonly opens?: Rate;
  /** Each way for itself. */
  readonly messages?: Rate;
  /** Each way for itself. */
  readonly bytes?: Rate;
  /** At most so many at once. */
  readonly pipes?: number;
  /** At most so many at once. */
  readonly connections?: number;
}

export interface Rule {
  /** Patterns as written in the config; see pattern.ts for what they mean. */
  readonly clients: readonly string[];
  readonly targets: readonly string[];
  readonly limits: Limits;
  /** Line of the rule in the config file, 1 for the first; 0 when it was made by a program. */
  readonly line: number;
  /** Decides nothing: what it would have done is logged. Default: false. */
  readonly shadow?: boolean;
}
