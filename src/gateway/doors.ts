/**
 * The listeners of a gateway: opened, tried, moved to where they serve, changed by another config, closed. Promises: all of them open or
 * none; none takes anybody before it is armed, since what it goes by is not in force yet. Leaves to others: what a listener is (tls/), from
 * one set of them to another (listeners.ts), who came (connections.ts).
 */
import type { SocketAddress } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { ListenerConfig } from "../config/config.ts";
import type { Identity } from "../identity/identity.ts";
import type { Journal } from "../journal.ts";
import { denial } from "../policy/deny.ts";
import { ALPN } from "../protocol/frame.ts";
import { listen } from "../tls/listener.ts";
import { listenerDefaults, type ServedOptions } from "../tls/listener-options.ts";
import type { Penalties } from "../tls/penalties.ts";
import { selfTest, type TestedListener } from "../tls/self-test.ts";
import type { Connections } from "./connections.ts";
import type { LifeCycle } from "./life-cycle.ts";
import { changeListeners, type Change, type Standing } from "./listeners.ts";
import type { Parts } from "./parts.ts";
import type { Snapshot } from "./snapshot.ts";

export interface DoorsOptions {
  readonly clock: Clock;
  readonly journal: Journal;
  readonly life: LifeCycle;
  readonly connections: Connections;
  readonly penalties: Penalties;
  /** Where ports are shared. */
  readonly parts: Parts | undefined;
}

/** Where the door of one of several threads is tried: the shared address would lead to any of them. */
const nowhereElse = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;

export class Doors {
  readonly #options: DoorsOptions;
  readonly #shared: boolean;
  #standing: Standing[] = [];

  constructor(options: DoorsOptions) {
    this.#options = options;
    this.#shared = options.parts !== undefined;
  }

  /** Where they listen, in the order of the config. */
  get addresses(): readonly SocketAddress[] {
    return this.#standing.map(({ listener }) => listener.address);
  }

  /** All of a config, tried as it says. Where ports are shared, aside: nobody else listens there, so whoever tries one comes to no other. */
  async open(snapshot: Snapshot): Promise<void> {
    const { selfTest: wanted, listeners } = snapshot.config;
    const open = (): Promise<readonly TestedListener[]> => this.#openAll(snapshot);
    if (wanted === "required") {
      await selfTest({ served: listeners.map((one) => servedBy(one, snapshot)), open, clock: this.#options.clock });
      return;
    }
    this.#options.journal.untested();
    await open();
  }

  async #openAll(snapshot: Snapshot): Promise<readonly TestedListener[]> {
    for (const listener of snapshot.config.listeners) {
      this.#standing.push(await this.#open(listener, { snapshot, aside: this.#shared }));
      this.#options.life.requireOpening();
    }
    return this.#standing.map(({ listener, config }) => ({ listener, served: servedBy(config, snapshot) }));
  }

  async #open(config: ListenerConfig, { snapshot, aside }: { readonly snapshot: Snapshot; readonly aside: boolean }): Promise<Standing> {
    const { clock, journal, connections, penalties, parts } = this.#options;
    const tcp = config.listen.kind === "tcp";
    const place = { address: aside && tcp ? nowhereElse : config.listen, shared: this.#shared && tcp && !aside };
    const tally = parts?.tally(config.listen);
    const listener = await listen(
      { ...listenerDefaults, ...servedBy(config, snapshot), ...place, penalties, clock, ...(tally && { tally }) },
      {
        connection: (connection) => {
          if (standing.armed) connections.arrived(connection, standing.config);
          else connections.tooSoon(connection);
        },
        refused: (refusal) => connections.refused(refusal),
        answer: (refusal) => connections.answer(refusal),
        troubled: (error) => journal.troubled(error),
      },
    );
    const standing: Standing = { listener, config, armed: false };
    return standing;
  }

  /** Where ports are shared: from where the doors were tried to where they will serve. Rejects when one cannot be had. */
  async bind(): Promise<void> {
    for (const { listener, config } of this.#standing) if (config.listen.kind === "tcp") await listener.move(config.listen);
  }

  /** Everybody who comes is served. */
  arm(): void {
    for (const standing of this.#standing) standing.armed = true;
  }

  /** To those of another config. Rejects with a PipegateError (config) when one cannot be had; all is as it was then. */
  async change({ before, next }: { readonly before: Snapshot; readonly next: Snapshot }): Promise<Change> {
    const change = await changeListeners(this.#standing, {
      wanted: next.config.listeners,
      shared: this.#shared,
      served: (listener) => servedBy(listener, next),
      open: (listener) => this.#open(listener, { snapshot: next, aside: false }),
      reopen: async (listener) => {
        this.#options.life.requireReady();
        const again = await this.#open(listener, { snapshot: before, aside: false });
        again.armed = true;
        return again;
      },
      replace: (old, again) => {
        this.#standing = this.#standing.flatMap((one) => (one !== old ? [one] : again === undefined ? [] : [again]));
      },
    });
    return { ...change, commit: () => (this.#standing = change.commit()) };
  }

  /** Nobody comes in any more. */
  stop(): void {
    for (const { listener } of this.#standing) listener.stop();
  }

  async close(): Promise<void> {
    await Promise.all(this.#standing.map(({ listener }) => listener.close()));
  }
}

/** What a listener offers under this snapshot. */
function servedBy({ target, serverNames, alpn }: ListenerConfig, { config, trust, deny }: Snapshot): ServedOptions {
  const raw = target !== undefined || serverNames.size > 0;
  const denies = (identity: Identity): string | undefined => denial(deny, identity);
  return { credentials: config.credentials, trust, denies, alpn: [ALPN, ...(raw ? alpn : [])], withoutAlpn: raw };
}
