import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { createTrust, judge, judgeAgain } from "../../src/identity/judge.ts";
import * as der from "../support/der.ts";
import { createTestCa, ekuOids, extensionOids, newKey, type Issued, type TestCa, type TestCaOptions } from "../support/mint.ts";

const hour = 3_600_000;
const now = Date.now();
const name = { uri: "spiffe://dev/a" } as const;
const ca = createTestCa();

interface Presented {
  readonly chain: readonly Issued[];
  readonly trusted?: readonly Issued[];
  readonly at?: number;
  readonly verifiedByRuntime?: boolean;
}

function verdict({ chain, trusted = [ca], at = now, verifiedByRuntime = false }: Presented): string {
  const trust = createTrust({ ca: trusted.map(({ certificate }) => certificate), crl: [], now });
  const answer = judge(
    chain.map((one) => one.der),
    trust,
    { now: at, verifiedByRuntime },
  );
  return answer.ok ? "in" : answer.reason;
}

describe("a path", () => {
  test("is found through intermediates in any order, with strangers and the root among them", () => {
    const upper = ca.intermediate({ cn: "upper", pathLength: 1 });
    const lower = upper.intermediate({ cn: "lower" });
    const leaf = lower.issue(name);
    expect(verdict({ chain: [leaf, lower, upper] })).toBe("in");
    expect(verdict({ chain: [leaf, createTestCa(), upper, ca, lower] })).toBe("in");
    expect(verdict({ chain: [leaf, upper] })).toBe("unknown_issuer");
    expect(verdict({ chain: [lower.issue(name), lower, lower, upper, upper] })).toBe("in");
  });

  test("begins at the certificate that came first, whatever comes behind it", () => {
    expect(verdict({ chain: [createTestCa().client("x"), ca.client("good"), ca] })).toBe("unknown_issuer");
    expect(verdict({ chain: [ca, ca.client("good")] })).toBe("wrong_usage");
  });

  test("has five intermediates at most", () => {
    const descend = (from: TestCa, left: number): TestCa[] =>
      left === 0 ? [] : [from, ...descend(from.intermediate({ cn: `${left}`, pathLength: null }), left - 1)];
    const [, ...cas] = descend(ca, 7);
    expect(cas.length).toBe(6);
    expect(verdict({ chain: [cas[4]!.issue(name), ...cas] })).toBe("in");
    expect(verdict({ chain: [cas[5]!.issue(name), ...cas] })).toBe("unknown_issuer");
  });

  test("keeps to the length that every CA of it allows", () => {
    const below = (pathLength: number): string => {
      const root = createTestCa({ pathLength });
      const upper = root.intermediate({ cn: "upper", pathLength: 9 });
      const lower = upper.intermediate({ cn: "lower", pathLength: 0 });
      return verdict({ chain: [lower.issue(name), lower, upper], trusted: [root] });
    };
    expect([0, 1, 2].map(below)).toEqual(["unknown_issuer", "unknown_issuer", "in"]);
  });

  test("goes through CAs only: neither a client that signs, nor X.509 v1, is one", () => {
    const without = (value: Uint8Array | null) =>
      ca.intermediate({ extensions: { [extensionOids.basicConstraints]: value && { value, critical: true } } });
    const posing = [without(null), without(der.sequence()), without(der.sequence(der.boolean(false))), ca.intermediate({ version: 1 })];
    for (const one of posing) expect(verdict({ chain: [one.issue(name), one] })).toBe("unknown_issuer");
  });

  test("ends where CAs signed each other", () => {
    const [one, two] = [newKey(), newKey()];
    const strangers = { one: createTestCa({ cn: "one", privateKey: one }), two: createTestCa({ cn: "two", privateKey: two }) };
    const first = strangers.two.intermediate({ cn: "one", privateKey: one, pathLength: null });
    const second = strangers.one.intermediate({ cn: "two", privateKey: two, pathLength: null });
    expect(verdict({ chain: [first.issue(name), first, second, strangers.one, strangers.two] })).toBe("unknown_issuer");
  });

  test("is found by either certificate of a CA that has two: renewed, or under two roots", () => {
    const privateKey = newKey();
    const options: TestCaOptions = { cn: "twin", privateKey };
    const foreign = createTestCa({ cn: "foreign root" }).intermediate(options);
    const expired = ca.intermediate({ ...options, notBefore: now - 2 * hour, notAfter: now - hour });
    const good = ca.intermediate(options);
    const leaf = good.issue(name);
    for (const chain of [
      [leaf, foreign, expired, good],
      [leaf, good, foreign],
      [leaf, expired, good, foreign],
    ])
      expect(verdict({ chain })).toBe("in");
    expect(verdict({ chain: [leaf, foreign] })).toBe("unknown_issuer");
    expect(verdict({ chain: [leaf, foreign, expired] })).toBe("cert_expired");
  });

  test("is looked for with 16 checks of signatures, and not one more", () => {
    // Nothing but the signature tells these apart from the CA.
    const plain = { cn: "twins", extensions: { [extensionOids.subjectKeyIdentifier]: null, [extensionOids.authorityKeyIdentifier]: null } };
    const strays = Array.from({ length: 16 }, () => createTestCa(plain));
    const own = createTestCa(plain);
    const chain = [own.issue({ ...name, extensions: { [extensionOids.authorityKeyIdentifier]: null } })];
    expect(verdict({ chain, trusted: [...strays.slice(1), own] })).toBe("in");
    expect(verdict({ chain, trusted: [...strays, own] })).toBe("unknown_issuer");
  });

  test("goes by key identifiers and serials where certificates tell them", () => {
    const identifier = (...parts: Uint8Array[]) => ({
      extensions: { [extensionOids.authorityKeyIdentifier]: { value: der.sequence(...parts) } },
    });
    const serial = (hex: string) => der.contextBytes(2, Buffer.from(hex, "hex"));
    expect(verdict({ chain: [ca.issue({ ...name, ...identifier() })] })).toBe("in");
    expect(verdict({ chain: [ca.issue({ ...name, ...identifier(serial(ca.serial)) })] })).toBe("in");
    expect(verdict({ chain: [ca.issue({ ...name, ...identifier(serial("01")) })] })).toBe("unknown_issuer");
    expect(verdict({ chain: [ca.issue({ ...name, ...identifier(der.contextBytes(0, Uint8Array.of(1))) })] })).toBe("unknown_issuer");
  });

  test("refuses SHA-256 under a P-521 key, which Deno cannot verify", () => {
    const middle = ca.intermediate({ keyType: "p521" });
    const leaf = middle.issue(name);
    expect(verdict({ chain: [leaf, middle] })).toBe("in");
    const [sha512, sha256] = [der.oid("1.2.840.10045.4.3.4"), der.oid("1.2.840.10045.4.3.2")];
    const relabelled = Buffer.from(latin1(leaf.der).replaceAll(latin1(sha512), latin1(sha256)), "latin1");
    expect(verdict({ chain: [{ ...leaf, der: relabelled }, middle] })).toBe("weak_key");
  });
});

test("a CA that names usages, the root too, issues client certificates only when it names those", () => {
  const { clientAuth, serverAuth, any } = ekuOids;
  const below = (...oids: string[]): string => {
    const [middle, root] = [ca.intermediate(usages(...oids)), createTestCa(usages(...oids))];
    const answer = verdict({ chain: [middle.issue(name), middle] });
    if (answer === "in") expect(verdict({ chain: [root.issue(name)], trusted: [root] })).toBe("in");
    else expect(() => verdict({ chain: [], trusted: [root] })).toThrow("may not issue client certificates");
    return answer;
  };
  expect([below(clientAuth), below(serverAuth, clientAuth), below(serverAuth), below(any)]).toEqual([
    "in",
    "in",
    "wrong_usage",
    "wrong_usage",
  ]);
});

test("a leaf that names usages must name ours, and its key must be of a kind that both runtimes take", () => {
  expect(verdict({ chain: [ca.issue({ ...name, eku: ["any"] })] })).toBe("wrong_usage");
  expect(verdict({ chain: [ca.issue({ ...name, eku: ["any", "serverAuth", "clientAuth"] })] })).toBe("in");
  expect(verdict({ chain: [ca.issue({ ...name, keyType: "rsa-pss" })] })).toBe("weak_key");
});

describe("an intermediate in trust.ca", () => {
  const middle = ca.intermediate();
  const leaf = middle.issue(name);

  test("is known beside its root: clients need not present it", () => {
    expect(verdict({ chain: [leaf], trusted: [ca, middle] })).toBe("in");
    expect(verdict({ chain: [leaf], trusted: [middle, ca] })).toBe("in");
    expect(verdict({ chain: [leaf, middle], trusted: [ca, middle] })).toBe("in");
  });

  test("ends no path by itself, as OpenSSL has it: trust that the root lost is lost", () => {
    const short = createTestCa({ cn: "short", notAfter: now + hour });
    const long = short.intermediate({ notAfter: now + 9 * hour });
    const client = long.issue({ ...name, notAfter: now + 9 * hour });
    expect(verdict({ chain: [client], trusted: [short, long] })).toBe("in");
    expect(verdict({ chain: [client], trusted: [short, long], at: now + 2 * hour })).toBe("cert_expired");
  });

  test("without its root is refused from the start, for it lets nobody in", () => {
    const lower = ca.intermediate({ cn: "upper", pathLength: 1 }).intermediate({ cn: "lower" });
    const below = ca.intermediate({ cn: "low", pathLength: 0 });
    const refused: readonly (readonly [readonly Issued[], string])[] = [
      [[middle], "trust.ca[0] holds a CA of which no client would be believed, CN=test intermediate: issued by CN=test CA, which is"],
      [[createTestCa({ cn: "test CA" }), middle], "trust.ca[1] holds a CA of which no client"], // of the same name
      [[ca, middle, lower], "trust.ca[2] holds a CA of which no client would be believed, CN=lower: issued by CN=upper, which is not"],
      [[ca, below, below.intermediate({ cn: "x" })], "CN=x: issued by a CA too far below one that limits the length of its path"],
      [[ca, ca.intermediate({ cn: "old", hash: "sha1" })], "CN=old: signed with"],
      [[ca, ca.intermediate({ cn: "servers", ...usages(ekuOids.serverAuth) })], "CN=servers: issued by a CA that may not issue client"],
    ];
    for (const [trusted, words] of refused) expect(() => verdict({ chain: [], trusted })).toThrow(words);
  });

  test("may have another certificate that leads nowhere, and may be of tomorrow", () => {
    const privateKey = newKey();
    const foreign = createTestCa({ cn: "foreign root" }).intermediate({ cn: "twin", privateKey });
    const good = ca.intermediate({ cn: "twin", privateKey });
    for (const trusted of [
      [foreign, good, ca],
      [ca, good, foreign],
    ])
      expect(verdict({ chain: [foreign.issue(name)], trusted })).toBe("in");
    const next = createTestCa({ cn: "next", notBefore: now + hour });
    const under = next.intermediate({ notBefore: now + hour });
    expect(verdict({ chain: [ca.issue(name)], trusted: [ca, next, under] })).toBe("in");
  });

  test("is not taken for a root because it bears the root's name: an older key has signed it", () => {
    const rolled = ca.intermediate({ cn: "test CA" });
    expect(() => verdict({ chain: [], trusted: [rolled] })).toThrow("no client would be believed");
    expect(verdict({ chain: [rolled.issue(name)], trusted: [rolled, ca] })).toBe("in");
  });

  test("is judged like a presented one", () => {
    const short = ca.intermediate({ notAfter: now + hour });
    expect(verdict({ chain: [short.issue(name)], trusted: [ca, short], at: now + 2 * hour })).toBe("cert_expired");
  });
});

describe("OpenSSL's word", () => {
  test("does not help a leaf whose issuer is known and did not sign it, or may not", () => {
    const impostor = createTestCa({ extensions: { [extensionOids.subjectKeyIdentifier]: null } });
    const forged = impostor.issue({ ...name, extensions: { [extensionOids.authorityKeyIdentifier]: null } });
    expect(verdict({ chain: [forged], verifiedByRuntime: true })).toBe("unknown_issuer");
    const weak = ca.intermediate({ keyType: "rsa1024" });
    expect(verdict({ chain: [weak.issue(name), weak], verifiedByRuntime: true })).toBe("weak_key");
  });

  test("does not help a leaf that is not fit itself", () => {
    const hidden = ca.intermediate();
    const alone = (options: Parameters<TestCa["issue"]>[0]): string => verdict({ chain: [hidden.issue(options)], verifiedByRuntime: true });
    expect(alone(name)).toBe("in");
    expect(alone({ uri: "spiffe://dev/a b" })).toBe("bad_san");
    expect(alone({ ...name, role: "gateway" })).toBe("wrong_usage");
    expect(alone({ ...name, keyType: "rsa1024" })).toBe("weak_key");
    expect(alone({ ...name, hash: "sha1" })).toBe("weak_key");
    expect(alone({ ...name, notBefore: now - 2 * hour, notAfter: now - hour })).toBe("cert_expired");
  });
});

describe("a proof that is remembered", () => {
  const trusting = (...trusted: readonly Issued[]) => createTrust({ ca: trusted.map(({ certificate }) => certificate), crl: [], now });
  const options = { now, verifiedByRuntime: false } as const;

  test("is of one trust: another does not know it", () => {
    const leaf = ca.issue(name);
    const [one, other] = [trusting(ca), trusting(createTestCa({ cn: "other" }))];
    expect(judgeAgain(leaf.fingerprint, one, now)).toBeUndefined();
    expect(judge([leaf.der], one, options).ok).toBe(true);
    expect(judgeAgain(leaf.fingerprint, one, now)).toEqual(judge([leaf.der], one, options));
    expect(judgeAgain(leaf.fingerprint, other, now)).toBeUndefined();
    expect(judge([leaf.der], other, options)).toMatchObject({ reason: "unknown_issuer" });
  });

  test("is never of a leaf that was refused, or that OpenSSL alone has proven", () => {
    const trust = trusting(ca);
    const [bad, hidden] = [ca.issue({ uri: "spiffe://dev/a b" }), ca.intermediate().issue(name)];
    judge([bad.der], trust, options);
    expect(judge([hidden.der], trust, { now, verifiedByRuntime: true }).ok).toBe(true);
    for (const { fingerprint } of [bad, hidden]) expect(judgeAgain(fingerprint, trust, now)).toBeUndefined();
  });

  test("ends with the leaf, and with a CA of its path is looked for anew", () => {
    const privateKey = newKey();
    const short = ca.intermediate({ privateKey, notAfter: now + hour });
    const renewed = ca.intermediate({ privateKey });
    const leaf = renewed.issue({ ...name, notAfter: now + 3 * hour });
    const trust = trusting(ca);
    expect(judge([leaf.der, short.der], trust, options).ok).toBe(true);
    expect(judge([leaf.der, short.der], trust, { ...options, now: now + 2 * hour })).toMatchObject({ reason: "cert_expired" });
    expect(judgeAgain(leaf.fingerprint, trust, now + 2 * hour)).toBeUndefined();
    expect(judge([leaf.der, short.der, renewed.der], trust, { ...options, now: now + 2 * hour }).ok).toBe(true);
    expect(judgeAgain(leaf.fingerprint, trust, now + 2 * hour)?.ok).toBe(true);
    expect(judgeAgain(leaf.fingerprint, trust, now + 4 * hour)).toMatchObject({ reason: "cert_expired" });
  });
});

function usages(...oids: readonly string[]): TestCaOptions {
  return { extensions: { [extensionOids.extKeyUsage]: { value: der.sequence(...oids.map(der.oid)) } } };
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}
