/**
 * The limits of rules, held for each identity: one account for a principal and a rule, shared by all of its connections and
 * surviving reconnects and renewed certificates (and a reload, where the rule stays as it was).
 * Promises: an account is forgotten only when nothing is open and every bucket is full, which no one can tell from a new one;
 * at most `maxAccounts`, and when all of them are busy a new identity is refused, never let through uncounted. No timer of its own:
 * each new account looks at a few old ones. Leaves to others: which rule holds, and saying no to the peer.
 */
import type { Clock } from "../base/clock.ts";
import type { Identity } from "../identity/identity.ts";
import { Bucket, microseconds } from "./bucket.ts";
import type { Limits, Rate, Rule } from "./rule.ts";
import { BucketThrottle, type Throttle, unlimited } from "./throttle.ts";

export interface LimiterOptions {
  readonly clock: Clock;
  /** Default 1,000,000. */
  readonly maxAccounts?: number;
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
/** Old accounts looked at for each new one: more than one, so that the table shrinks while it is used; when it is full, more. */
const LOOK_AT = 4;
const LOOK_AT_WHEN_FULL = 256;

const freeConnection: Connected = Object.freeze({ ok: true, release: () => {} });
const freePipe: OpenAnswer = Object.freeze({
  ok: true,
  lease: Object.freeze({ inbound: unlimited, outbound: unlimited, release: () => {} }),
});

/** What is held for one principal under one rule. A bucket that was never used is not there: it would be full. */
class Account {
  connections = 0;
  pipes = 0;
  connects: Bucket | undefined;
  opens: Bucket | undefined;
  inbound: BucketThrottle | undefined;
  outbound: BucketThrottle | undefined;

  /** `at`: whole microseconds of the clock. */
  isIdle(at: number): boolean {
    if (this.connections > 0 || this.pipes > 0) return false;
    if (!(this.connects?.isFull(at) ?? true) || !(this.opens?.isFull(at) ?? true)) return false;
    return (this.inbound?.isIdle(at) ?? true) && (this.outbound?.isIdle(at) ?? true);
  }
}

class CountedConnection implements Connected {
  readonly ok = true;
  #account: Account | undefined;

  constructor(account: Account) {
    this.#account = account;
    account.connections++;
  }
  release(): void {
    if (this.#account === undefined) return;
    this.#account.connections--;
    this.#account = undefined;
  }
}

class CountedPipe implements PipeLease {
  readonly inbound: Throttle;
  readonly outbound: Throttle;
  #account: Account | undefined;

  constructor(account: Account) {
    this.#account = account;
    this.inbound = account.inbound ?? unlimited;
    this.outbound = account.outbound ?? unlimited;
    account.pipes++;
  }
  release(): void {
    if (this.#account === undefined) return;
    this.#account.pipes--;
    this.#account = undefined;
  }
}

type Table = Map<string, Account>;
type Entry = readonly [table: Table, principal: string, account: Account];

export class Limiter {
  readonly #clock: Clock;
  readonly #maxAccounts: number;
  /** By what a rule says, so that an unchanged rule of a reloaded config finds its accounts again; then by principal. */
  readonly #tables = new Map<string, Table>();
  readonly #keys = new WeakMap<Rule, string>();
  readonly #hand: Iterator<Entry | undefined, never>;
  #accounts = 0;

  constructor({ clock, maxAccounts = MAX_ACCOUNTS }: LimiterOptions) {
    this.#clock = clock;
    this.#maxAccounts = maxAccounts;
    this.#hand = this.#walk();
  }

  /** Accounts that are held. */
  get accounts(): number {
    return this.#accounts;
  }

  /** A new connection, under the rule that `connectionLimits` found. A refused one is charged too. */
  connect(identity: Identity, rule: Rule): ConnectAnswer {
    const { connects, connections } = rule.limits;
    if (connects === undefined && connections === undefined) return freeConnection;
    const account = this.#account(identity, rule);
    if (account === undefined) return { ok: false, reason: "rate_limited", retryAfter: RETRY_CAP_MS };
    const wait = connects === undefined ? 0 : this.#take((account.connects ??= this.#bucket(connects)));
    if (wait > 0) return { ok: false, reason: "rate_limited", retryAfter: wait };
    if (connections !== undefined && account.connections >= connections) {
      return { ok: false, reason: "too_many_connections", retryAfter: RETRY_CAP_MS };
    }
    return new CountedConnection(account);
  }

  /** A new pipe, under the rule that `decide` found. One that is refused for `pipes` is charged too. */
  openPipe(identity: Identity, rule: Rule): OpenAnswer {
    const { limits } = rule;
    if (!limitsPipes(limits)) return freePipe;
    const account = this.#account(identity, rule);
    if (account === undefined) return { ok: false, reason: "rate_limited", retryAfter: RETRY_CAP_MS };
    const wait = this.#charge(account, limits);
    if (wait > 0) return { ok: false, reason: "rate_limited", retryAfter: wait };
    if (limits.pipes !== undefined && account.pipes >= limits.pipes)
      return { ok: false, reason: "too_many_pipes", retryAfter: RETRY_CAP_MS };
    if (account.inbound === undefined && (limits.bytes !== undefined || limits.messages !== undefined)) {
      account.inbound = new BucketThrottle(this.#clock, limits);
      account.outbound = new BucketThrottle(this.#clock, limits);
    }
    return { ok: true, lease: new CountedPipe(account) };
  }

  /**
   * An open that no rule allows, charged to the rule of the connection (`connectionLimits`), so that guessing names costs what
   * opening costs. Returns 0, or the milliseconds after which to come again: then the answer is `rate_limited`, not `forbidden`.
   */
  chargeRefusedOpen(identity: Identity, rule: Rule): number {
    if (rule.limits.opens === undefined) return 0;
    const account = this.#account(identity, rule);
    return account === undefined ? RETRY_CAP_MS : this.#charge(account, rule.limits);
  }

  #charge(account: Account, { opens }: Limits): number {
    return opens === undefined ? 0 : this.#take((account.opens ??= this.#bucket(opens)));
  }

  /** 0, or whole milliseconds to wait. */
  #take(bucket: Bucket): number {
    return Math.ceil(bucket.take(1, this.#now()) / 1000);
  }

  #bucket(rate: Rate): Bucket {
    return new Bucket(rate, this.#now());
  }

  #now(): number {
    return microseconds(this.#clock.now());
  }

  /** Undefined: the limiter is full of busy accounts. */
  #account(identity: Identity, rule: Rule): Account | undefined {
    const key = this.#key(rule);
    const found = this.#tables.get(key)?.get(identity.principal);
    if (found !== undefined) return found;
    this.#sweep();
    if (this.#accounts >= this.#maxAccounts) return undefined;
    const account = new Account();
    const table = this.#tables.get(key); // asked again: the sweep may have dropped it
    if (table === undefined) this.#tables.set(key, new Map([[identity.principal, account]]));
    else table.set(identity.principal, account);
    this.#accounts++;
    return account;
  }

  #key(rule: Rule): string {
    let key = this.#keys.get(rule);
    if (key === undefined) {
      const { connects, opens, messages, bytes, pipes, connections } = rule.limits;
      const rates = [connects, opens, messages, bytes].map((rate) => rate && [rate.perSecond, rate.burst]);
      key = JSON.stringify([rule.clients, rule.targets, rates, pipes, connections]);
      this.#keys.set(rule, key);
    }
    return key;
  }

  /** Looks at the next few accounts and forgets the idle ones. */
  #sweep(): void {
    const now = this.#now();
    const full = this.#accounts >= this.#maxAccounts;
    for (let turns = full ? LOOK_AT_WHEN_FULL : LOOK_AT; turns > 0; turns--) {
      const { value: entry } = this.#hand.next();
      if (entry === undefined) continue; // once round
      const [table, principal, account] = entry;
      if (!account.isIdle(now)) continue;
      table.delete(principal);
      this.#accounts--;
      if (full) return; // room for the one that asks
    }
  }

  /** All accounts, round and round, with an undefined after each round. Maps may change meanwhile. */
  *#walk(): Generator<Entry | undefined, never> {
    for (;;) {
      for (const [key, table] of this.#tables) {
        for (const [principal, account] of table) yield [table, principal, account];
        if (table.size === 0) this.#tables.delete(key);
      }
      yield undefined;
    }
  }
}

function limitsPipes({ opens, pipes, bytes, messages }: Limits): boolean {
  return opens !== undefined || pipes !== undefined || bytes !== undefined || messages !== undefined;
}
