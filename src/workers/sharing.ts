/**
 * Whether the workers have their addresses for themselves. A claim (places.ts) has to be let go before they can share an address, and in that
 * moment another that claims as we do may have it, too: so it is looked at again once all stand there, and from then on now and then.
 * Promises: of two gateways that start at the same moment on one address at most one serves (perhaps none, then start it again); who joins
 * later is told, once as long as he stays. Where the system does not show who listens (runtime/sharers.ts) nobody is seen.
 */
import type { Clock, Timer } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import { sharedAddresses } from "../runtime/sharers.ts";
import type { Placed } from "./places.ts";

const LOOK_MS = 10_000;

export interface SharingWatchOptions {
  readonly clock: Clock;
  readonly log: Pick<Logger, "error">;
  /** Where the workers stand now. */
  placed(): readonly Placed[];
}

/** Rejects a config that others listen for as well: throws a PipegateError (config). */
export function requireUnshared(placed: readonly Placed[]): void {
  const [first] = sharedAddresses(portsOf(placed));
  if (first !== undefined)
    throw new PipegateError("config", `${first} is already in use`, { next: "stop what listens there, or choose another" });
}

export class SharingWatch {
  readonly #options: SharingWatchOptions;
  #timer: Timer | undefined;
  #told: readonly string[] = [];

  constructor(options: SharingWatchOptions) {
    this.#options = options;
  }

  /** Until `stop`. */
  begin(): void {
    this.#timer = this.#options.clock.after(LOOK_MS, () => {
      this.#look();
      this.begin();
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #look(): void {
    const shared = sharedAddresses(portsOf(this.#options.placed()));
    for (const address of shared.filter((one) => !this.#told.includes(one))) {
      const detail = `another process of this user listens on ${address}, too, and gets a part of its connections; ss -ltnp names it`;
      this.#options.log.error("address shared", { detail });
    }
    this.#told = shared;
  }
}

function portsOf(placed: readonly Placed[]): ReadonlySet<number> {
  return new Set(placed.flatMap(({ address }) => (address.kind === "tcp" ? [address.port] : [])));
}
