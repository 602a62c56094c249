/**
 * The files that a config names, read and judged: our certificate and key, CAs, revocation lists, what TLS back ends need.
 * Promises: every fault is told, under the entry that names the file; looks at a config that is wrong elsewhere, too.
 */
import { Buffer } from "node:buffer";
import { isAbsolute, join } from "node:path";
import { PipegateError } from "../base/error.ts";
import { readAuthorities } from "../identity/authorities.ts";
import { examineTrust, type Trust } from "../identity/trust.ts";
import { checkCredentials, type CheckOptions } from "../tls/credentials.ts";
import type { Credentials } from "../tls/listener-options.ts";
import type { InForce } from "./config.ts";
import type { Finding, Findings } from "./cross.ts";
import { readBounded } from "../base/files.ts";
import { pathText, type Path } from "./problem.ts";

const MAX_PEM = 1 << 20;
const MAX_LIST = 32 << 20;

export interface ContentsOptions {
  /** Where relative paths start. */
  readonly folder: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Whether PEM texts may stand where files are named. */
  readonly inline: boolean;
  /** Leaves our certificates and keys, and what back ends need, unread. */
  readonly trustOnly?: boolean;
  /** As LoadOptions has it. */
  readonly inForce?: Partial<InForce> | undefined;
}

export interface Contents extends Findings {
  /** What was read, in the order of the config. */
  readonly files: readonly string[];
  /** Only when there are no problems. */
  text(path: Path): string;
  bytes(path: Path): Buffer;
  /** What is named there, as messages call it: the file. */
  label(path: Path): string;
  trust(): Trust;
}

interface Named {
  readonly path: Path;
  /** What it is called in messages. */
  readonly label: string;
  readonly bytes: Buffer;
}

class Reader {
  readonly problems: Finding[] = [];
  readonly warnings: Finding[] = [];
  readonly files: string[] = [];
  readonly read = new Map<string, Named>();
  readonly #options: ContentsOptions;

  constructor(options: ContentsOptions) {
    this.#options = options;
  }

  /** Undefined: nothing is named there, or it cannot be read, which is told. */
  async file(path: Path, named: unknown, { secret = false, largest = MAX_PEM } = {}): Promise<Named | undefined> {
    if (typeof named !== "string" || named === "" || named.includes("\0")) return undefined;
    if (named.includes("-----BEGIN ")) {
      if (!this.#options.inline) return this.problem(path, "expected the path of a file, got its text; write it into a file");
      return this.#keep({ path, label: pathText(path), bytes: Buffer.from(named) });
    }
    const file = isAbsolute(named) ? named : join(this.#options.folder, named);
    const found = await readBounded(file, { largest, secret });
    if (!found.ok) return this.problem(path, `${file} ${found.says}`);
    if (!this.files.includes(file)) this.files.push(file);
    return this.#keep({ path, label: file, bytes: found.bytes });
  }

  #keep(named: Named): Named {
    this.read.set(JSON.stringify(named.path), named);
    return named;
  }

  problem(path: Path, says: string): undefined {
    this.problems.push({ path, says });
  }
}

/** `shape`: what the schema made of the config; where the schema refused something, that is passed over. */
export async function readContents(shape: unknown, options: ContentsOptions): Promise<Contents> {
  const reader = new Reader(options);
  if (options.trustOnly !== true) await readOwn(reader, { shape, ...options });
  const trust = await readTrust(reader, { shape: at(shape, "trust"), ...options });
  const { problems, warnings, files, read } = reader;
  const named = (path: Path): Named => {
    const found = read.get(JSON.stringify(path));
    if (found === undefined) throw new PipegateError("internal", `${pathText(path)} was not read`);
    return found;
  };
  return {
    problems,
    warnings,
    files,
    bytes: (path) => named(path).bytes,
    label: (path) => named(path).label,
    text: (path) => named(path).bytes.toString("utf8"),
    trust: () => {
      if (trust === undefined) throw new PipegateError("internal", "no trust was built");
      return trust;
    },
  };
}

interface PartRead {
  readonly shape: unknown;
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly inForce?: Partial<InForce> | undefined;
}

async function readOwn(reader: Reader, { shape, now, inForce }: PartRead): Promise<void> {
  const check = { role: "gateway", now } as const;
  await readPair(reader, { path: ["identity"], holder: at(shape, "identity"), check, served: inForce?.credentials });
  for (const [name, target] of Object.entries(asMap(at(shape, "targets")))) {
    if (at(target, "tls") === undefined) continue;
    const before = inForce?.targets?.get(name);
    const served = before?.kind === "tls" ? before : undefined;
    const judge = (text: string): void => void (served?.ca.includes(text) === true || readAuthorities(text, { label: caLabel, now }));
    await readListed(reader, { path: ["targets", name, "ca"], named: at(target, "ca"), judge });
    await readPair(reader, { path: ["targets", name], holder: target, check: { role: "client", now }, served });
  }
}

async function readPair(
  reader: Reader,
  how: { readonly path: Path; readonly holder: unknown; readonly check: CheckOptions; readonly served: Partial<Credentials> | undefined },
): Promise<void> {
  const { path, holder, check, served } = how;
  const certificate = await reader.file([...path, "certificate"], at(holder, "certificate"));
  const key = await reader.file([...path, "key"], at(holder, "key"), { secret: true });
  const texts = { certificate: certificate?.bytes.toString("utf8"), key: key?.bytes.toString("utf8") };
  if (served !== undefined && texts.certificate === served.certificate && texts.key === served.key) return;
  const checked = checkCredentials(texts, check);
  for (const [named, fault] of [[certificate, checked.certificate] as const, [key, checked.key] as const])
    if (named !== undefined && fault !== undefined) reader.problem(named.path, `${named.label} ${fault.says}; ${fault.next}`);
  if (certificate !== undefined)
    for (const odd of checked.warnings) reader.warnings.push({ path: certificate.path, says: `${certificate.label} ${odd}` });
}

/** Undefined: something is wrong, which is told. In steps, for lists may be long. */
async function readTrust(reader: Reader, { shape, now, inForce }: PartRead): Promise<Trust | undefined> {
  const named = asList(at(shape, "ca"));
  const known = inForce?.trust;
  const judge = (text: string): void => void readAuthorities(text, { label: caLabel, now, known: known?.byFingerprint });
  const ca = await readListed(reader, { path: ["trust", "ca"], named, judge });
  const crl: Named[] = [];
  for (const [index, file] of asList(at(shape, "crl")).entries()) {
    const list = await reader.file(["trust", "crl", index], file, { largest: MAX_LIST });
    if (list !== undefined) crl.push(list);
  }
  if (ca.length === 0 || ca.length < named.length) return undefined; // without a CA its list would look foreign
  const onExpired = at(shape, "onExpired") === "warn" ? "warn" : "refuse";
  const examined = await examineTrust({ ca: ca.map(({ text }) => text), crl: crl.map(({ bytes }) => bytes), now, onExpired, known });
  if (examined.trust !== undefined) return examined.trust;
  for (const { entry, index, error } of examined.faults) {
    const { path, label } = (entry === "ca" ? ca : crl)[index]!;
    reader.problem(path, `${label} ${faultOf(error)}`);
  }
  return undefined;
}

/** What `faultOf` takes off again. */
const caLabel = "trust.ca[0]";

/** Those that `judge`, which throws a PipegateError, has nothing against. */
async function readListed(
  reader: Reader,
  { path, named, judge }: { readonly path: Path; readonly named: unknown; judge(text: string): void },
): Promise<(Named & { readonly text: string })[]> {
  const good: (Named & { readonly text: string })[] = [];
  for (const [index, file] of asList(named).entries()) {
    const authority = await reader.file([...path, index], file);
    if (authority === undefined) continue;
    const text = authority.bytes.toString("utf8");
    const fault = judged(() => judge(text));
    if (fault === undefined) good.push({ ...authority, text });
    else reader.problem(authority.path, `${authority.label} ${fault}`);
  }
  return good;
}

/** What the trust finds wrong, as what follows the name of the file. */
function judged(create: () => void): string | undefined {
  try {
    create();
    return undefined;
  } catch (error) {
    if (!(error instanceof PipegateError)) throw error;
    return faultOf(error);
  }
}

function faultOf({ message, next }: PipegateError): string {
  const what = message.replace(/^trust\.(?:ca|crl)\[\d+\]:? /, (label) => (label.endsWith(": ") ? "is refused: " : ""));
  return next === undefined ? what : `${what}; ${next}`;
}

function asMap(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : {};
}

function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function at(value: unknown, key: string): unknown {
  const map = asMap(value);
  return Object.hasOwn(map, key) ? map[key] : undefined;
}
