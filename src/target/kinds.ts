/** Makes a target of its options. Promises: TLS credentials that cannot be used are refused here, before anything is served. */
import type { SocketAddress } from "../base/address.ts";
import { Dialler } from "../runtime/dial.ts";
import { prepareTls } from "../runtime/dial-tls.ts";
import { echoChannel } from "./echo.ts";
import { frameChannel } from "./framing.ts";
import { GatheringBudget } from "./gathering.ts";
import type { Target, TargetOptions } from "./target.ts";

type StreamOptions = Exclude<TargetOptions, { readonly kind: "builtin" }>;

/** Throws a PipegateError (config) for options that cannot be served. Targets that share a process should share a budget. */
export function createTarget(
  name: string,
  options: TargetOptions,
  { budget = new GatheringBudget() }: { readonly budget?: GatheringBudget } = {},
): Target {
  return options.kind === "builtin" ? echoTarget(name) : streamTarget(name, options, budget);
}

const opened = { cancel: (): void => {} };

function echoTarget(name: string): Target {
  return {
    name,
    open({ messages }, events) {
      events.opened(echoChannel({ messages }), "echo");
      return opened;
    },
  };
}

function streamTarget(name: string, options: StreamOptions, budget: GatheringBudget): Target {
  const addresses: readonly SocketAddress[] = options.kind === "unix" ? [{ kind: "unix", path: options.path }] : options.addresses;
  const tls = options.kind === "tls" ? { tls: prepareTls(options) } : {};
  const dialler = new Dialler(addresses, { timeoutMs: options.dialTimeoutMs, ...tls });
  const { framing } = options;
  return {
    name,
    open({ messages, maxMessageBytes, identity }, events) {
      return dialler.dial({
        connected: (channel, text) => {
          const gathering = { budget, owner: identity.principal };
          events.opened(messages ? frameChannel(channel, framing, { maxMessageBytes, gathering }) : channel, text);
        },
        failed: (error) => events.failed(error),
      });
    },
  };
}
