import { Buffer } from "node:buffer";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parseCertificate } from "../../src/identity/certificate.ts";
import { parseCrl } from "../../src/identity/crl.ts";
import { DerFault } from "../../src/identity/der.ts";
import { createTrust, judge, type Verdict } from "../../src/identity/judge.ts";
import { certificateCases } from "../support/certificate-cases.ts";
import { children, resign } from "../support/der-edit.ts";
import { Random } from "../support/frame-fuzz.ts";
import { createTestCa } from "../support/mint.ts";

const corpus = fileURLToPath(new URL("./corpus/certificate/", import.meta.url));
const seed = Number(process.env["FUZZ_SEED"] ?? 20_261_121);
const now = Date.now();
const ca = createTestCa();
const trust = createTrust({ ca: [ca.certificate], crl: [], now });
/** Of every kind, but the one that is large on purpose. */
const originals = certificateCases(ca)
  .cases.flatMap(({ chain }) => chain.map(({ der }) => Buffer.from(der)))
  .filter(({ length }) => length < 8_192);

/** Up to four changes: a byte, a bit, a cut, bytes doubled, removed or taken from another. */
function mutate(random: Random, pool: readonly Buffer[]): Buffer {
  let bytes: Buffer = Buffer.from(pool[random.next(pool.length)]!);
  for (let edits = 1 + random.next(4); edits > 0 && bytes.length > 0; edits--) {
    const at = random.next(bytes.length);
    const length = random.next(Math.min(32, bytes.length - at) + 1);
    const other = pool[random.next(pool.length)]!;
    const from = random.next(other.length);
    const splice = (piece: Uint8Array, removed: number): Buffer =>
      Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at + removed)]);
    const kind = random.next(12);
    if (kind < 5) bytes[at] = random.next(256);
    else if (kind < 7) bytes[at] = bytes[at]! ^ (1 << random.next(8));
    else if (kind === 7) bytes = splice(new Uint8Array(), length);
    else if (kind === 8) bytes = splice(bytes.subarray(at, at + length), 0);
    else if (kind === 9) bytes = bytes.subarray(0, at);
    else bytes = splice(other.subarray(from, from + length), random.next(2) * length);
  }
  return bytes;
}

/** Judges; an answer that is none, or slow, leaves its input in the corpus. */
function judged(chain: readonly Uint8Array[]): Verdict {
  const started = performance.now();
  try {
    const verdict = judge(chain, trust, { now, verifiedByRuntime: false });
    if (!verdict.ok && verdict.reason === "internal") throw new Error(verdict.detail);
    const took = performance.now() - started;
    if (took > 500) throw new Error(`${took.toFixed(0)} ms for one chain`);
    return verdict;
  } catch (error) {
    keep("chain", chain);
    throw error;
  }
}

function keep(kind: "chain" | "list", parts: readonly Uint8Array[]): void {
  mkdirSync(corpus, { recursive: true });
  const text = parts.map((part) => Buffer.from(part).toString("hex")).join("\n");
  writeFileSync(`${corpus}${kind}-${seed}-${text.length}.hex`, text);
}

test("20,000 mutations of real certificates get a verdict each, none is let in, and no time or memory goes anywhere", () => {
  const random = new Random(seed);
  const known = new Set(originals.map((original) => original.toString("hex")));
  const reasons = new Map<string, number>();
  const before = process.memoryUsage().heapUsed;
  for (let n = 0; n < 20_000; n++) {
    const chain = Array.from({ length: 1 + random.next(3) }, () => mutate(random, originals));
    const verdict = judged(chain);
    if (verdict.ok && !known.has(chain[0]!.toString("hex"))) keep("chain", chain);
    expect(verdict.ok && !known.has(chain[0]!.toString("hex"))).toBe(false);
    const reason = verdict.ok ? "in" : verdict.reason;
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  process.stderr.write(`fuzz: 20000 chains, ${JSON.stringify([...reasons])}\n`);
  expect(reasons.size).toBeGreaterThan(5);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(200 * 2 ** 20);
}, 120_000);

test("2,000 odd certificates that the CA did sign get a verdict each, and names only of plain characters", () => {
  const random = new Random(seed);
  const bodies = originals.map((original) => Buffer.from(children(original)[0]!));
  let letIn = 0;
  for (let n = 0; n < 2_000; n++) {
    const verdict = judged([resign(originals[0]!, ca.privateKey, () => mutate(random, bodies))]);
    if (!verdict.ok) continue;
    letIn++;
    const { uri, dns, principal, cn, serial, notBefore, notAfter } = verdict.identity;
    for (const name of [...dns, ...(uri === undefined ? [] : [uri])]) expect(name).toMatch(/^[!#-+\--~]+$/);
    for (const text of [principal, cn ?? "-"]) expect(text).toMatch(/^[^\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]+$/u);
    expect(serial).toMatch(/^(?:[0-9a-f]{2}){1,20}$/);
    expect(notBefore - 60_000 <= now && now <= notAfter).toBe(true);
  }
  expect(letIn).toBeGreaterThan(10); // else nothing of this was looked at
}, 120_000);

test("10,000 mutations of revocation lists and certificates are read, or refused with a DerFault", () => {
  const random = new Random(seed);
  const revoked = Array.from({ length: 20 }, (_, n) => ({ serial: `01${n.toString(16).padStart(6, "0")}`, reason: n % 6 }));
  const lists = [ca.crl(), ca.crl({ revoked }), ca.crl({ extensions: { "1.2.3": { value: Buffer.of(5, 0) } } })].map(({ der }) =>
    Buffer.from(der),
  );
  let read = 0;
  for (let n = 0; n < 10_000; n++) {
    const bytes = mutate(random, n % 2 === 0 ? lists : [...lists, ...originals]);
    for (const parse of [parseCrl, parseCertificate]) {
      try {
        parse(bytes);
        read++;
      } catch (error) {
        if (!(error instanceof DerFault)) keep("list", [bytes]);
        expect(error).toBeInstanceOf(DerFault);
      }
    }
  }
  expect(read).toBeGreaterThan(100);
}, 60_000);

test("what once broke judging does so no more", () => {
  for (const name of existsSync(corpus) ? readdirSync(corpus) : []) {
    const parts = readFileSync(`${corpus}${name}`, "utf8")
      .trim()
      .split("\n")
      .map((line) => Buffer.from(line, "hex"));
    const verdict = judge(parts, trust, { now, verifiedByRuntime: false });
    expect([name, verdict.ok, verdict.ok ? "" : verdict.reason === "internal"]).toEqual([name, false, false]);
  }
});
