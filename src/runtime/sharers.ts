/**
 * Who else listens where this process does: `SO_REUSEPORT` lets any process of the same user join, and the system tells nobody. Read from
 * Linux's tables of listening sockets. Promises: what is named is another process's socket that takes connections from one of ours, or did a
 * moment ago; our own sockets never are. Where the tables cannot be read, or do not show our own sockets, nobody is named. Leaves to others:
 * when to look, what follows.
 */
import { closeSync, openSync, readdirSync, readlinkSync, readSync } from "node:fs";
import { addressText, parseV6 } from "../base/address.ts";

/** A listening socket. */
export interface ListeningRow {
  /** As the table has it, in hexadecimal; of an IPv4 address that came as IPv6 its own 8 digits. */
  readonly host: string;
  readonly port: number;
  readonly inode: string;
}

const TABLES = ["/proc/self/net/tcp", "/proc/self/net/tcp6"] as const;
const LISTENING = "0A";
const MAPPED = "0000000000000000FFFF0000";
const CHUNK = 64 << 10;

/** Of the listening sockets that were there last: whether one is ours. A number is not given twice. */
let known: ReadonlyMap<string, boolean> = new Map();

/**
 * The addresses of this process, of these ports, on which another one listens, too. `own`: the sockets of this process, asked for only where
 * a socket is new: a process of 100,000 connections has to stop for a second for that.
 */
export function sharedAddresses(ports: ReadonlySet<number>, own: () => ReadonlySet<string> = ownSockets): readonly string[] {
  if (ports.size === 0) return [];
  try {
    const rows = listening(ports);
    if (!rows.every(({ inode }) => known.has(inode))) known = lookUp(rows, { ours: own(), now: listening(ports) });
    const sure = rows.filter(({ inode }) => known.has(inode));
    const shared = sharedRows(sure, new Set(sure.flatMap(({ inode }) => (known.get(inode) === true ? [inode] : []))));
    return [...new Set(shared.map(({ host, port }) => addressText({ kind: "tcp", host: hostText(host), port })))];
  } catch {
    return []; // no such tables, or not for us
  }
}

/** One of ours that was closed between the two looks is no other's. */
function lookUp(
  rows: readonly ListeningRow[],
  { ours, now }: { readonly ours: ReadonlySet<string>; readonly now: readonly ListeningRow[] },
): ReadonlyMap<string, boolean> {
  const still = new Set(now.map(({ inode }) => inode));
  return new Map(rows.filter(({ inode }) => still.has(inode)).map(({ inode }) => [inode, ours.has(inode)]));
}

/** Those of `own` from which another socket takes connections: it has the same address, or one that goes first. */
export function sharedRows(rows: readonly ListeningRow[], own: ReadonlySet<string>): readonly ListeningRow[] {
  const others = rows.filter(({ inode }) => !own.has(inode));
  return rows.filter((row) => own.has(row.inode) && others.some((other) => takesFrom(row, other)));
}

function takesFrom(row: ListeningRow, other: ListeningRow): boolean {
  if (row.port !== other.port) return false;
  if (row.host === other.host) return true;
  return isAny(row.host) && other.host.length <= row.host.length; // an address goes before all addresses, IPv4 before both
}

function isAny(host: string): boolean {
  return /^0+$/.test(host);
}

/** The rows of a table that stand for listening sockets, which come first; `isWhole`: there are no more of them. */
export function parseRows(text: string): { readonly rows: readonly ListeningRow[]; readonly isWhole: boolean } {
  const rows: ListeningRow[] = [];
  for (const line of text.split("\n").slice(1, -1)) {
    const words = line.trim().split(/\s+/);
    if (words[3] !== LISTENING) return { rows, isWhole: true };
    const [host, port] = words[1]!.split(":") as [string, string];
    rows.push({ host: host.startsWith(MAPPED) ? host.slice(MAPPED.length) : host, port: Number.parseInt(port, 16), inode: words[9]! });
  }
  return { rows, isWhole: false };
}

function listening(ports: ReadonlySet<number>): readonly ListeningRow[] {
  return TABLES.flatMap((table) => readRows(table)).filter(({ port }) => ports.has(port));
}

/** Reads no further than it must: connections, of which there may be many, come behind. */
function readRows(table: string): readonly ListeningRow[] {
  const file = openSync(table, "r");
  try {
    const chunk = new Uint8Array(CHUNK);
    for (let text = ""; ;) {
      const count = readSync(file, chunk, 0, CHUNK, null);
      text += new TextDecoder().decode(chunk.subarray(0, count));
      const { rows, isWhole } = parseRows(text);
      if (isWhole || count === 0) return rows;
    }
  } finally {
    closeSync(file);
  }
}

function ownSockets(): ReadonlySet<string> {
  const inodes = readdirSync("/proc/self/fd").map((descriptor) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${descriptor}`))?.[1];
    } catch {
      return undefined; // closed meanwhile
    }
  });
  return new Set(inodes.filter((inode) => inode !== undefined));
}

/** Words of four bytes, each as this machine stores it. */
function hostText(host: string): string {
  const bytes = (host.match(/.{8}/g) ?? []).flatMap((word) =>
    (word.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16)).toReversed(),
  );
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, index) => ((bytes[2 * index]! << 8) | bytes[2 * index + 1]!).toString(16));
  return parseV6(groups.join(":")) ?? host;
}
