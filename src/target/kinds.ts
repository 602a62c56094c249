/** Makes a target of its options. Promises: what cannot be kept on this runtime is refused here, before anything is served. */
import type { SocketAddress } from "../base/address.ts";
import { dial, dialTls, type DialTls } from "../runtime/dial.ts";
import { echoChannel } from "./echo.ts";
import { frameChannel } from "./framing.ts";
import { GatheringBudget } from "./gathering.ts";
import type { Opened, Target, TargetOptions } from "./target.ts";

type StreamOptions = Exclude<TargetOptions, { readonly kind: "builtin" }>;

/** Throws a PipegateError (config) for options that cannot be served. Targets that share a process should share a budget. */
export function createTarget(
  name: string,
  options: TargetOptions,
  { budget = new GatheringBudget() }: { readonly budget?: GatheringBudget } = {},
): Target {
  if (options.kind === "builtin") {
    return { name, open: (request) => Promise.resolve<Opened>({ channel: echoChannel(request), backEnd: "echo" }) };
  }
  return streamTarget(name, options, budget);
}

function streamTarget(name: string, options: StreamOptions, budget: GatheringBudget): Target {
  const addresses: readonly SocketAddress[] = options.kind === "unix" ? [{ kind: "unix", path: options.path }] : options.addresses;
  const tls: DialTls | undefined = options.kind === "tls" ? dialTls(options) : undefined;
  return {
    name,
    async open({ messages, maxMessageBytes, identity, signal }) {
      const { channel, text } = await dial(addresses, { timeoutMs: options.dialTimeoutMs, signal, ...(tls === undefined ? {} : { tls }) });
      const gathering = { budget, owner: identity.principal };
      return { channel: messages ? frameChannel(channel, options.framing, { maxMessageBytes, gathering }) : channel, backEnd: text };
    },
  };
}
