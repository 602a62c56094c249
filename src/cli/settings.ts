/**
 * Where the client commands take the gateway and the certificate from, in this order: flag, environment, profile file, and what
 * `pipegate demo` left in certs/ of this folder. Promises: each setting comes from the first place that names it, certificate and key
 * always from the same one; every error names the file and the place that named it.
 * Profile files are lines of NAME=value with the names of the environment; relative paths start at the file's folder.
 */
import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { parseEnv } from "node:util";
import { PipegateError } from "../base/error.ts";
import { readBounded } from "../base/files.ts";
import type { ConnectOptions } from "../client/types.ts";

/** As commander gives the flags. */
export interface ConnectionFlags {
  readonly gateway?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly ca?: string;
  readonly serverName?: string;
  readonly profile?: string;
}

/** What the settings are read from besides the flags; tests pass their own. */
export interface Surroundings {
  environment(name: string): string | undefined;
  /** The current folder. */
  readonly folder: string;
}

export interface Settings {
  readonly connect: Pick<ConnectOptions, "gateway" | "certificate" | "key" | "ca" | "serverName">;
  /** Paths, for messages about what is in the files. */
  readonly files: { readonly certificate: string; readonly key: string; readonly ca: string };
  /** For --verbose: which setting came from where. */
  readonly places: readonly string[];
  /** What deserves a word but is no error. */
  readonly warnings: readonly string[];
}

/** Where `demo` leaves its profile. */
export const demoProfile: string = join("certs", "pipegate.env");
/** And its config. */
export const demoConfigFile: string = join("certs", "demo.yaml");

const names = ["GATEWAY", "CERT", "KEY", "CA", "SERVER_NAME", "ADMIN"] as const;
type Name = (typeof names)[number];

interface Layer {
  /** How a setting of this layer is called, for messages. */
  call(name: Name): string;
  /** Where relative paths start. */
  readonly base: string;
  readonly values: Partial<Record<Name, string>>;
  /** Whether pipegate demo left it here, and nobody named it. */
  readonly demo?: boolean;
}

export const surroundings: Surroundings = {
  environment(name) {
    try {
      return process.env[name] || undefined;
    } catch {
      return undefined; // Deno without the permission to read it
    }
  },
  folder: ".",
};

/** Throws a PipegateError `usage` or `config`. */
export async function readSettings(flags: ConnectionFlags, around: Surroundings = surroundings): Promise<Settings> {
  const layers = await readLayers(flags, around);
  const places: string[] = [];
  const find = (name: Name): { readonly value: string; readonly layer: Layer } | undefined => {
    const layer = layers.find((one) => one.values[name] !== undefined);
    if (!layer) return undefined;
    const value = layer.values[name]!;
    places.push(`${name.toLowerCase().replace("_", " ")}: ${value} (${layer.call(name)})`);
    return { value, layer };
  };
  const gateway = find("GATEWAY") ?? missing("gateway", "--gateway HOST:PORT", "GATEWAY");
  const certificate = find("CERT") ?? missing("certificate", "--cert FILE", "CERT");
  const ca = find("CA") ?? missing("CA", "--ca FILE", "CA");
  const serverName = find("SERVER_NAME");
  const certificatePath = inside(certificate.layer, certificate.value);
  const key = keyBeside(certificate.layer, certificatePath);
  const certificateText = await readText(certificatePath, certificate.layer.call("CERT")); // one by one: the first fault is the one to tell
  const keyText = await readText(key.path, key.call);
  const caText = await readText(inside(ca.layer, ca.value), ca.layer.call("CA"));
  return {
    connect: {
      gateway: gateway.value,
      certificate: certificateText,
      key: keyText,
      ca: caText,
      ...(serverName ? { serverName: serverName.value } : {}),
    },
    files: { certificate: certificatePath, key: key.path, ca: inside(ca.layer, ca.value) },
    places,
    warnings: await keyWarnings(key.path),
  };
}

/** The same files once more. Throws a PipegateError `config`. */
export async function readAgain({ files }: Settings): Promise<Pick<Settings["connect"], "certificate" | "key" | "ca">> {
  return {
    certificate: await readText(files.certificate, "read again"),
    key: await readText(files.key, "read again"),
    ca: await readText(files.ca, "read again"),
  };
}

/** The admin socket of the gateway that these settings speak of, `unix:/path`: named by the user, and left by the demo of this folder. */
export async function readAdmin(
  flags: { readonly admin?: string; readonly profile?: string },
  around: Surroundings = surroundings,
): Promise<{ readonly named: string | undefined; readonly demo: string | undefined }> {
  const layers = await readLayers(flags, around);
  const first = (of: readonly Layer[]): string | undefined => {
    const layer = of.find((one) => one.values.ADMIN !== undefined);
    return layer && `unix:${inside(layer, layer.values.ADMIN!.replace(/^unix:/u, ""))}`;
  };
  return {
    named: flags.admin ?? first(layers.filter(({ demo }) => demo !== true)),
    demo: first(layers.filter(({ demo }) => demo === true)),
  };
}

async function readLayers(flags: ConnectionFlags, around: Surroundings): Promise<Layer[]> {
  const flagNames: Readonly<Record<Name, string>> = {
    GATEWAY: "--gateway",
    CERT: "--cert",
    KEY: "--key",
    CA: "--ca",
    SERVER_NAME: "--server-name",
    ADMIN: "--admin",
  };
  const environment: Partial<Record<Name, string>> = {};
  for (const name of names) {
    const value = around.environment(`PIPEGATE_${name}`);
    if (value !== undefined) environment[name] = value;
  }
  const given: Record<Name, string | undefined> = {
    GATEWAY: flags.gateway,
    CERT: flags.cert,
    KEY: flags.key,
    CA: flags.ca,
    SERVER_NAME: flags.serverName,
    ADMIN: undefined,
  };
  const layers: Layer[] = [
    {
      call: (name) => flagNames[name],
      base: around.folder,
      values: Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    },
    { call: (name) => `PIPEGATE_${name}`, base: around.folder, values: environment },
  ];
  const wanted = flags.profile ?? around.environment("PIPEGATE_PROFILE");
  const profile = await readProfile(profilePath(wanted ?? "default", around), { required: wanted !== undefined });
  const demo = await readProfile(join(around.folder, demoProfile), { required: false });
  return [...layers, ...(profile ? [profile] : []), ...(demo ? [{ ...demo, demo: true }] : [])];
}

function profilePath(name: string, around: Surroundings): string {
  if (name.includes("/")) return resolve(around.folder, name);
  const home = around.environment("XDG_CONFIG_HOME") ?? join(around.environment("HOME") ?? homedir(), ".config");
  return join(home, "pipegate", `${name}.env`);
}

async function readProfile(path: string, { required }: { readonly required: boolean }): Promise<Layer | undefined> {
  const read = await readBounded(path, { largest, byHand: true });
  if (!read.ok) {
    if (!required && read.missing) return undefined;
    throw new PipegateError("config", `${path} (the profile) ${read.says}`, { next: "check the path" });
  }
  const values: Partial<Record<Name, string>> = {};
  for (const [full, value] of Object.entries(parseEnv(new TextDecoder().decode(read.bytes)))) {
    const name = full.replace(/^PIPEGATE_/u, "") as Name;
    if (!full.startsWith("PIPEGATE_") || !names.includes(name)) {
      throw new PipegateError("config", `${path}: unknown name ${full}`, {
        next: `known are ${names.map((one) => `PIPEGATE_${one}`).join(", ")}`,
      });
    }
    if (value !== undefined && value !== "") values[name] = value;
  }
  return { call: () => path, base: dirname(path), values };
}

function inside(layer: Layer, path: string): string {
  return isAbsolute(path) || layer.base === "." ? path : join(layer.base, path);
}

/** The key of the same place as the certificate, or the file that our CA writes beside it: NAME.pem, NAME-key.pem. */
function keyBeside(layer: Layer, certificatePath: string): { readonly path: string; readonly call: string } {
  const named = layer.values.KEY;
  if (named !== undefined) return { path: inside(layer, named), call: layer.call("KEY") };
  return {
    path: `${certificatePath.replace(/\.(?:pem|crt|cer)$/u, "")}-key.pem`,
    call: `beside ${layer.call("CERT")}; pass ${layer.call("KEY")} if it lies elsewhere`,
  };
}

function missing(what: string, flag: string, name: Name): never {
  throw new PipegateError("usage", `no ${what} is given`, {
    next: `pass ${flag}, set PIPEGATE_${name}, or run pipegate demo in this folder, which leaves its settings in certs/`,
  });
}

const largest = 1 << 20;

async function readText(path: string, call: string): Promise<string> {
  const read = await readBounded(path, { largest, byHand: true });
  if (read.ok) return new TextDecoder().decode(read.bytes);
  throw new PipegateError("config", `${path} (${call}) ${read.says}`, { next: "check the path" });
}

async function keyWarnings(path: string): Promise<string[]> {
  const { mode } = await stat(path);
  return process.platform !== "win32" && (mode & 0o077) !== 0 ? [`${path} can be read by other users of this host; chmod 600 ${path}`] : [];
}
