/**
 * The limits of rules, held for each identity: one account for a principal and a rule, shared by all of its connections and
 * surviving reconnects and renewed certificates (and a reload, where the rule stays as it was).
 * Promises: an account is forgotten only when nothing is open and every bucket is full, which no one can tell from a new one;
 * at most `maxAccounts`, and when none is free or found idle a new identity is refused, never let through uncounted. Limiters of several
 * threads on one memory hold each limit in sum. No timer of its own: each new account looks at a few old ones.
 * Leaves to others: which rule holds, saying no to the peer, and how accounts are stored (accounts.ts).
 */
import type { Clock } from "../base/clock.ts";
import { Accounts, accountsMemory, connectionsWord, pipesWord } from "./accounts.ts";
import { microseconds } from "./bucket.ts";
import { Digester } from "./digest.ts";
import type { Holder } from "./holder.ts";
import { Kind } from "./kind.ts";
import type { Limits, Rule } from "./rule.ts";
import { BucketThrottle, type Throttle, unlimited } from "./throttle.ts";

export interface LimiterOptions {
  readonly clock: Clock;
  /** Default 1,000,000. Where `memory` is given, that knows it. */
  readonly maxAccounts?: number;
  /** Of `limiterMemory`, when several threads are to hold the limits together. Their clocks must agree (`systemClock` does). */
  readonly memory?: SharedArrayBuffer;
}

/** What the limiters of several threads share: 116 bytes for each account, which the system commits as they come. */
export function limiterMemory(maxAccounts: number = MAX_ACCOUNTS): SharedArrayBuffer {
  return accountsMemory(maxAccounts);
}

export interface Refused<R extends string> {
  readonly ok: false;
  readonly reason: R;
  /** Milliseconds, whole. For caps, where nobody can know, 1,000. */
  readonly retryAfter: number;
}

/** Gives back what was counted; a second call does nothing. */
export interface Connected {
  readonly ok: true;
  release(): void;
}

export interface PipeLease {
  /** From the client to the target. */
  readonly inbound: Throttle;
  /** From the target to the client. */
  readonly outbound: Throttle;
  /** Gives the pipe's place back; a second call does nothing. Cancel what waits in the throttles first. */
  release(): void;
}

export type ConnectAnswer = Connected | Refused<"rate_limited" | "too_many_connections">;
export type OpenAnswer = { readonly ok: true; readonly lease: PipeLease } | Refused<"rate_limited" | "too_many_pipes">;

const MAX_ACCOUNTS = 1_000_000;
const RETRY_CAP_MS = 1_000;

const freeConnection: Connected = Object.freeze({ ok: true, release: () => {} });
const freePipe: OpenAnswer = Object.freeze({
  ok: true,
  lease: Object.freeze({ inbound: unlimited, outbound: unlimited, release: () => {} }),
});
const busy: Refused<"rate_limited"> = Object.freeze({ ok: false, reason: "rate_limited", retryAfter: RETRY_CAP_MS });

/** Where something of an account is open. */
interface Place {
  readonly accounts: Accounts;
  readonly kind: Kind;
  readonly id: number;
}

class CountedConnection implements Connected {
  readonly ok = true;
  readonly #accounts: Accounts;
  readonly #kind: Kind;
  /** 0: given back. */
  #id: number;

  constructor({ accounts, kind, id }: Place) {
    this.#accounts = accounts;
    this.#kind = kind;
    this.#id = id;
  }
  release(): void {
    const id = this.#id;
    if (id === 0) return;
    this.#id = 0;
    const accounts = this.#accounts;
    accounts.hold(id);
    accounts.words[accounts.word + connectionsWord]!--;
    this.#kind.settle(accounts);
    accounts.leave();
  }
}

/** The throttles of an account, as long as a pipe of this thread needs them. */
interface Throttles {
  readonly inbound: BucketThrottle;
  readonly outbound: BucketThrottle;
  pipes: number;
}

class CountedPipe implements PipeLease {
  readonly inbound: Throttle;
  readonly outbound: Throttle;
  #place: (Place & { readonly throttles: Map<number, Throttles> }) | undefined;

  constructor(place: Place & { readonly throttles: Map<number, Throttles> }) {
    const throttles = place.throttles.get(place.id);
    if (throttles !== undefined) throttles.pipes++;
    this.inbound = throttles?.inbound ?? unlimited;
    this.outbound = throttles?.outbound ?? unlimited;
    this.#place = place;
  }
  release(): void {
    if (this.#place === undefined) return;
    const { accounts, kind, id, throttles } = this.#place;
    this.#place = undefined;
    const mine = throttles.get(id);
    const isLast = mine !== undefined && --mine.pipes === 0;
    if (isLast) {
      throttles.delete(id);
      mine.inbound.close();
      mine.outbound.close();
    }
    accounts.hold(id);
    accounts.words[accounts.word + pipesWord]!--;
    kind.settle(accounts);
    if (isLast) accounts.idleFrom(Math.max(mine.inbound.idleFrom(), mine.outbound.idleFrom()));
    accounts.leave();
  }
}

export class Limiter {
  readonly #clock: Clock;
  readonly #accounts: Accounts;
  readonly #digester: Digester;
  /** By rule; those that say the same have accounts in common, so that an unchanged rule of a reloaded config finds its own again. */
  readonly #kinds = new WeakMap<Rule, Kind>();
  /** By account. */
  readonly #throttles = new Map<number, Throttles>();

  constructor({ clock, maxAccounts = MAX_ACCOUNTS, memory }: LimiterOptions) {
    this.#clock = clock;
    this.#accounts = new Accounts(memory ?? maxAccounts);
    this.#digester = new Digester(this.#accounts.key);
  }

  /** Accounts that are held. */
  get accounts(): number {
    return this.#accounts.count;
  }

  /** A new connection, under the rule that `connectionLimits` found. A refused one is charged too. */
  connect(holder: Holder, rule: Rule): ConnectAnswer {
    const { connects, connections } = rule.limits;
    if (connects === undefined && connections === undefined) return freeConnection;
    const accounts = this.#accounts;
    const kind = this.#kind(rule);
    const now = this.#now();
    const id = this.#enter(holder, { kind, now });
    if (id === 0) return busy;
    const wait = kind.takeConnect(accounts, now);
    const isCounted = wait === 0 && this.#count(connectionsWord, connections);
    if (!isCounted) kind.settle(accounts);
    accounts.leave();
    if (isCounted) return new CountedConnection({ accounts, kind, id });
    if (wait > 0) return { ok: false, reason: "rate_limited", retryAfter: wait };
    return { ok: false, reason: "too_many_connections", retryAfter: RETRY_CAP_MS };
  }

  /** A new pipe, under the rule that `decide` found. One that is refused for `pipes` is charged too. */
  openPipe(holder: Holder, rule: Rule): OpenAnswer {
    const { limits } = rule;
    if (!limitsPipes(limits)) return freePipe;
    const accounts = this.#accounts;
    const kind = this.#kind(rule);
    const now = this.#now();
    const id = this.#enter(holder, { kind, now });
    if (id === 0) return busy;
    const wait = kind.takeOpen(accounts, now);
    const isCounted = wait === 0 && this.#count(pipesWord, limits.pipes);
    if (!isCounted) kind.settle(accounts);
    accounts.leave();
    if (wait > 0) return { ok: false, reason: "rate_limited", retryAfter: wait };
    if (!isCounted) return { ok: false, reason: "too_many_pipes", retryAfter: RETRY_CAP_MS };
    if ((limits.bytes !== undefined || limits.messages !== undefined) && !this.#throttles.has(id)) this.#throttle(id, kind);
    return { ok: true, lease: new CountedPipe({ accounts, kind, id, throttles: this.#throttles }) };
  }

  /**
   * An open that no rule allows, charged to the rule of the connection (`connectionLimits`), so that guessing names costs what
   * opening costs. Returns 0, or the milliseconds after which to come again: then the answer is `rate_limited`, not `forbidden`.
   */
  chargeRefusedOpen(holder: Holder, rule: Rule): number {
    if (rule.limits.opens === undefined) return 0;
    const accounts = this.#accounts;
    const kind = this.#kind(rule);
    const now = this.#now();
    if (this.#enter(holder, { kind, now }) === 0) return RETRY_CAP_MS;
    const wait = kind.takeOpen(accounts, now);
    kind.settle(accounts);
    accounts.leave();
    return wait;
  }

  #now(): number {
    return microseconds(this.#clock.now());
  }

  /** The account, locked and in hand; 0: there is none for it. */
  #enter(holder: Holder, { kind, now }: { readonly kind: Kind; readonly now: number }): number {
    const accounts = this.#accounts;
    const id = accounts.enter(holder.digest(kind.seed, this.#digester), now);
    if (accounts.isNew && id !== 0) kind.fill(accounts, now);
    return id;
  }

  /** One more, if the cap allows it. */
  #count(which: number, cap: number = Infinity): boolean {
    const { words, word } = this.#accounts;
    if (words[word + which]! >= cap) return false;
    words[word + which]!++;
    return true;
  }

  #throttle(id: number, { bytes, messages }: Kind): void {
    const clock = this.#clock;
    const inbound = new BucketThrottle({ clock, lane: this.#accounts.lane(id, 0), bytes, messages });
    const outbound = new BucketThrottle({ clock, lane: this.#accounts.lane(id, 1), bytes, messages });
    this.#throttles.set(id, { inbound, outbound, pipes: 0 });
  }

  #kind(rule: Rule): Kind {
    let kind = this.#kinds.get(rule);
    if (kind === undefined) {
      const { connects, opens, messages, bytes, pipes, connections } = rule.limits;
      const rates = [connects, opens, messages, bytes].map((rate) => rate && [rate.perSecond, rate.burst]);
      const text = JSON.stringify([rule.clients, rule.targets, rates, pipes, connections]);
      kind = new Kind(rule.limits, this.#digester.seed(text));
      this.#kinds.set(rule, kind);
    }
    return kind;
  }
}

function limitsPipes({ opens, pipes, bytes, messages }: Limits): boolean {
  return opens !== undefined || pipes !== undefined || bytes !== undefined || messages !== undefined;
}
