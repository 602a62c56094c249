import { describe, expect, test } from "vitest";
import { PipegateError } from "../../src/base/error.ts";
import { backoffMs, type Hope, Link } from "../../src/client/link.ts";
import type { Client, MessagePipe, Pipe } from "../../src/client/types.ts";
import { FakeClock } from "../support/fake-clock.ts";

class FakeSession implements Client {
  readonly gateway = "gw:1";
  readonly closed: Promise<void>;
  break!: (error: PipegateError) => void;
  #end!: () => void;
  constructor() {
    this.closed = new Promise((resolve, reject) => {
      this.#end = resolve;
      this.break = reject;
    });
  }
  open(): Promise<Pipe & MessagePipe> {
    return Promise.reject(new PipegateError("forbidden"));
  }
  renew(): Promise<void> {
    return Promise.reject(new PipegateError("unreachable"));
  }
  close(): Promise<void> {
    this.#end();
    return Promise.resolve();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

function setUp(
  outcomes: (PipegateError | FakeSession)[],
  hope?: (error: PipegateError) => Promise<Hope>,
): {
  link: Link<FakeSession>;
  clock: FakeClock;
  first: FakeSession;
  said: string[];
} {
  const clock = new FakeClock();
  const first = new FakeSession();
  const said: string[] = [];
  const link = new Link(first, {
    clock,
    random: () => 1,
    ...(hope ? { hope } : {}),
    dial: () => {
      const next = outcomes.shift() ?? new PipegateError("unreachable");
      said.push("dial");
      return next instanceof PipegateError ? Promise.reject(next) : Promise.resolve(next);
    },
    events: {
      connected: () => void said.push("connected"),
      away: (error, waitMs) => void said.push(`${error.code}, ${waitMs} ms`),
      waiting: (error) => void said.push(`waiting: ${error.code}`),
      over: (error) => void said.push(`over: ${error?.code}`),
    },
  });
  return { link, clock, first, said };
}

describe("the waits between attempts", () => {
  test("grow from 200 ms to 30 s, with full jitter", () => {
    expect([0, 1, 2, 3, 20, 1000].map((attempt) => backoffMs(attempt, 1))).toEqual([200, 400, 800, 1600, 30_000, 30_000]);
    expect(backoffMs(10, 0.5)).toBe(15_000);
    expect(backoffMs(10, 0)).toBe(1);
  });
});

describe("a link", () => {
  test("dials again after its session broke, waiting longer each time", async () => {
    const again = new FakeSession();
    const { link, clock, first, said } = setUp([new PipegateError("unreachable"), again]);
    expect(await link.session(0)).toBe(first);
    first.break(new PipegateError("session_lost"));
    await turn();
    clock.advance(200);
    await turn();
    clock.advance(400);
    await turn();
    expect(said).toEqual(["connected", "session_lost, 200 ms", "dial", "unreachable, 400 ms", "dial", "connected"]);
    expect(await link.session(0)).toBe(again);
  });
  test("gives a session that comes back to those who wait, and nothing to those whose time is over", async () => {
    const again = new FakeSession();
    const { link, clock, first } = setUp([again]);
    first.break(new PipegateError("draining"));
    await turn();
    const impatient = link.session(100);
    const patient = link.session(5000);
    clock.advance(100);
    expect(await impatient).toBeUndefined();
    clock.advance(100);
    expect(await patient).toBe(again);
  });
  test.each(["forbidden", "revoked", "wrong_usage", "cert_expired", "untrusted_gateway"] as const)(
    "does not try for ever against %s",
    async (code) => {
      const { link, clock, first, said } = setUp([new PipegateError(code)]);
      first.break(new PipegateError("session_lost"));
      await turn();
      clock.advance(200);
      await turn();
      expect(said.at(-1)).toBe(`over: ${code}`);
      expect(clock.waiting).toBe(0);
      expect(await link.session(1000)).toBeUndefined();
    },
  );
  test("tries again when the gateway went away before its welcome, which looks like a CA that it does not know", async () => {
    const { clock, first, said } = setUp([new PipegateError("unknown_issuer")]);
    first.break(new PipegateError("session_lost"));
    await turn();
    clock.advance(200);
    await turn();
    expect(said.at(-1)).toMatch(/^unknown_issuer, \d+ ms$/u);
    expect(clock.waiting).toBe(1);
  });
  test("waits as long as the gateway asks", async () => {
    const { clock, first, said } = setUp([new PipegateError("rate_limited", undefined, { retryAfter: 7000 })]);
    first.break(new PipegateError("session_lost"));
    await turn();
    clock.advance(200);
    await turn();
    expect(said.at(-1)).toBe("rate_limited, 7000 ms");
  });
  test("does not dial in a tight ring when each session breaks at once", async () => {
    const sessions = [new FakeSession(), new FakeSession(), new FakeSession()];
    const { clock, first, said } = setUp([...sessions]);
    first.break(new PipegateError("session_lost"));
    for (const [index, session] of sessions.entries()) {
      await turn();
      clock.advance(200 * 2 ** index);
      await turn();
      session.break(new PipegateError("session_lost"));
    }
    await turn();
    expect(said.filter((line) => line.includes(" ms"))).toEqual(["200", "400", "800", "1600"].map((ms) => `session_lost, ${ms} ms`));
  });
  test("waits for a word after a refusal that something else may mend, and dials at once when it comes", async () => {
    const again = new FakeSession();
    const { link, clock, first, said } = setUp([again], async () => "wait");
    first.break(new PipegateError("cert_expired"));
    await turn();
    expect(said).toEqual(["connected", "waiting: cert_expired"]);
    expect(clock.waiting).toBe(0);
    expect(link.live).toBeUndefined();
    link.retry();
    await turn();
    expect(said.slice(2)).toEqual(["dial", "connected"]);
    expect(link.live).toBe(again);
  });
  test("dials at once when something is different already, and asks about each refusal anew", async () => {
    const verdicts: Hope[] = ["again", "end"];
    const { first, said, clock } = setUp([new PipegateError("forbidden")], async () => verdicts.shift()!);
    first.break(new PipegateError("revoked"));
    await turn();
    expect(said).toEqual(["connected", "dial", "over: forbidden"]);
    expect(clock.waiting).toBe(0);
  });
  test("does not miss a word that comes while it asks, or waits for its next attempt", async () => {
    let answer!: (hope: Hope) => void;
    const again = new FakeSession();
    const { link, clock, first, said } = setUp(
      [new PipegateError("unreachable"), again],
      () => new Promise((resolve) => (answer = resolve)),
    );
    first.break(new PipegateError("cert_expired"));
    await turn();
    link.retry();
    answer("wait");
    await turn();
    expect(said.slice(1)).toEqual(["dial", "unreachable, 200 ms"]);
    link.retry();
    await turn();
    expect(said.slice(3)).toEqual(["dial", "connected"]);
    expect(clock.waiting).toBe(0);
    link.retry(); // there is a session: nothing to do
    await turn();
    expect(said).toHaveLength(5);
  });
  test("is over when closed, and leaves no timer", async () => {
    const { link, clock, first, said } = setUp([]);
    first.break(new PipegateError("session_lost"));
    await turn();
    await link.close();
    expect(said.at(-1)).toBe("over: undefined");
    expect(clock.waiting).toBe(0);
  });
});
