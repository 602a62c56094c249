/**
 * From the listeners that stand to those that another config wants: kept, opened, closed. Promises: nothing that stands is touched before
 * all that is new stands; when something cannot be had, all is as it was. An address that only frees up by closing (0.0.0.0 to 127.0.0.1 on
 * the same port) is closed for a moment, and opened again when the new one cannot be had. Connections that are open stay in every case.
 */
import { addressBytes, addressText, collide, type SocketAddress } from "../base/address.ts";
import { PipegateError } from "../base/error.ts";
import type { ListenerConfig } from "../config/config.ts";
import type { Listener } from "../tls/listener.ts";
import type { ServedOptions } from "../tls/listener-options.ts";

/** A listener that stands, and what the config says of it now. */
export interface Standing {
  readonly listener: Listener;
  config: ListenerConfig;
  /** Whether it takes clients yet. */
  armed: boolean;
}

export interface ChangeOptions {
  readonly wanted: readonly ListenerConfig[];
  /** What a listener offers under the new config. */
  served(config: ListenerConfig): ServedOptions;
  /** Whether ports are shared: then nothing need be closed for what is new. */
  readonly shared: boolean;
  /** Rejects when the address cannot be had. */
  open(config: ListenerConfig): Promise<Standing>;
  /** As it was before. Rejects when that cannot be had either, or the gateway is on its way out. */
  reopen(config: ListenerConfig): Promise<Standing>;
  /** What stood is another one now, or (undefined) stands no more. */
  replace(old: Standing, again: Standing | undefined): void;
}

export interface Change {
  /** What changes, in words. */
  readonly changes: readonly string[];
  /** Cannot fail: what is kept offers what is new, what is not wanted any more takes nobody. In the order of the config. */
  commit(): Standing[];
  /** Closes what was opened: the gateway is on its way out. */
  abandon(): Promise<void>;
}

/** Rejects with a PipegateError (config) when it cannot be had in full. */
export async function changeListeners(
  standing: readonly Standing[],
  { wanted, served, shared, open, reopen, replace }: ChangeOptions,
): Promise<Change> {
  const left = [...standing];
  const matched = wanted.map((config) => {
    const at = left.findIndex((one) => addressText(one.config.listen) === addressText(config.listen));
    return { config, kept: at < 0 ? undefined : left.splice(at, 1)[0]! };
  });
  const commits = matched.map(({ config, kept }) => kept && { kept, config, commit: kept.listener.prepare(served(config)) });
  const opened: Standing[] = [];
  const closed: Standing[] = [];
  const abandon = async (): Promise<void> => void (await Promise.all(opened.map(({ listener }) => listener.close())));
  const reopenAll = async (error: unknown): Promise<unknown> => {
    for (const one of closed) {
      try {
        replace(one, await reopen(one.config));
      } catch (worse) {
        replace(one, undefined);
        const [first, second] = [error, worse].map((each) => (each instanceof Error ? each.message : String(each)));
        error = new PipegateError("config", `${first}; and what was closed for it cannot be opened again: ${second}`, {
          next: "mend the config, and reload it: until then nobody listens there",
          cause: worse,
        });
      }
    }
    return error;
  };
  try {
    for (const { config, kept } of matched) {
      if (kept !== undefined) continue;
      for (const one of left.filter((old) => !shared && stands(asBound(old), config.listen) && !closed.includes(old))) {
        closed.push(one);
        await one.listener.close();
      }
      opened.push(await open(config));
    }
  } catch (error) {
    await abandon();
    throw await reopenAll(error);
  }
  return {
    changes: [
      ...opened.map(({ config }) => `listener ${addressText(config.listen)} opened`),
      ...left.map(({ config }) => `listener ${addressText(config.listen)} closed`),
      ...matched
        .filter(({ config, kept }) => kept !== undefined && textOf(config) !== textOf(kept.config))
        .map(({ config }) => `listener ${addressText(config.listen)}`),
    ],
    abandon,
    commit: () => {
      for (const one of left) one.listener.stop();
      return matched.map(({ config, kept }, index) => {
        if (kept === undefined) {
          const young = opened.find((one) => one.config === config)!;
          young.armed = true;
          return young;
        }
        commits[index]!.commit();
        kept.config = config;
        return kept;
      });
    },
  };
}

function asBound({ config, listener }: Standing): Bound {
  return { listen: config.listen, address: listener.address };
}

/** An address as it is written, and as it is bound. */
interface Bound {
  readonly listen: SocketAddress;
  readonly address: SocketAddress;
}

/** Whether what stands may have the address that is wanted, however both are written. */
export function stands({ listen, address }: Bound, wanted: SocketAddress): boolean {
  if (collide(listen, wanted) || collide(address, wanted)) return true;
  // What a name means is known only once it is bound.
  const isName = wanted.kind === "tcp" && addressBytes(wanted.host) === undefined;
  return isName && address.kind === "tcp" && address.port === wanted.port;
}

/** All that a listener's config says. */
function textOf({ listen, target, serverNames, alpn }: ListenerConfig): string {
  return JSON.stringify([addressText(listen), target, [...serverNames], alpn]);
}
