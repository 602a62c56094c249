/**
 * The identities that came in, with what a person wants to know of their certificates: until when, which, last used when.
 * Promises: all who are connected; of the others so many, of whom the one that left longest ago is forgotten first. Leaves to others: who
 * is let in.
 */
import type { Identity } from "../identity/identity.ts";

export interface SeenIdentity {
  readonly identity: string;
  readonly fingerprint: string;
  readonly serial: string;
  readonly issuer: string;
  /** Milliseconds since the epoch: the earliest end of its chain. */
  readonly notAfter: number;
  /** Milliseconds since the epoch: a connection or a pipe of it was opened, or ended. */
  readonly lastUse: number;
  /** Open now, with whatever certificate. */
  readonly connections: number;
}

/** With those who are not connected. */
const MAX_SEEN = 10_000;

type Kept = { -readonly [Key in keyof SeenIdentity]: SeenIdentity[Key] };

export class Seen {
  /** By their names. */
  readonly #here = new Map<string, Kept>();
  /** In the order in which they left. */
  readonly #gone = new Map<string, Kept>();

  /** A connection came; `now`: milliseconds since the epoch. */
  came(identity: Identity, now: number): void {
    const { principal, fingerprint, serial, issuer, notAfter } = identity;
    const connections = (this.#here.get(principal)?.connections ?? 0) + 1;
    this.#gone.delete(principal);
    this.#here.set(principal, { identity: principal, fingerprint, serial, issuer, notAfter, lastUse: now, connections });
    this.#forget();
  }

  used({ principal }: Identity, now: number): void {
    const seen = this.#here.get(principal) ?? this.#gone.get(principal);
    if (seen !== undefined) seen.lastUse = now;
  }

  /** Another path proves the certificate of a connection, with another end. */
  judged({ principal, fingerprint, notAfter }: Identity): void {
    const seen = this.#here.get(principal);
    if (seen?.fingerprint === fingerprint) seen.notAfter = notAfter;
  }

  left({ principal }: Identity, now: number): void {
    const seen = this.#here.get(principal);
    if (seen === undefined) return;
    seen.lastUse = now;
    if (--seen.connections > 0) return;
    this.#here.delete(principal);
    this.#gone.set(principal, seen);
    this.#forget();
  }

  list(): readonly SeenIdentity[] {
    return [...this.#gone.values(), ...this.#here.values()];
  }

  #forget(): void {
    if (this.#gone.size > 0 && this.#gone.size + this.#here.size > MAX_SEEN) this.#gone.delete(this.#gone.keys().next().value as string);
  }
}
