import { expect, test, vi } from "vitest";
import type { Audit } from "../../src/audit/audit.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { startGateway } from "../support/gateway.ts";

vi.mock("../../src/audit/waiting.ts", () => ({
  beginAudit: (): Promise<Audit> =>
    Promise.resolve({
      record: () => {},
      failing: "the disk does not answer",
      head: { seq: 0, hash: "", file: "stuck" },
      lost: 0,
      close: () => new Promise(() => {}),
    }),
}));

test("an audit log on a disk that does not answer keeps a gateway from closing for five seconds and no longer", async () => {
  const clock = new FakeClock(Date.now());
  const audit = { file: "stuck", maxBytes: 1 << 20, keep: 1, onFailure: "continue" } as const;
  const { gateway } = await startGateway({ clock, config: { audit } });
  let isClosed = false;
  const closed = gateway.close().then(() => (isClosed = true));
  await expect.poll(() => clock.waiting).toBe(1);
  clock.advance(4_999);
  await new Promise((resolve) => setImmediate(resolve));
  expect(isClosed).toBe(false);
  clock.advance(1);
  await closed;
  expect(clock.waiting).toBe(0);
});
