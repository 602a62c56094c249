import { describe, expect, test } from "vitest";
import { PipegateError, type ErrorCode } from "../../src/base/error.ts";
import { reasons } from "../../src/base/reason.ts";
import { endingOf, PipeBroke } from "../../src/cli/exit.ts";

const statuses: readonly (readonly [number, readonly ErrorCode[]])[] = [
  [2, ["usage", "config"]],
  [3, ["unreachable", "untrusted_gateway", "not_tls", "session_lost"]],
  [
    4,
    [
      ...(["no_certificate", "unknown_issuer", "cert_expired", "not_yet_valid", "revoked", "bad_san", "wrong_usage", "weak_key"] as const),
      ...(["resumed_session", "alpn", "rate_limited", "too_many_connections", "too_many_pipes", "unknown_target", "forbidden"] as const),
      ...(["target_unavailable", "draining", "superseded"] as const),
    ],
  ],
  [5, ["cancelled"]],
  [6, ["timed_out", "handshake_timeout", "preface_timeout", "target_timeout"]],
];

describe("the exit status", () => {
  test.each(statuses.flatMap(([status, codes]) => codes.map((code) => [code, status] as const)))(
    "of %s before a pipe is open is %i",
    (code, status) => {
      expect(endingOf(new PipegateError(code)).status).toBe(status);
    },
  );
  test("of a pipe that was open and broke is 5, whatever the reason", () => {
    for (const reason of reasons) expect(endingOf(new PipeBroke(new PipegateError(reason))).status).toBe(5);
  });
  test("is never 0 for any error", () => {
    for (const reason of reasons) expect(endingOf(new PipegateError(reason)).status).toBeGreaterThan(1);
    expect(endingOf(new Error("x")).status).toBe(1);
    expect(endingOf("x").status).toBe(1);
  });
});

describe("the last line", () => {
  test("of a refusal says what was refused and what to do next", () => {
    expect(endingOf(new PipegateError("unknown_target")).line).toBe("pipegate: refused: there is no such target. Check its name.");
  });
  test("of a limit says when to come again", () => {
    const line = (retryAfter: number): string | undefined => endingOf(new PipegateError("rate_limited", undefined, { retryAfter })).line;
    expect(line(1500)).toBe("pipegate: refused: the client is over its rate. Try again after 1.5 s.");
    expect(line(1)).toMatch(/Try again after 0\.1 s\.$/u);
    expect(line(1401)).toMatch(/Try again after 1\.5 s\.$/u);
  });
  test("of a broken pipe says that it broke, or nothing when our reader left", () => {
    const error = new PipegateError("target_reset");
    expect(endingOf(new PipeBroke(error)).line).toMatch(/^pipegate: the pipe broke: the target broke the connection off\./u);
    expect(endingOf(new PipeBroke(error, { quietly: true }))).toEqual({ status: 5, line: undefined });
  });
});
