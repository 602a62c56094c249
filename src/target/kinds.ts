/** Makes a target of its options. Promises: what cannot be kept on this runtime is refused here, before anything is served. */
import { dial, type Dialled, type DialOptions, dialTls } from "../runtime/dial.ts";
import { echoChannel } from "./echo.ts";
import { frameChannel } from "./framing.ts";
import type { Opened, OpenRequest, Target, TargetOptions } from "./target.ts";

/** Throws a PipegateError (config) for a target that this runtime cannot serve. */
export function createTarget(name: string, options: TargetOptions): Target {
  if (options.kind === "builtin") return { name, open: (request) => Promise.resolve({ channel: echoChannel(request.messages), backEnd: "echo" }) };
  return { name, open: (request) => openStream(options, request) };
}

async function openStream(options: Exclude<TargetOptions, { readonly kind: "builtin" }>, request: OpenRequest): Promise<Opened> {
  const { channel: bytes, text } = await dialFor(options, { timeoutMs: options.dialTimeoutMs, signal: request.signal });
  const channel = request.messages ? frameChannel(bytes, { framing: options.framing, maxMessageBytes: request.maxMessageBytes }) : bytes;
  return { channel, backEnd: text };
}

function dialFor(options: Exclude<TargetOptions, { readonly kind: "builtin" }>, how: DialOptions): Promise<Dialled> {
  switch (options.kind) {
    case "tcp":
      return dial(options.addresses, how);
    case "unix":
      return dial([{ path: options.path }], how);
    case "tls":
      return dial(options.addresses, { ...how, tls: dialTls(options) });
  }
}
