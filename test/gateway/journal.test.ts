import { expect, test } from "vitest";
import type { LogFields, Logger } from "../../src/base/log.ts";
import { silentLogger } from "../../src/base/log.ts";
import { Journal } from "../../src/journal.ts";
import { Metrics } from "../../src/metrics.ts";
import { identityOf } from "../support/identity.ts";
import { FakeClock } from "../support/fake-clock.ts";

const clock = new FakeClock();
const metrics = new Metrics();
const lines: LogFields[] = [];
const logger: Logger = { ...silentLogger, warn: (_event, fields = {}) => void lines.push(fields) };
const journal = new Journal(logger, { metrics, clock });
const refuse = (times: number): void => {
  for (let n = 0; n < times; n++) journal.refusal({ reason: "not_tls", source: `192.0.2.1:${n}` });
};
const told = (): number => lines.reduce((sum, line) => sum + (line["reason"] === undefined ? 0 : 1) + Number(line["suppressed"] ?? 0), 0);

test("refusals that were left out are told with the next line, or by themselves after 10 s, and all are counted", () => {
  refuse(150);
  expect([lines.length, told()]).toEqual([100, 100]);
  clock.advance(9_999);
  expect(lines.length).toBe(100);
  clock.advance(1);
  expect(lines.at(-1)).toEqual({ suppressed: 50 });
  refuse(130);
  clock.advance(50); // one more may be written
  refuse(1);
  expect(lines.at(-1)).toMatchObject({ reason: "not_tls", suppressed: 30 });
  expect([told(), metrics.refusals.get("not_tls")]).toEqual([281, 281]);
  clock.advance(60_000);
  expect([told(), clock.waiting]).toEqual([281, 0]);
});

test("whoever is kept out at the door is a line a second, and none is lost from the count", () => {
  const before = [lines.length, told()] as const;
  for (let n = 0; n < 30; n++) {
    journal.refusal({ reason: "rate_limited", source: "192.0.2.2:1" });
    clock.advance(100);
  }
  expect(lines.length).toBe(before[0] + 3);
  clock.advance(10_000);
  expect(told()).toBe(before[1] + 30);
});

test("a listener that cannot accept is said once a second, whatever the fault", () => {
  const said: LogFields[] = [];
  const errors = new Journal({ ...silentLogger, error: (_event, fields = {}) => void said.push(fields) }, { metrics, clock });
  for (let n = 0; n < 25; n++) {
    errors.troubled(new Error(`accept EMFILE ${n}`));
    clock.advance(100);
  }
  expect(said).toEqual([0, 10, 20].map((n) => ({ detail: `accept EMFILE ${n}` })));
});

test("a shadow rule that would have answered is said once a minute for each who asks, and for a thousand of them", () => {
  const said: LogFields[] = [];
  const shadows = new Journal({ ...silentLogger, info: (_event, fields = {}) => void said.push(fields) }, { metrics, clock });
  const rule = { clients: ["*"], targets: ["*"], limits: {}, line: 3, shadow: true };
  const ask = (target: string): void => shadows.shadow(rule, { connection: "c", identity: identityOf({ cn: "a" }), target });
  clock.advance(60_000);
  for (const target of ["db", "db", "web"]) ask(target);
  expect(said.map(({ target }) => target)).toEqual(["db", "web"]);
  for (let n = 0; n < 2_000; n++) ask(`t${n}`);
  expect(said.length).toBe(1_000);
  clock.advance(60_000);
  ask("db");
  expect(said.length).toBe(1_001);
});
