/**
 * The identities that came in, with what a person wants to know of their certificates: until when, which, last used when.
 * Promises: bounded; when full, of those who are not connected the one that came longest ago is forgotten first. Leaves to others: who is let in.
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

const MAX_SEEN = 10_000;

export class Seen {
  readonly #seen = new Map<string, { -readonly [Key in keyof SeenIdentity]: SeenIdentity[Key] }>();

  /** A connection came; `now`: milliseconds since the epoch. */
  came(identity: Identity, now: number): void {
    const { principal, fingerprint, serial, issuer, notAfter } = identity;
    const connections = (this.#seen.get(principal)?.connections ?? 0) + 1;
    this.#seen.delete(principal); // so that the map's order is that of the last arrivals
    if (this.#seen.size >= MAX_SEEN) this.#forgetOne();
    this.#seen.set(principal, { identity: principal, fingerprint, serial, issuer, notAfter, lastUse: now, connections });
  }

  used({ principal }: Identity, now: number): void {
    const seen = this.#seen.get(principal);
    if (seen !== undefined) seen.lastUse = now;
  }

  left(identity: Identity, now: number): void {
    const seen = this.#seen.get(identity.principal);
    if (seen === undefined) return;
    seen.lastUse = now;
    seen.connections = Math.max(0, seen.connections - 1); // it may have been forgotten meanwhile
  }

  list(): readonly SeenIdentity[] {
    return [...this.#seen.values()];
  }

  #forgetOne(): void {
    for (const [principal, { connections }] of this.#seen) {
      if (connections > 0) continue;
      this.#seen.delete(principal);
      return;
    }
    this.#seen.delete(this.#seen.keys().next().value as string); // all of them are here
  }
}
