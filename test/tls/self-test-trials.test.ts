/** Which trials the self-test makes: each is shown by a door that lets in that one alone. */
import { expect, test, vi } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import type { listen, Listener } from "../../src/tls/listener.ts";
import { selfTest } from "../../src/tls/self-test.ts";
import { doorOptions, handsOutSessions } from "../support/door-options.ts";
import { createTestCa } from "../support/mint.ts";

/** The place of the trial whose refusal the door keeps to itself, and how many there were. */
const trials = vi.hoisted(() => ({ letIn: Infinity, seen: 0 }));
vi.mock("../../src/tls/listener.ts", async (original) => {
  const real = await original<{ readonly listen: typeof listen }>();
  const lax: typeof listen = async (options, events) => {
    const door: Listener = await real.listen(options, events);
    const strict = door.expect.bind(door);
    door.expect = (probe) => strict({ ...probe, ended: (refusal) => probe.ended(trials.seen++ === trials.letIn ? undefined : refusal) });
    return door;
  };
  return { ...real, listen: lax };
});

const refused = [
  "no certificate",
  "a certificate of a foreign CA of the same name",
  "an expired certificate",
  "a certificate that is not valid yet",
  "a revoked certificate",
  "a server's certificate",
  ...(handsOutSessions ? ["a resumed session without a certificate"] : []),
  "a certificate of a CA that was removed",
  ...(handsOutSessions ? ["a resumed session under a CA that was removed"] : []),
];

test.each(["framed", "raw"])(
  "a %s door is tried with a good certificate, and with each that must be refused",
  async (kind) => {
    const served = { ...doorOptions(createTestCa()), ...(kind === "raw" ? { withoutAlpn: true } : {}) };
    const run = async (letIn: number): Promise<unknown> => {
      Object.assign(trials, { letIn, seen: 0 });
      return selfTest({ served: [served], open: () => Promise.resolve([]), clock: systemClock }).then(
        ({ probes }) => probes,
        ({ message }: Error) => message,
      );
    };
    expect(await run(Infinity)).toBe(1 + refused.length);
    const verdicts: unknown[] = [];
    for (let n = 1; n <= refused.length; n++) verdicts.push(await run(n));
    expect(verdicts).toEqual(refused.map((what) => `the self-test of the door failed: ${what} was let in`));
  },
  60_000,
);
