import { describe, expect, test } from "vitest";
import { Journal } from "../../src/journal.ts";
import { Metrics } from "../../src/metrics.ts";
import { Teller } from "../../src/workers/told.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { keepingLogger, type LogLine } from "../support/gateway.ts";

function setUp() {
  const clock = new FakeClock();
  const log: LogLine[] = [];
  const logger = keepingLogger(log);
  const journal = new Journal(logger, { metrics: new Metrics(), clock });
  return { clock, log, teller: new Teller({ logger, journal, clock }) };
}
const refused = (fields: Record<string, string | number> = {}) => ({
  level: "warn" as const,
  event: "refused",
  fields: { reason: "forbidden", identity: "cn:a", fingerprint: "f", serial: "0a", ...fields },
});

describe("what workers tell", () => {
  test("is said once by all of them in its time, and again after it", () => {
    const { clock, log, teller } = setUp();
    const shadow = { level: "info" as const, event: "shadow rule", fields: { rule: 1, fingerprint: "f", target: "db", connection: "1" } };
    teller.tell(shadow);
    teller.tell({ ...shadow, fields: { ...shadow.fields, connection: "2" } }); // by another worker
    teller.tell({ ...shadow, fields: { ...shadow.fields, target: "other" } });
    expect(log.map(({ fields }) => fields["target"])).toEqual(["db", "other"]);
    clock.advance(60_000);
    teller.tell(shadow);
    expect(log).toHaveLength(3);
  });

  test("of a CA that has expired is said once, however often", () => {
    const { clock, log, teller } = setUp();
    const expired = { level: "warn" as const, event: "CA expired", fields: { subject: "CN=a", file: "ca.pem", fingerprint: "f" } };
    for (let n = 0; n < 2; n++) teller.tell(expired); // by each worker
    clock.advance(86_400_000);
    teller.tell(expired);
    teller.tell({ ...expired, fields: { ...expired.fields, fingerprint: "g" } });
    expect(log.map(({ fields }) => fields["fingerprint"])).toEqual(["f", "g"]);
  });

  test("of refusals is under one cap, with the number that was left out here and there", () => {
    const { clock, log, teller } = setUp();
    for (let n = 0; n < 130; n++) teller.tell(refused());
    expect(log).toHaveLength(100);
    clock.advance(1_000);
    teller.tell(refused({ suppressed: 7 }));
    expect(log.at(-1)).toMatchObject({ event: "refused", fields: { reason: "forbidden", identity: "cn:a", suppressed: 37 } });
  });

  test("of refusals that were left out is told soon, also when no other comes", () => {
    const { clock, log, teller } = setUp();
    teller.tell({ level: "warn", event: "refused", fields: { suppressed: 5 } });
    expect(log).toEqual([]);
    clock.advance(10_000);
    expect(log).toEqual([{ level: "warn", event: "refused", fields: { suppressed: 5 } }]);
  });
});
