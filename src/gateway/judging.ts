/**
 * Judges everybody who is here again: when something new is in force, when time alone may have changed a verdict, and when the clock was set.
 * Promises: one round after the other, in slices, so that thousands of connections do not hold the others up; whoever was not reached for a
 * fault of ours is judged a second later; where no moment has come, nobody is judged; what of the trust has ended is told. Leaves to
 * others: the verdicts (live.ts, opener.ts), what is in force (gateway.ts).
 */
import type { Clock, Timer } from "../base/clock.ts";
import { paced } from "../base/steps.ts";
import { textOfAuthority } from "../identity/authorities.ts";
import { nextChange, staleLists, type Trust } from "../identity/trust.ts";
import type { Journal } from "../journal.ts";
import type { LiveConnections } from "./live.ts";
import type { Opener } from "./opener.ts";
import type { Snapshot } from "./snapshot.ts";

export interface JudgingOptions {
  readonly clock: Clock;
  readonly journal: Journal;
  /** What holds now. */
  readonly snapshot: () => Snapshot;
  readonly live: LiveConnections;
  readonly opener: Opener;
}

/** After a fault of ours in between, ms. */
const AGAIN_MS = 1_000;
/** The two clocks part by so much only when one is set, ms. */
const CLOCK_SET_MS = 500;

export class Judging {
  readonly #options: JudgingOptions;
  #isOn = false;
  #round: Promise<void> = Promise.resolve();
  #timer: Timer | undefined;
  /** A fault came between: not everybody was judged by the rules in force. */
  #rulesUnjudged = false;
  #lastMs = 0;
  /** When time alone ends somebody, milliseconds since the epoch. */
  #due = Infinity;
  /** The system's clock against the monotonic one, when everybody was judged last, ms. */
  #ahead = 0;
  /** CAs whose end was told: that is said once. */
  readonly #ended = new WeakSet<Trust["anchors"][number]>();

  constructor(options: JudgingOptions) {
    this.#options = options;
  }

  /** How long the last round took. */
  get lastMs(): number {
    return this.#lastMs;
  }

  /** From now on, until `stop`. */
  begin(): Promise<void> {
    this.#isOn = true;
    return this.again({ rules: false });
  }

  stop(): void {
    this.#isOn = false;
    this.#timer?.cancel();
  }

  /** Ends who would not be let in now. `rules`: whether the rules, the deny-list or the targets may have changed. Never rejects. */
  again(what: { readonly rules: boolean }): Promise<void> {
    const { clock, journal } = this.#options;
    this.#round = this.#round
      .then(() => this.#judgeAll(what))
      .catch((error: unknown) => {
        journal.fault(error);
        this.#rulesUnjudged ||= what.rules;
        this.#due = clock.wall() + AGAIN_MS; // whoever was not reached is not forgotten
        this.#arm();
      });
    return this.#round;
  }

  /** Somebody came whom time alone ends after this moment. */
  dueBy(until: number): void {
    if (until + 1 >= this.#due) return;
    this.#due = until + 1;
    this.#arm();
  }

  async #judgeAll({ rules }: { readonly rules: boolean }): Promise<void> {
    if (!this.#isOn) return;
    const { clock, snapshot, live, opener } = this.#options;
    const started = clock.now();
    await paced(live.judgeAgain({ rules }));
    if (rules) await paced(opener.judgeAgain());
    if (rules) this.#rulesUnjudged = false;
    this.#lastMs = clock.now() - started;
    if (!this.#isOn) return;
    const now = clock.wall();
    this.#tellEnded(now);
    this.#due = Infinity;
    for (const moment of [live.soonestEnd(), nextChange(snapshot().trust, now)])
      if (moment !== undefined) this.#due = Math.min(this.#due, moment + 1);
    this.#ahead = now - clock.now();
    this.#arm();
  }

  /** Looks at the clock twice within the time that is promised, since setting it tells nobody; and at the moment that is due. */
  #arm(): void {
    this.#timer?.cancel();
    if (!this.#isOn) return;
    const { clock, snapshot } = this.#options;
    const ms = Math.min(snapshot().config.trust.maxStalenessMs / 2, Math.max(0, this.#due - clock.wall()));
    this.#timer = clock.after(ms, () => {
      const wall = clock.wall();
      const wasSet = Math.abs(wall - clock.now() - this.#ahead) > CLOCK_SET_MS;
      if (wasSet || wall >= this.#due) return void this.again({ rules: this.#rulesUnjudged });
      this.#tellEnded(wall);
      paced(this.#options.live.notifyAgain()).catch((error: unknown) => this.#options.journal.fault(error));
      this.#arm();
    });
  }

  /** What of the trust in force has ended. */
  #tellEnded(now: number): void {
    const { journal, snapshot } = this.#options;
    for (const line of staleLists(snapshot().trust, now)) journal.stale(line);
    const { trust, config } = snapshot();
    for (const anchor of trust.anchors) {
      const { certificate, fingerprint } = anchor;
      if (now <= certificate.notAfter || this.#ended.has(anchor)) continue;
      this.#ended.add(anchor);
      journal.authorityExpired(certificate, { fingerprint, file: config.trust.caFiles[textOfAuthority(config.trust.ca, fingerprint)] });
    }
  }
}
