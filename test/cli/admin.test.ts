import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { explainBody, explainTo, readExplainBody, type ExplainAnswer } from "../../src/explain.ts";
import { PipegateError } from "../../src/base/error.ts";
import type { Outcome } from "../../src/gateway/reloader.ts";
import { createTrust, judge } from "../../src/identity/judge.ts";
import { createDenyList } from "../../src/policy/deny.ts";
import { createPolicy } from "../../src/policy/policy.ts";
import { askOverUnix, type UnixAnswer } from "../../src/runtime/unix-http.ts";
import { createTestCa } from "../support/mint.ts";
import { standInAdmin, type StandInAdmin } from "../support/stand-in-admin.ts";

const ca = createTestCa();
const alice = ca.client("alice");
let folder: string;
let socket: string;
let admin: StandInAdmin;
let reloading: () => Promise<Outcome>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pipegate-admin-"));
  socket = join(folder, "s");
  const rules = [{ clients: ["*"], targets: ["echo"], limits: { pipes: 3 }, line: 0 }];
  const ground = {
    trust: createTrust({ ca: [ca.certificate], crl: [], now: Date.now() }),
    deny: createDenyList([]),
    policy: createPolicy(rules),
    targets: ["echo"],
    file: undefined,
    now: Date.now(),
  };
  admin = await standInAdmin(socket, { ground: () => ground, reload: () => reloading() });
});
beforeEach(() => {
  reloading = async () => ({ ok: true, summary: "version 2" });
});
afterAll(async () => {
  admin.close();
  await rm(folder, { recursive: true });
});

function ask(path: string, post?: string): Promise<UnixAnswer> {
  return askOverUnix({ socket, path, timeoutMs: 20_000, maxBytes: 4 << 20, ...(post === undefined ? {} : { post }) });
}

describe("the admin socket", () => {
  test("is ready only while the gateway is", async () => {
    expect(await ask("/ready")).toEqual({ status: 200, body: '{"state":"ready"}\n' });
    for (const state of ["opening", "draining", "closed"] as const) {
      admin.state = state;
      expect(await ask("/ready")).toEqual({ status: 503, body: `{"state":"${state}"}\n` });
    }
    admin.state = "ready";
  });

  test("changes something by POST only, and shows something by GET only", async () => {
    for (const path of ["/reload", "/explain"]) expect((await ask(path)).status).toBe(405);
    for (const path of ["/status", "/metrics", "/ready"]) expect((await ask(path, "{}")).status).toBe(405);
    for (const path of ["/", "/Status", "/status/", "/__proto__"]) expect((await ask(path)).status).toBe(404);
  });

  test("answers others while a reload is under way, and tells its outcome at the end", async () => {
    let finish: ((outcome: Outcome) => void) | undefined;
    reloading = () => new Promise((resolve) => (finish = resolve));
    const reload = ask("/reload", "");
    await expect.poll(() => finish !== undefined).toBe(true);
    expect((await ask("/status")).status).toBe(200);
    finish!({ ok: false, lines: ["no"] });
    expect(await reload).toEqual({ status: 409, body: '{"ok":false,"lines":["no"]}\n' });
    reloading = async () => ({ ok: true, summary: "version 2" });
    expect(await ask("/reload", "{}")).toEqual({ status: 200, body: '{"ok":true,"summary":"version 2"}\n' });
  });

  test("explains by what is in force", async () => {
    const { status, body } = await ask("/explain", explainBody({ certificates: [alice.der], target: "echo" }));
    expect(status).toBe(200);
    const told = JSON.parse(body) as ExplainAnswer;
    expect(told).toMatchObject({
      allowed: true,
      limits: { pipes: 3 },
      rules: [{ verdict: "decides", says: expect.stringMatching(/^rule 1: answers/) }],
    });
  });

  test.each([
    "",
    "{}",
    "[]",
    "null",
    '{"certificates":["?"],"target":"echo"}',
    '{"certificates":[1],"target":"echo"}',
    '{"certificates":[],"target":1}',
  ])("says 400 to a question that is none: %j", async (body) => {
    expect(await ask("/explain", body)).toMatchObject({ status: 400, body: expect.stringContaining("the body is not a question") });
  });

  test("says what it thinks of no certificate, of junk and of too many", async () => {
    for (const certificates of [[], [Buffer.from("junk")], Array.from({ length: 100 }, () => alice.der)]) {
      const { status, body } = await ask("/explain", explainBody({ certificates, target: "echo" }));
      expect({ status, told: JSON.parse(body) as unknown }).toMatchObject({
        status: 200,
        told: { allowed: false, steps: [{ result: "fails" }, {}] },
      });
    }
  });

  test("says 413 to a question of more than 1 MiB", async () => {
    expect((await ask("/explain", explainBody({ certificates: [Buffer.alloc(1 << 20)], target: "echo" }))).status).toBe(413);
  });
});

describe("an explanation", () => {
  test("of a chain without its intermediate says that the gateway has proven it before, once it has", () => {
    const middle = ca.intermediate();
    const { der } = middle.client("x");
    const trust = createTrust({ ca: [ca.certificate], crl: [], now: Date.now() });
    const rules = [{ clients: ["*"], targets: ["echo"], limits: {}, line: 0 }];
    const ground = { trust, deny: createDenyList([]), policy: createPolicy(rules), targets: ["echo"], file: undefined, now: Date.now() };
    const issuerStep = (certificates: readonly Uint8Array[]): unknown => {
      const { allowed, steps } = explainTo({ certificates, target: "echo" }, ground);
      return { allowed, result: steps.find(({ step }) => step === "issuer")?.result };
    };
    expect(issuerStep([der])).toEqual({ allowed: false, result: "fails" });
    expect(issuerStep([der, middle.der])).toEqual({ allowed: true, result: "holds" });
    expect(issuerStep([der])).toEqual({ allowed: false, result: "fails" }); // to ask is not to prove
    judge([der, middle.der], trust, { now: Date.now(), verifiedByRuntime: false });
    expect(issuerStep([der])).toEqual({ allowed: true, result: "open" });
  });
});

describe("a question", () => {
  test("comes out as it went in", () => {
    const request = fc.record({ certificates: fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 })), target: fc.string() });
    fc.assert(
      fc.property(request, ({ certificates, target }) => {
        const read = readExplainBody(explainBody({ certificates, target }));
        expect(read.target).toBe(target);
        expect(read.certificates.map((der) => [...der])).toEqual(certificates.map((der) => [...der]));
      }),
      { numRuns: 300 },
    );
  });
  test("is read, or refused as wrong usage, whatever it is", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.json().map((certificates) => `{"certificates":[${certificates}],"target":"x"}`),
        ),
        (body) => {
          try {
            expect(typeof readExplainBody(body).target).toBe("string");
          } catch (error) {
            expect(error).toBeInstanceOf(PipegateError);
            expect(error).toMatchObject({ code: "usage" });
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});
