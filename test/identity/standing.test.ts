import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createTrust, judge, judgeAgain, judgeStanding, type Trust } from "../../src/identity/judge.ts";
import type { Proof } from "../../src/identity/proven.ts";
import type { OnExpired } from "../../src/identity/revocation.ts";
import { createTestCa, newKey, type Issued } from "../support/mint.ts";

const hour = 3_600_000;
const now = Date.now();
const name = { uri: "spiffe://dev/a", notAfter: now + 20 * hour } as const;
const life = { notAfter: now + 30 * hour };
const ca = createTestCa(life);
const other = createTestCa({ ...life, cn: "other" });

interface Trusted {
  readonly ca: readonly Issued[];
  readonly crl?: readonly Uint8Array[];
  readonly onExpired?: OnExpired;
}

const trusting = ({ ca: authorities, crl = [], onExpired }: Trusted): Trust =>
  createTrust({ ca: authorities.map(({ certificate }) => certificate), crl, now, onExpired });

function proofOf(chain: readonly Issued[], trust: Trust, { verifiedByRuntime = false } = {}): Proof {
  const verdict = judge(
    chain.map(({ der }) => der),
    trust,
    { now, verifiedByRuntime },
  );
  if (!verdict.ok) throw new Error(verdict.detail);
  return verdict.proof;
}

function standing(proof: Proof, trust: Trust, at: number = now): string {
  const verdict = judgeStanding(proof, trust, at);
  return verdict.ok ? "in" : `${verdict.reason}: ${verdict.detail}`;
}

describe("a peer that is connected", () => {
  const leaf = ca.issue(name);
  const proof = proofOf([leaf], trusting({ ca: [ca] }));

  test("stands under another trust that still has its CA, with the same proof", () => {
    const verdict = judgeStanding(proof, trusting({ ca: [other, ca], crl: [ca.crl({ revoked: ["0b"] }).der] }), now);
    expect(verdict.ok && verdict.proof).toBe(proof);
    expect(verdict.ok && verdict.identity).toBe(proof.identity);
  });

  test("has the proof also when it was remembered", () => {
    const trust = trusting({ ca: [ca] });
    const proven = proofOf([leaf], trust);
    const again = judgeAgain(leaf.fingerprint, trust, now);
    expect(again?.ok && again.proof).toBe(proven);
  });

  test("falls with its CA, and a foreign one of the same name does not help", () => {
    expect(standing(proof, trusting({ ca: [other] }))).toMatch(/^unknown_issuer: issued by CN=test CA, which is not trusted/);
    expect(standing(proof, trusting({ ca: [createTestCa(life)] }))).toMatch(/^unknown_issuer/);
  });

  test("stands under the renewed certificate of its CA, of the same key and name, and ends with that", () => {
    const privateKey = newKey();
    const old = createTestCa({ cn: "rolled", privateKey, notAfter: now + 2 * hour });
    const renewed = createTestCa({ cn: "rolled", privateKey, notAfter: now + 9 * hour });
    const first = proofOf([old.issue(name)], trusting({ ca: [old] }));
    expect(first.identity.notAfter).toBe(Math.floor((now + 2 * hour) / 1000) * 1000);
    const trust = trusting({ ca: [renewed] });
    const verdict = judgeStanding(first, trust, now + 3 * hour);
    if (!verdict.ok) throw new Error(verdict.detail);
    expect(verdict.identity).toEqual({ ...first.identity, notAfter: Math.floor((now + 9 * hour) / 1000) * 1000 });
    expect(standing(verdict.proof, trust, now + 10 * hour)).toMatch(/^cert_expired: a CA of its chain/);
  });

  test("falls with an intermediate of trust.ca unless it presented that itself", () => {
    const middle = ca.intermediate(life);
    const below = middle.issue(name);
    const both = trusting({ ca: [ca, middle] });
    expect(standing(proofOf([below], both), trusting({ ca: [ca] }))).toMatch(/^unknown_issuer/);
    const presented = proofOf([middle.issue(name), middle], both);
    expect(standing(presented, trusting({ ca: [ca] }))).toBe("in");
    expect(standing(presented, trusting({ ca: [other] }))).toMatch(/^unknown_issuer/);
  });

  test("that presented certificates of two roots stands by either", () => {
    const privateKey = newKey();
    const [one, two] = [ca.intermediate({ ...life, cn: "twin", privateKey }), other.intermediate({ ...life, cn: "twin", privateKey })];
    const crossed = proofOf([one.issue(name), two, createTestCa(), one], trusting({ ca: [ca] }));
    expect(standing(crossed, trusting({ ca: [other] }))).toBe("in");
    expect(standing(crossed, trusting({ ca: [createTestCa()] }))).toMatch(/^unknown_issuer/);
    // Who is revoked is one of the two ways up, not the leaf.
    const list = ca.crl({ revoked: [one.serial] }).der;
    expect(standing(crossed, trusting({ ca: [ca, other], crl: [list] }))).toBe("in");
    expect(standing(crossed, trusting({ ca: [ca], crl: [list] }))).toMatch(/^revoked/);
  });

  test("keeps of what it presented what may lead upwards, and not more than a bound", () => {
    const trust = trusting({ ca: [ca] });
    const middle = ca.intermediate(life);
    expect(proofOf([middle.issue(name), createTestCa({ cn: "stranger" }), middle, other.client("x")], trust).others.length).toBe(1);
    const privateKey = newKey();
    const large = { "1.2.3.4": { value: Buffer.alloc(20 << 10) } };
    const twins = [1, 2, 3].map(() => ca.intermediate({ ...life, cn: "twin", privateKey, extensions: large }));
    expect(proofOf([twins[2]!.issue(name), ...twins], trust).others.length).toBe(1);
  });

  test("is revoked, itself or its CA, by a list that came later", () => {
    const middle = ca.intermediate(life);
    const below = middle.issue(name);
    const chained = proofOf([below, middle], trusting({ ca: [ca] }));
    const listing = (by: typeof ca, serial: string) => trusting({ ca: [ca, middle], crl: [by.crl({ revoked: [serial] }).der] });
    expect(standing(proof, listing(ca, leaf.serial))).toBe(`revoked: serial ${leaf.serial}`);
    expect(standing(chained, listing(middle, below.serial))).toBe(`revoked: serial ${below.serial}`);
    expect(standing(chained, listing(ca, middle.serial))).toBe(`revoked: serial ${middle.serial}`);
    expect(standing(chained, listing(ca, ca.serial))).toBe(`revoked: serial ${ca.serial}`);
    expect(standing(chained, listing(ca, "0b"))).toBe("in");
  });

  test("falls when the list of its CA goes out of date, unless the config warns only", () => {
    const crl = [ca.crl({ nextUpdate: now + hour }).der];
    const [strict, lax] = [trusting({ ca: [ca], crl }), trusting({ ca: [ca], crl, onExpired: "warn" })];
    expect([standing(proof, strict), standing(proof, strict, now + 2 * hour), standing(proof, lax, now + 2 * hour)]).toEqual([
      "in",
      "revoked: the revocation list of its CA is out of date",
      "in",
    ]);
  });

  test("expires with itself and with its CA, and is of the future when the clock is set back", () => {
    const trust = trusting({ ca: [ca] });
    expect(standing(proof, trust, name.notAfter + 1000)).toMatch(/^cert_expired: the certificate expired/);
    const long = proofOf([ca.issue({ ...name, notAfter: now + 99 * hour })], trust);
    expect(long.until).toBe(Math.floor(life.notAfter / 1000) * 1000);
    expect(standing(long, trust, now + 31 * hour)).toMatch(/^cert_expired: a CA of its chain expired/);
    expect(standing(proof, trust, now - 1000 * 24 * hour)).toMatch(/^not_yet_valid/);
  });
});

describe("a peer whose chain OpenSSL alone has seen", () => {
  const hidden = ca.intermediate(life);
  const old = createTestCa({ cn: "old", notAfter: now + hour });
  const proof = proofOf([hidden.issue(name)], trusting({ ca: [ca] }), { verifiedByRuntime: true });

  test("stands while the CAs of that moment are there, also beside others", () => {
    expect(standing(proof, trusting({ ca: [ca] }))).toBe("in");
    expect(standing(proof, trusting({ ca: [other, ca] }))).toBe("in");
    const two = proofOf([hidden.issue(name)], trusting({ ca: [ca, other] }), { verifiedByRuntime: true });
    for (const left of [ca, other]) expect(standing(two, trusting({ ca: [left] }))).toMatch(/^unknown_issuer: .*cannot be proven again/);
    expect(standing(proof, trusting({ ca: [ca] }), name.notAfter + 1000)).toMatch(/^cert_expired/);
  });

  test("falls when one of them expires, for it may have been that one", () => {
    const both = trusting({ ca: [ca, old] });
    const two = proofOf([hidden.issue(name)], both, { verifiedByRuntime: true });
    expect([standing(two, both), standing(two, both, now + 2 * hour).split(":")[0]]).toEqual(["in", "unknown_issuer"]);
    expect(two.until).toBe(Math.floor((now + hour) / 1000) * 1000); // whoever waits for that moment knows it
    expect(two.identity.notAfter).toBe(name.notAfter - (name.notAfter % 1000));
  });

  test("does not need one that was over before it came", () => {
    const [both, at] = [trusting({ ca: [ca, old] }), now + 2 * hour];
    const verdict = judge([hidden.issue(name).der], both, { now: at, verifiedByRuntime: true });
    if (!verdict.ok) throw new Error(verdict.detail);
    expect(verdict.proof.until).toBeGreaterThan(at);
    expect([standing(verdict.proof, both, at), standing(verdict.proof, trusting({ ca: [ca] }), at)]).toEqual(["in", "in"]);
  });

  test("falls with the first revocation list, unless its intermediate is named now", () => {
    const crl = [ca.crl({ revoked: ["0b"] }).der];
    expect(standing(proof, trusting({ ca: [ca], crl }))).toMatch(/^unknown_issuer: .*connect again/);
    const verdict = judgeStanding(proof, trusting({ ca: [ca, hidden], crl }), now);
    expect(verdict.ok && verdict.proof.path.length).toBe(3);
    expect(standing(proof, trusting({ ca: [ca, hidden], crl: [ca.crl({ revoked: [hidden.serial] }).der] }))).toMatch(/^revoked/);
  });
});

test("judging a standing peer agrees with judging what it presented, whatever is trusted, revoked and past", () => {
  const [keyOfRoot, keyOfMiddle] = [newKey(), newKey()];
  const roots = [
    createTestCa({ cn: "A", privateKey: keyOfRoot, notAfter: now + 3 * hour }),
    createTestCa({ cn: "A", privateKey: keyOfRoot, notAfter: now + 9 * hour }),
    createTestCa({ ...life, cn: "B" }),
    createTestCa({ ...life, cn: "A" }),
  ];
  const twin = { cn: "M", privateKey: keyOfMiddle };
  const middles = [
    roots[0]!.intermediate({ ...twin, notAfter: now + 5 * hour }),
    roots[1]!.intermediate({ ...twin, ...life }),
    roots[2]!.intermediate({ ...twin, notAfter: now + 7 * hour }),
  ];
  const leaf = middles[0]!.issue(name);
  const serials = [leaf, ...middles, ...roots].map(({ serial }) => serial);
  const lists = [...roots, middles[0]!].flatMap((by) =>
    serials.flatMap((serial) => [by.crl({ revoked: [serial] }).der, by.crl({ revoked: [], nextUpdate: now + hour }).der]),
  );
  const anyTrust = fc.record({
    ca: fc.subarray([...roots, ...middles], { minLength: 1 }),
    crl: fc.subarray(lists, { maxLength: 3 }),
    onExpired: fc.constantFrom<OnExpired>("refuse", "warn"),
  });
  const build = (trusted: Trusted): Trust | undefined => {
    try {
      return trusting(trusted);
    } catch {
      return undefined; // a list of a CA that is not among them, an intermediate without its root
    }
  };
  let compared = 0;
  let stood = 0;
  fc.assert(
    fc.property(
      anyTrust,
      fc.array(anyTrust, { minLength: 1, maxLength: 8 }),
      fc.shuffledSubarray(middles),
      fc.constantFrom(...[0, 2, 4, 6, 8, 21].map((hours) => now + hours * hour)),
      (before, later, others, at) => {
        const trust = build({ ...before, crl: [] });
        if (trust === undefined) return;
        const chain = [leaf, ...others].map(({ der }) => der);
        const first = judge(chain, trust, { now, verifiedByRuntime: false });
        if (!first.ok) return;
        let { proof } = first;
        for (const trusted of later) {
          const next = build(trusted);
          if (next === undefined) continue;
          const stands = judgeStanding(proof, next, at);
          const fresh = judge(chain, next, { now: at, verifiedByRuntime: false });
          compared++;
          expect(stands.ok ? "in" : stands.reason).toBe(fresh.ok ? "in" : fresh.reason);
          if (!stands.ok) continue;
          stood++;
          proof = stands.proof;
          expect(stands.identity.principal).toBe(first.identity.principal);
        }
      },
    ),
    { numRuns: 400 },
  );
  expect(compared).toBeGreaterThan(50);
  expect(stood).toBeGreaterThan(5);
});
