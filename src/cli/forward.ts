/**
 * `pipegate forward <listen> <target>`: a local port or unix socket becomes the target. Each local connection is one pipe; all share
 * one session, which is dialled again after it broke, and moved to a renewed certificate as soon as its files have changed. A break
 * reaches the local program as a reset, never as an end.
 */
import type { Socket } from "node:net";
import { Command } from "commander";
import { addressText, parseListen, type SocketAddress } from "../base/address.ts";
import type { Channel } from "../base/channel.ts";
import { systemClock, type Timer } from "../base/clock.ts";
import { PipegateError } from "../base/error.ts";
import { valueOf } from "../base/reading.ts";
import { requireTargetName, type StreamClient } from "../client.ts";
import type { ClientCredentials } from "../client/credentials.ts";
import { errorOf } from "../client/held-end.ts";
import { type Hope, Link, mayPass } from "../client/link.ts";
import { openDefaults } from "../client/types.ts";
import { joinPipe } from "../pipe/pipe.ts";
import { listenLocally } from "../runtime/local-listener.ts";
import { socketChannel } from "../runtime/socket-channel.ts";
import { type ClientFlags, dial, noticeTeller, prepare, withConnection } from "./connection.ts";
import { endingOf } from "./exit.ts";
import { RenewedCredentials, renewalText } from "./renewal.ts";
import type { Settings } from "./settings.ts";
import { complain, mention, say } from "./terminal.ts";

const examples = `Examples:
  pipegate forward 5432 db                        psql -h 127.0.0.1 -p 5432 reaches the target "db"
  pipegate forward unix:/tmp/redis.sock cache     redis-cli -s /tmp/redis.sock reaches the target "cache"
`;

/** How long a local connection waits for a gateway that is away. */
const waitMs = 5_000;
/** The same complaint is made once in so long. */
const repeatMs = 10_000;
/** Until a renewed certificate that was not taken is tried again: the gateway may be the one that has to learn something. */
const renewAgainMs = 30_000;

export function forwardCommand(): Command {
  const command = new Command("forward")
    .description("a local TCP port or unix socket becomes the target")
    .addHelpText("before", examples)
    .argument("<listen>", "PORT (on 127.0.0.1), HOST:PORT, or unix:PATH")
    .argument("<target>", "the target's name at the gateway");
  return withConnection(command).action(runForward);
}

/** `5432`, `0.0.0.0:5432`, `[::1]:5432`, `unix:/path`. */
export function readListen(text: string): SocketAddress {
  return valueOf(parseListen(/^\d+$/u.test(text) ? `127.0.0.1:${text}` : text), {
    text,
    fault: "is no address to listen on",
    next: "write a port, host:port, or unix:/path",
  });
}

async function runForward(listen: string, target: string, flags: ClientFlags): Promise<void> {
  const address = readListen(listen);
  requireTargetName(target);
  const settings = await prepare(flags);
  const stopped = stopSignal();
  const forwarder = new Forwarder(target, { flags, settings });
  const listener = await listenLocally(address, (socket) => forwarder.connection(socket));
  try {
    const first = await forwarder.start(stopped.signal);
    say(`pipegate: ${addressText(listener.address)} is now ${target} at ${first.gateway}; Ctrl-C ends it`);
    await Promise.race([forwarder.over, stopped.promise]);
  } catch (error) {
    if (!stopped.signal.aborted) throw error;
  } finally {
    listener.close();
    await forwarder.close();
  }
}

/** SIGINT and SIGTERM end the command in order; a second one ends it at once, as the system would. */
function stopSignal(): { readonly signal: AbortSignal; readonly promise: Promise<void> } {
  const controller = new AbortController();
  const promise = new Promise<void>((resolve) => {
    const stop = (): void => {
      for (const name of ["SIGINT", "SIGTERM"] as const) process.off(name, stop);
      controller.abort();
      resolve();
    };
    for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, stop);
  });
  return { signal: controller.signal, promise };
}

class Forwarder {
  /** Rejects when another try cannot succeed. */
  readonly over: Promise<void>;
  readonly #target: string;
  readonly #flags: ClientFlags;
  readonly #settings: Settings;
  readonly #credentials: RenewedCredentials;
  readonly #onNotice = noticeTeller();
  readonly #sockets = new Set<Channel>();
  readonly #said = new Map<string, number>();
  /** Of the last session that stood, and of the last attempt at one. */
  #inUse: ClientCredentials;
  #tried: ClientCredentials;
  #renewTimer: Timer | undefined;
  /** What was said of the renewal that failed. */
  #notTaken: string | undefined;
  #settle!: (error: PipegateError | undefined) => void;
  #link: Link<StreamClient> | undefined;
  #waiting: (() => void)[] = [];
  #wasAway = false;
  #closing = false;

  constructor(target: string, { flags, settings }: { readonly flags: ClientFlags; readonly settings: Settings }) {
    this.#target = target;
    this.#flags = flags;
    this.#settings = settings;
    this.#credentials = new RenewedCredentials(settings, { clock: keepAlive });
    this.#inUse = this.#tried = this.#credentials.newest;
    this.over = new Promise((resolve, reject) => {
      this.#settle = (error) => (error ? reject(error) : resolve());
    });
    this.over.catch(() => {});
  }

  async start(signal: AbortSignal): Promise<StreamClient> {
    const first = await this.#dial(signal);
    this.#link = new Link(first, {
      dial: (abort) => this.#dial(abort),
      hope: (error) => this.#hope(error),
      clock: keepAlive,
      events: {
        connected: () => {
          if (this.#wasAway) say(`pipegate: connected again to ${first.gateway}`);
          this.#wasAway = false;
          void this.#renew(); // they may have changed while it was dialled with those of before
        },
        away: (error, ms) => {
          if (!this.#wasAway) complain(`pipegate: ${error.message}; trying again`);
          else mention(`${error.message}; trying again in ${ms} ms`);
          this.#wasAway = true;
        },
        waiting: (error) => {
          this.#complain(`pipegate: ${error.message}; waiting for a renewed one in ${this.#settings.files.certificate}`);
          this.#wasAway = true;
        },
        over: (error) => this.#settle(error),
      },
    });
    for (const act of this.#waiting.splice(0)) act();
    this.#credentials.watch(() => void this.#renew());
    return first;
  }

  async #dial(signal: AbortSignal): Promise<StreamClient> {
    const { newest } = this.#credentials;
    this.#tried = newest;
    const connect = { ...this.#settings.connect, ...newest };
    const session = await dial({ ...this.#settings, connect }, { ...this.#flags, signal, onNotice: this.#onNotice });
    this.#took(newest);
    return session;
  }
  #took(credentials: ClientCredentials): void {
    if (credentials !== this.#inUse) say(renewalText(credentials, this.#inUse));
    this.#inUse = this.#tried = credentials;
    this.#notTaken = undefined;
  }

  /** A refusal is for the certificate that was shown; a newer one may lie there already, or come. */
  async #hope(error: PipegateError): Promise<Hope> {
    await this.#credentials.refresh();
    if (this.#credentials.newest !== this.#tried) return "again";
    return error.code === "cert_expired" ? "wait" : "end";
  }

  /** Moves to the newest credentials. */
  async #renew(): Promise<void> {
    this.#renewTimer?.cancel();
    const session = this.#link?.live;
    if (!session) return this.#link?.retry();
    const { newest } = this.#credentials;
    if (newest === this.#inUse || this.#closing) return;
    try {
      await session.renew(newest);
      this.#took(newest);
    } catch (error) {
      if (this.#closing || this.#link?.live !== session) return; // it is dialled with the newest ones anyway
      const known = error instanceof PipegateError ? error : new PipegateError("internal", String(error));
      const line = `pipegate: the renewed certificate is not taken: ${known.message}; the old one stays in use`;
      if (line !== this.#notTaken) complain(line);
      this.#notTaken = line;
      if (mayPass(known) || known.code === "not_yet_valid")
        this.#renewTimer = keepAlive.after(Math.max(renewAgainMs, known.retryAfter ?? 0), () => void this.#renew());
    }
  }

  connection(socket: Socket): void {
    const channel = socketChannel(socket, { broken: "cancelled" });
    this.#sockets.add(channel);
    if (this.#link) void this.#join(channel);
    else this.#waiting.push(() => void this.#join(channel));
  }

  async close(): Promise<void> {
    this.#closing = true; // what breaks from now on was meant
    this.#credentials.stop();
    this.#renewTimer?.cancel();
    for (const channel of this.#sockets) channel.reset({ reason: "cancelled" });
    await this.#link?.close();
  }

  async #join(channel: Channel): Promise<void> {
    const session = await this.#link?.session(waitMs);
    if (!session) {
      this.#complain(`pipegate: a local connection was reset: the gateway has been away for ${waitMs / 1000} s`);
      this.#sockets.delete(channel);
      channel.reset({ reason: "session_lost" });
      return;
    }
    await session.ready();
    const timeoutMs = this.#flags.timeout ?? openDefaults.timeoutMs;
    const stream = session.openStream(this.#target); // its name was judged at the start
    const late = systemClock.after(timeoutMs, () => {
      if (!stream.accepted) stream.reset({ reason: "target_timeout", detail: `no answer within ${timeoutMs / 1000} s` });
    });
    const closed = (broken: Parameters<Channel["reset"]>[0] | undefined): void => {
      late.cancel();
      this.#sockets.delete(channel);
      if (!broken || this.#closing) return;
      const line = endingOf(errorOf(broken)).line ?? "";
      if (broken.reason === "cancelled") mention(line);
      else this.#complain(stream.accepted ? `pipegate: a pipe broke: ${errorOf(broken).message}` : line);
    };
    joinPipe({ client: channel, target: stream }, { clock: systemClock, events: { closed } });
  }

  /** A program that connects in a ring must not flood the terminal. */
  #complain(line: string): void {
    const now = systemClock.now();
    if (now - (this.#said.get(line) ?? -repeatMs) < repeatMs) return;
    if (this.#said.size > 100) this.#said.clear();
    this.#said.set(line, now);
    complain(line);
  }
}

/** Timers that keep the process: between two attempts nothing else does. */
const keepAlive: typeof systemClock = {
  ...systemClock,
  after(ms, act) {
    const handle = setTimeout(act, Math.min(ms, 2 ** 31 - 1)); // beyond that it fires at once
    return { cancel: () => clearTimeout(handle) };
  },
};
