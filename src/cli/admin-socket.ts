/** Where the commands that ask a running gateway find its admin socket: flags, environment, profile, config, and what `demo` left here. */
import { PipegateError } from "../base/error.ts";
import { readAdmin } from "./settings.ts";

export interface AdminFlags {
  readonly admin?: string;
  readonly config?: string;
  readonly profile?: string;
}

/** The path of the socket. Throws a PipegateError `usage` or `config`. */
export async function findAdminSocket(flags: AdminFlags): Promise<string> {
  const { named, demo } = await readAdmin(flags);
  const admin = flags.admin ?? (flags.config === undefined ? (named ?? (await configAdmin()) ?? demo) : await configAdmin(flags.config));
  const path = admin?.replace(/^unix:/u, "") ?? "";
  if (path !== "") return path;
  throw new PipegateError("usage", "no admin socket is named", {
    next: "pass --admin unix:PATH, or -c with a config that has admin.listen",
  });
}

/** `admin.listen` of the config; without a file, of pipegate.yaml in this folder if there is one. Nothing that it names is read: who asks may not be allowed to. */
async function configAdmin(file?: string): Promise<string | undefined> {
  const { existsSync } = await import("node:fs");
  if (file === undefined && !existsSync("pipegate.yaml")) return undefined;
  const { readAdminListen } = await import("../config/load.ts");
  return readAdminListen(file ?? "pipegate.yaml");
}

/** The sentence of an answer that is none: `{"error":"..."}`. */
export function errorOf(body: string): string | undefined {
  try {
    const { error } = JSON.parse(body) as { readonly error?: unknown };
    return typeof error === "string" ? error : undefined;
  } catch {
    return undefined;
  }
}
