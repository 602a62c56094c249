/**
 * From a file, a text or a program's object to the Config that a gateway runs by. Promises: everything is judged, also every file that
 * is named, and all that is wrong is told at once (ConfigError), each with the line and column of the entry; nothing is half-taken.
 * Leaves to others: the shape (schema.ts), keys (unknown.ts), what fits together (cross.ts), reading (base/files.ts), the contents (contents.ts).
 */
import { availableParallelism } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import * as v from "valibot";
import { addressText, fitsSocket, MAX_SOCKET_PATH, type SocketAddress } from "../base/address.ts";
import type { Limits, Rule } from "../policy/rule.ts";
import { targetDefaults, type TargetOptions } from "../target/target.ts";
import {
  configDefaults,
  maxWorkers,
  type AuditConfig,
  type Config,
  type InForce,
  type ListenerConfig,
  type PenaltiesConfig,
  type TrustConfig,
} from "./config.ts";
import { readContents, type Contents } from "./contents.ts";
import { crossCheck, type Finding } from "./cross.ts";
import { readObject, readYaml, type Tree } from "./document.ts";
import { readBounded } from "../base/files.ts";
import { ConfigError, problemLine, type Path, type Problem } from "./problem.ts";
import { configSchema, type AuditShape, type ConfigShape, type ListenerShape, type PenaltiesShape, type TargetShape } from "./schema.ts";
import { unknownKeys } from "./unknown.ts";

export { ConfigError, type Place, type Problem } from "./problem.ts";

const MAX_CONFIG = 1 << 20;

export interface LoadOptions {
  /** Milliseconds since the epoch, for what expires. Default: now. */
  readonly now?: number;
  /** Of its trust nothing that has not changed is read again, and all the same it comes back itself; that it ended keeps nothing else out. */
  readonly inForce?: Partial<InForce> | undefined;
}

export interface LoadedConfig extends Config {
  /** As it was named. */
  readonly file: string;
  /** Every file that was read, the config first. */
  readonly files: readonly string[];
}

/** Reads and judges a config file and every file that it names. Rejects with a ConfigError that lists all that is wrong. */
export async function loadConfig(file: string, { now = Date.now(), inForce }: LoadOptions = {}): Promise<LoadedConfig> {
  const text = await readText(file);
  const config = await complete(judge(readYaml(text)), { file, folder: dirname(file), now, inline: false, inForce });
  return { ...config, file, files: [file, ...config.files] };
}

export interface FromOptions extends LoadOptions {
  /** Where relative paths start. Default: the current folder. */
  readonly folder?: string;
}

/**
 * The same from a plain object of the shape of the file: `{ listeners: [{ listen: "127.0.0.1:8443" }], ... }`, units and all.
 * Where the file names certificates and keys, PEM texts may stand. Rejects with a ConfigError.
 */
export async function configFrom(object: unknown, { now = Date.now(), folder = ".", inForce }: FromOptions = {}): Promise<Config> {
  const { files: _, ...config } = await complete(judge(readObject(object)), { file: "config", folder, now, inline: true, inForce });
  return config;
}

export interface ParsedConfig {
  readonly shape: ConfigShape;
  readonly warnings: readonly string[];
}

/** A config text judged by itself: no file is looked at. Throws a ConfigError. */
export function parseConfig(text: string, { file = "pipegate.yaml" }: { readonly file?: string } = {}): ParsedConfig {
  const { shape, problems, warnings } = judge(readYaml(text));
  if (problems.length > 0) throw new ConfigError(file, problems);
  return { shape: shape as ConfigShape, warnings: warnings.map((warning) => problemLine(file, warning)) };
}

async function readText(file: string): Promise<string> {
  const read = await readBounded(file, { largest: MAX_CONFIG });
  const fail = (says: string, place?: Problem["place"]): never => {
    throw new ConfigError(file, [{ place, path: [], says }]);
  };
  if (!read.ok)
    return fail(
      `the config ${read.says}${read.says === "does not exist" ? "; name another with -c FILE, or let pipegate demo write one" : ""}`,
    );
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(read.bytes); // a byte-order mark is left out
  } catch {
    return fail("the config is not UTF-8 text; save it as UTF-8");
  }
}

/**
 * `admin.listen` of a config file, `unix:/path`, by its text alone; what is wrong elsewhere in it does not matter, because the gateway that is
 * asked may run by what stood there before. Rejects with a ConfigError when it cannot be told.
 */
export async function readAdminListen(file: string): Promise<string | undefined> {
  const { shape, problems } = judge(readYaml(await readText(file)));
  if (problems.some(({ path }) => path.length === 0 || path[0] === "admin")) throw new ConfigError(file, problems);
  const listen = (shape as Partial<ConfigShape> | undefined)?.admin?.listen;
  return listen === undefined ? undefined : adminListen(listen, dirname(file));
}

/** `audit.file` of a config file, by its text alone. Rejects with a ConfigError when that is wrong. */
export async function readAuditFile(file: string): Promise<string | undefined> {
  const { shape } = parseConfig(await readText(file), { file });
  return shape.audit && (isAbsolute(shape.audit.file) ? shape.audit.file : join(dirname(file), shape.audit.file));
}

function adminListen(path: string, folder: string): string {
  return `unix:${isAbsolute(path) ? path : join(folder, path)}`;
}

/** What decides about a client, without what only the gateway itself needs. */
export interface LoadedPolicy extends Pick<Config, "trust" | "rules" | "warnings"> {
  readonly file: string;
  readonly targets: readonly string[];
}

/** As loadConfig, but our certificate and key, and those for back ends, are not read: for who may not read them. */
export async function loadPolicy(file: string, { now = Date.now(), inForce }: LoadOptions = {}): Promise<LoadedPolicy> {
  const judged = judge(readYaml(await readText(file)));
  const contents = await readContents(judged.shape, { folder: dirname(file), now, inline: false, trustOnly: true, inForce });
  const problems = [...judged.problems, ...contents.problems.map((finding) => placed(judged.tree, finding))];
  if (problems.length > 0) throw new ConfigError(file, problems);
  const shape = judged.shape as ConfigShape;
  const warnings = judged.warnings.map((warning) => problemLine(file, warning));
  return { file, trust: makeTrust(shape, contents), rules: makeRules(shape, judged.tree), targets: Object.keys(shape.targets), warnings };
}

interface Judged {
  readonly tree: Tree;
  /** A ConfigShape when there are no problems. */
  readonly shape: unknown;
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
}

function judge(tree: Tree): Judged {
  if (tree.value === undefined && tree.problems.length > 0) return { tree, shape: undefined, problems: tree.problems, warnings: [] };
  const result = v.safeParse(configSchema, tree.value);
  const problems: Problem[] = [...tree.problems];
  const unknown = unknownKeys(configSchema, tree.value);
  for (const { path, says } of unknown) problems.push({ place: tree.keyPlace(path), path, says });
  const meant = new Set(unknown.map((key) => JSON.stringify(key.meant)));
  const told = new Set(tree.problems.map((problem) => JSON.stringify(problem.path)));
  for (const issue of result.issues ?? []) {
    if (issue.type === "strict_object" && issue.expected === "never") continue; // unknownKeys tells them all
    const path = (issue.path ?? []).map(({ key }) => (typeof key === "number" ? key : String(key)));
    if (path.length > 0 && told.has(JSON.stringify(path))) continue; // it is what the document made of something worse
    if (issue.type === "strict_object" && meant.has(JSON.stringify(path))) continue; // it is there, misspelt
    const ofKey = issue.path?.at(-1)?.origin === "key" && issue.type !== "strict_object";
    problems.push({ place: ofKey ? tree.keyPlace(path) : tree.place(path), path, says: issue.message });
  }
  const found = crossCheck(result.output);
  return {
    tree,
    shape: result.output,
    problems: [...problems, ...found.problems.map((finding) => placed(tree, finding))],
    warnings: found.warnings.map((finding) => placed(tree, finding)),
  };
}

function placed(tree: Tree, { path, says }: Finding): Problem {
  return { place: tree.place(path), path: tree.trimmed(path), says };
}

interface CompleteOptions {
  readonly file: string;
  readonly folder: string;
  readonly now: number;
  readonly inline: boolean;
  readonly inForce: Partial<InForce> | undefined;
}

/** Reads what is named, and makes the Config. Files are judged also when the text is wrong elsewhere. */
async function complete(
  judged: Judged,
  { file, folder, now, inline, inForce }: CompleteOptions,
): Promise<Config & { readonly files: readonly string[] }> {
  const { tree } = judged;
  const contents = await readContents(judged.shape, { folder, now, inline, inForce });
  const found = [...contents.problems, ...socketPathProblems(judged.shape, folder)];
  const problems = [...judged.problems, ...found.map((finding) => placed(tree, finding))];
  if (problems.length > 0) throw new ConfigError(file, problems);
  const shape = judged.shape as ConfigShape;
  const inFolder = (path: string): string => (isAbsolute(path) ? path : join(folder, path));
  const { level = "info", format = "auto" } = shape.log ?? {};
  return {
    listeners: shape.listeners.map((listener) => makeListener(listener, inFolder)),
    credentials: { certificate: contents.text(["identity", "certificate"]), key: contents.text(["identity", "key"]) },
    trust: makeTrust(shape, contents),
    targets: new Map(Object.entries(shape.targets).map(([name, target]) => [name, makeTarget(target, { name, contents, inFolder })])),
    rules: makeRules(shape, tree),
    admin: shape.admin && { listen: adminListen(shape.admin.listen, folder) },
    log: { level, format },
    maxMessageBytes: shape.maxMessage ?? configDefaults.maxMessageBytes,
    selfTest: shape.selfTest ?? configDefaults.selfTest,
    penalties: makePenalties(shape.penalties),
    audit: shape.audit && makeAudit(shape.audit, inFolder),
    workers: shape.workers === "auto" ? Math.min(availableParallelism(), maxWorkers) : (shape.workers ?? configDefaults.workers),
    warnings: [...judged.warnings, ...contents.warnings.map((finding) => placed(tree, finding))].map((warning) =>
      problemLine(file, warning),
    ),
    files: contents.files,
  };
}

function makeListener({ listen, target, serverNames, alpn }: ListenerShape, inFolder: (path: string) => string): ListenerConfig {
  const address: SocketAddress = listen.kind === "unix" ? { kind: "unix", path: inFolder(listen.path) } : listen;
  const names = new Map(Object.entries(serverNames ?? {}).map(([name, wanted]) => [name.toLowerCase(), wanted]));
  return { listen: address, ...(target === undefined ? {} : { target }), serverNames: names, alpn: alpn ?? [] };
}

interface TargetParts {
  readonly name: string;
  readonly contents: Contents;
  inFolder(path: string): string;
}

function makeTarget(shape: TargetShape, { name, contents, inFolder }: TargetParts): TargetOptions {
  if ("builtin" in shape) return { kind: "builtin", builtin: shape.builtin };
  const stream = { framing: shape.framing ?? targetDefaults.framing, dialTimeoutMs: shape.dialTimeout ?? targetDefaults.dialTimeoutMs };
  if ("tcp" in shape) return { kind: "tcp", addresses: shape.tcp, ...stream };
  if ("unix" in shape) return { kind: "unix", path: inFolder(shape.unix), ...stream };
  const { certificate, key, serverName } = shape;
  return {
    kind: "tls",
    addresses: shape.tls,
    ca: (shape.ca ?? []).map((_, index) => contents.text(["targets", name, "ca", index])),
    ...(certificate === undefined ? {} : { certificate: contents.text(["targets", name, "certificate"]) }),
    ...(key === undefined ? {} : { key: contents.text(["targets", name, "key"]) }),
    ...(serverName === undefined ? {} : { serverName }),
    ...stream,
  };
}

function makePenalties(shape: PenaltiesShape | undefined): PenaltiesConfig {
  const { mode, thresholdMs, longestMs, exempt } = configDefaults.penalties;
  return {
    mode: shape?.mode ?? mode,
    thresholdMs: shape?.threshold ?? thresholdMs,
    longestMs: shape?.longest ?? longestMs,
    exempt: shape?.exempt ?? exempt,
  };
}

function makeAudit({ file, maxSize, keep, onFailure }: AuditShape, inFolder: (path: string) => string): AuditConfig {
  const { audit } = configDefaults;
  return {
    file: inFolder(file),
    maxBytes: maxSize ?? audit.maxBytes,
    keep: keep ?? audit.keep,
    onFailure: onFailure ?? audit.onFailure,
  };
}

function makeTrust({ trust: { ca, crl = [], maxStaleness, onExpired, deny = [] } }: ConfigShape, contents: Contents): TrustConfig {
  return {
    maxStalenessMs: maxStaleness ?? configDefaults.maxStalenessMs,
    onExpired: onExpired ?? configDefaults.onExpired,
    deny,
    ca: ca.map((_, index) => contents.text(["trust", "ca", index])),
    caFiles: ca.map((_, index) => contents.label(["trust", "ca", index])),
    crl: crl.map((_, index) => contents.bytes(["trust", "crl", index])),
    built: contents.trust(),
  };
}

function makeRules({ rules }: ConfigShape, tree: Tree): Rule[] {
  return rules.map(({ clients, targets, limits, shadow = false }, index) => {
    const given = Object.fromEntries(Object.entries(limits ?? {}).filter(([, value]) => value !== undefined)) as Limits;
    return { clients, targets, limits: given, line: tree.place(["rules", index])?.line ?? 0, shadow };
  });
}

/** A path that fits by itself may be too long once its folder stands before it. */
function socketPathProblems(shape: unknown, folder: string): Finding[] {
  const found: Finding[] = [];
  const look = (path: Path, socket: unknown): void => {
    if (typeof socket !== "string" || isAbsolute(socket)) return;
    const whole = join(folder, socket);
    if (!fitsSocket(whole))
      found.push({
        path,
        says: `${addressText({ kind: "unix", path: whole })}: a socket's path ends at ${MAX_SOCKET_PATH} bytes; choose a shorter one`,
      });
  };
  const { listeners, admin, targets } = (shape ?? {}) as { readonly [key: string]: unknown };
  if (Array.isArray(listeners)) {
    for (const [index, listener] of (listeners as readonly ({ readonly listen?: { readonly path?: unknown } } | null)[]).entries())
      look(["listeners", index, "listen"], listener?.listen?.path);
  }
  look(["admin", "listen"], (admin as { readonly listen?: unknown } | undefined)?.listen);
  for (const [name, target] of Object.entries((targets ?? {}) as Readonly<Record<string, { readonly unix?: unknown } | null>>))
    look(["targets", name, "unix"], target?.unix);
  return found;
}
