import { expect, test } from "vitest";
import { LifeCycle, type Reloaded } from "../../src/gateway/life-cycle.ts";
import { Journal } from "../../src/journal.ts";
import { Metrics } from "../../src/metrics.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { keepingLogger, type LogLine } from "../support/gateway.ts";

interface Setup {
  readonly life: LifeCycle;
  readonly clock: FakeClock;
  readonly metrics: Metrics;
  /** What was said, a word each. */
  said(): string[];
}

function setUp(): Setup {
  const clock = new FakeClock();
  const metrics = new Metrics();
  const log: LogLine[] = [];
  const journal = new Journal(keepingLogger(log), { metrics, clock });
  return { life: new LifeCycle({ clock, journal, metrics }), clock, metrics, said: () => log.map(({ event }) => event) };
}

const nothing = (): Promise<void> => Promise.resolve();

async function serving(): Promise<Setup> {
  const setup = setUp();
  await setup.life.open(nothing, nothing);
  setup.life.serve();
  return setup;
}

/** A turn that goes on when it is told to. */
function held(): { readonly act: () => Promise<void>; readonly began: () => boolean; go(): void } {
  let go!: () => void;
  let began = false;
  const gate = new Promise<void>((resolve) => (go = resolve));
  return { act: () => ((began = true), gate), began: () => began, go: () => go() };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("turns are taken one at a time, in the order of the calls, whatever came of those before", async () => {
  const { life } = await serving();
  const [first, second] = [held(), held()];
  const order: string[] = [];
  const one = life.reload(first.act).then(() => order.push("one"));
  const broken = life.reload(() => Promise.reject(new Error("no such file"))).catch(() => order.push("broken"));
  const two = life.reload(second.act).then(() => order.push("two"));
  await settled();
  expect([first.began(), second.began()]).toEqual([true, false]);
  first.go();
  await broken;
  await settled();
  expect(second.began()).toBe(true);
  second.go();
  await Promise.all([one, two]);
  expect(order).toEqual(["one", "broken", "two"]);
});

test("in a drain no turn begins, also one that was asked for before", async () => {
  const { life } = await serving();
  const [under, waiting] = [held(), held()];
  const first = life.reload(under.act);
  const second = life.reload(waiting.act);
  await settled();
  const drained = life.drain(() => life.close(nothing));
  const third = life.reload(waiting.act);
  under.go();
  await first;
  await expect(second).rejects.toMatchObject({ code: "draining", message: "the gateway is draining: it takes no other config now" });
  await expect(third).rejects.toMatchObject({ code: "draining" });
  await drained;
  expect([waiting.began(), life.state]).toEqual([false, "closed"]);
  await expect(life.reload(waiting.act)).rejects.toMatchObject({ code: "draining" });
});

test("a drain waits for the turn under way, five seconds at most; asked twice it is one", async () => {
  const { life, clock } = await serving();
  const hanging = held();
  void life.reload(hanging.act);
  await settled();
  let drains = 0;
  const act = (): Promise<void> => Promise.resolve(void drains++);
  const drained = [life.drain(act), life.drain(act)];
  clock.advance(4_999);
  await settled();
  expect(drains).toBe(0);
  clock.advance(1);
  await Promise.all(drained);
  expect(drains).toBe(1);
});

test("a reload that failed stands until the next that is taken, is told once and counted each time", async () => {
  const { life, clock, metrics, said } = await serving();
  const same: Reloaded = { version: 1, changes: [] };
  life.reloadFailed(["no such file"]);
  const at = clock.wall();
  expect(life.failure).toEqual({ at, lines: ["no such file"] });
  clock.advance(5_000);
  life.reloadFailed(["no such file"]);
  expect([life.failure?.at, metrics.reloadFailures, said()]).toEqual([at + 5_000, 2, ["config refused"]]);
  life.reloadFailed(["another"]);
  expect(said()).toEqual(["config refused", "config refused"]);
  life.took(same, { odd: ["not told: nothing has changed"] });
  expect([life.failure, said().at(-1)]).toEqual([undefined, "config reloaded"]); // that all is well again is a line
  life.took(same, { odd: [] });
  expect(said().length).toBe(3);
  life.took({ version: 2, changes: ["rules"] }, { odd: ["a rule that nobody reaches"] });
  expect(said().slice(3)).toEqual(["config reloaded", "config"]);
});

test("what is closed while it opens closes all that it opened, and says that it was closed", async () => {
  const { life } = setUp();
  const opening = held();
  const closed: string[] = [];
  const close = (): Promise<void> => life.close(() => Promise.resolve(void closed.push(opening.began() ? "all" : "nothing")));
  const opened = life.open(opening.act, close);
  const first = close();
  opening.go();
  await expect(opened).rejects.toMatchObject({ code: "cancelled" });
  await first;
  expect(closed).toEqual(["all", "all"]); // what came after the first is closed by the second
  await expect(life.open(nothing, nothing)).rejects.toMatchObject({ code: "usage" });
});

test("an opening that fails is closed, and rejects with what went wrong", async () => {
  const { life } = setUp();
  const fault = new Error("the port is taken");
  await expect(
    life.open(
      () => Promise.reject(fault),
      () => life.close(nothing),
    ),
  ).rejects.toBe(fault);
  expect(life.state).toBe("closed");
});
