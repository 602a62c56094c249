import { describe, expect, test } from "vitest";
import type { Config } from "../../src/config/config.ts";
import type { ToLeader } from "../../src/workers/messages.ts";
import { Relay } from "../../src/workers/relay.ts";
import { FakeClock } from "../support/fake-clock.ts";

function setUp(audit: Config["audit"]) {
  const clock = new FakeClock();
  const posted: ToLeader[] = [];
  const config = { audit } as Config;
  const log = { level: "info", format: "json", colour: false } as const;
  return { clock, posted, relay: new Relay((message) => void posted.push(message), { log, config, clock }) };
}

describe("what a worker passes on", () => {
  test("has no audit log to go to while the leader is silent", () => {
    const { clock, relay } = setUp({ file: "audit.jsonl", maxBytes: 1, keep: 1, onFailure: "refuse" });
    for (let n = 0; n < 10; n++) {
      clock.advance(1_000);
      relay.heard();
      expect(relay.audit.failing).toBeUndefined();
    }
    clock.advance(5_001);
    expect(relay.audit.failing).toBe("the thread that writes it does not answer");
    relay.heard();
    expect(relay.audit.failing).toBeUndefined();
    relay.auditIs("the disk is full");
    expect(relay.audit.failing).toBe("the disk is full");
  });

  test("arrives in order: what goes by itself comes after all that was said before", () => {
    const { posted, relay } = setUp({ file: "audit.jsonl", maxBytes: 1, keep: 1, onFailure: "refuse" });
    relay.audit.record({ event: "pipe open", pipe: "1" });
    relay.logger.info("pipe open", { pipe: "1" });
    relay.audit.record({ event: "refused", reason: "forbidden" });
    expect(posted).toMatchObject([
      { kind: "lines", text: expect.stringContaining('"pipe":"1"'), audited: [{ event: "pipe open", pipe: "1" }] },
      { kind: "told", event: "refused", fields: { reason: "forbidden" } },
    ]);
  });
});
