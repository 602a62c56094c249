/**
 * `pipegate reload`: has a running gateway load its config anew, and waits for what came of it. Promises: ends with 0 only when the new config
 * is in force; else every line of why not, and that the one before goes on serving.
 */
import { Command } from "commander";
import { PipegateError } from "../base/error.ts";
import { printable } from "../base/text.ts";
import type { Outcome } from "../gateway/reloader.ts";
import { longestExchangeMs } from "../runtime/http.ts";
import { askOverUnix } from "../runtime/unix-http.ts";
import { errorOf, findAdminSocket, type AdminFlags } from "./admin-socket.ts";
import { answer, mention } from "./terminal.ts";

const examples = `Examples:
  pipegate reload                                  the gateway of pipegate.yaml, or of demo, in this folder
  pipegate reload --admin unix:/run/pipegate/admin.sock

Exit status: 0 the new config is in force, 2 it was not taken and the one before goes on serving, 6 after a minute it was still loading.
`;

/** A large config with long revocation lists may wait for another load; the gateway says itself when it takes too long. */
const timeoutMs = longestExchangeMs + 5_000;
const maxBytes = 4 << 20;

export function reloadCommand(): Command {
  return new Command("reload")
    .description("have a running gateway load its config anew")
    .addHelpText("before", examples)
    .option("--admin <unix:path>", "the gateway's admin socket (default: PIPEGATE_ADMIN, the profile's, the config's)")
    .option("-c, --config <file>", "take the admin socket from this config")
    .option("--profile <name>", "take the admin socket from this profile")
    .action(runReload);
}

async function runReload(flags: AdminFlags): Promise<void> {
  const socket = await findAdminSocket(flags);
  mention(`asking ${socket}`);
  const { status, body } = await askOverUnix({ socket, path: "/reload", post: "", timeoutMs, maxBytes });
  if (status === 504) {
    throw new PipegateError("timed_out", "the gateway is still loading the config", { next: "look what came of it: pipegate status" });
  }
  const outcome = status === 200 || status === 409 ? readOutcome(body) : undefined;
  if (outcome === undefined) {
    const says = errorOf(body) ?? `the gateway behind ${socket} answered with status ${status}, and does not know of reloads`;
    throw new PipegateError("config", says, { next: "restart it with another config" });
  }
  if (!outcome.ok) {
    throw new PipegateError("config", "the config was not taken, and the one before goes on serving", {
      next: "mend it, then try again",
      details: outcome.lines,
    });
  }
  answer(printable(`reloaded: ${outcome.summary}`, 4096));
}

function readOutcome(body: string): Outcome | undefined {
  let read: unknown;
  try {
    read = JSON.parse(body);
  } catch {
    return undefined;
  }
  if (typeof read !== "object" || read === null) return undefined;
  const { ok, summary, lines } = read as { readonly ok?: unknown; readonly summary?: unknown; readonly lines?: unknown };
  if (ok === true && typeof summary === "string") return { ok, summary };
  return ok === false && Array.isArray(lines) ? { ok, lines: lines.map(String) } : undefined;
}
