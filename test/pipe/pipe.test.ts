import { Buffer } from "node:buffer";
import { expect, test } from "vitest";
import type { Batch, Break, Channel, ChannelEvents } from "../../src/base/channel.ts";
import { joinPipe } from "../../src/pipe/pipe.ts";
import { FakeClock } from "../support/fake-clock.ts";

/** A channel that does what the test says. */
class Puppet implements Channel {
  readonly messages: boolean = false;
  events!: ChannelEvents;
  readonly written: Uint8Array[] = [];
  takes = true;
  ended = false;
  broken: Break | undefined;

  attach(events: ChannelEvents): void {
    this.events = events;
  }
  write(chunk: Uint8Array): boolean {
    this.written.push(chunk);
    return this.takes;
  }
  closeWrite(): void {
    this.ended = true;
  }
  reset(broken: Break): void {
    if (this.broken !== undefined) return;
    this.broken = broken;
    this.events.closed(broken);
  }
  pause(): void {}
  resume(): void {}
}

function joined(): { client: Puppet; target: Puppet; clock: FakeClock; closed: (Break | undefined)[] } {
  const [client, target, clock] = [new Puppet(), new Puppet(), new FakeClock()];
  const closed: (Break | undefined)[] = [];
  joinPipe({ client, target }, { clock, halfClosedTimeoutMs: 1_000, events: { closed: (broken) => void closed.push(broken) } });
  return { client, target, clock, closed };
}

test("a pipe that is open both ways may be silent for ever", () => {
  const { clock, closed } = joined();
  expect(clock.waiting).toBe(0);
  clock.advance(1e9);
  expect(closed).toEqual([]);
});

test("a pipe of which one direction has ended is reset once nothing moves, not before", () => {
  const { client, target, clock, closed } = joined();
  client.events.end();
  for (let n = 0; n < 5; n++) {
    clock.advance(900);
    target.events.data(Buffer.from("on the move"), false);
  }
  expect(closed).toEqual([]);
  clock.advance(2_000);
  expect([client.broken?.reason, target.broken?.reason]).toEqual(["idle_timeout", "idle_timeout"]);
  expect(closed.map((broken) => broken?.reason)).toEqual(["idle_timeout"]);
});

test("a pipe of which both directions have ended does not wait for ever for who does not read his last bytes", () => {
  const { client, target, clock, closed } = joined();
  target.events.end();
  client.events.data(Buffer.from("last"), false);
  client.events.end();
  clock.advance(3_000);
  expect(closed.map((broken) => broken?.reason)).toEqual(["idle_timeout"]);
});

test("taking what waited counts as moving", () => {
  const { client, target, clock, closed } = joined();
  client.takes = false;
  target.events.data(Buffer.from("much"), false);
  target.events.end();
  for (let n = 0; n < 5; n++) {
    clock.advance(900);
    client.events.drained();
  }
  expect(closed).toEqual([]);
});

test("a pipe that closed cleanly leaves no timer", () => {
  const { client, target, clock, closed } = joined();
  for (const end of [client, target]) end.events.end();
  for (const end of [client, target]) end.events.closed(undefined);
  expect(closed).toEqual([undefined]);
  expect(clock.waiting).toBe(0);
});

class MessagePuppet extends Puppet {
  override readonly messages = true;
  readonly batches: Batch[] = [];
  pauses = 0;

  writeBatch(batch: Batch): boolean {
    this.batches.push(batch);
    return this.takes;
  }
  override pause(): void {
    this.pauses++;
  }
}

test("messages that come together go on together and are counted one by one, and a sink that is full pauses their source", () => {
  const [client, target] = [new MessagePuppet(), new MessagePuppet()];
  const pipe = joinPipe({ client, target }, { clock: new FakeClock() });
  expect([client.events.takesBatches, target.events.takesBatches]).toEqual([true, true]);
  client.events.batch!({ chunk: Buffer.alloc(20), places: [4, 10, 12, 12, 14, 20] });
  expect([target.batches.length, client.pauses]).toEqual([1, 0]);
  target.takes = false;
  client.events.batch!({ chunk: Buffer.alloc(20), places: [0, 1] });
  expect([target.batches.length, client.pauses, pipe.inbound.waits]).toEqual([2, 1, "sink"]);
  expect([pipe.inbound.bytes, pipe.inbound.messages]).toEqual([13, 4]);
});

test("messages come one by one where a limit may have to hold one of them, or the other end takes none together", () => {
  const gate = { admit: () => true, cancel: () => {} };
  const [client, target] = [new MessagePuppet(), new MessagePuppet()];
  joinPipe({ client, target }, { clock: new FakeClock(), inbound: gate });
  expect([client.events.takesBatches, target.events.takesBatches]).toEqual([false, true]);
  const plain = new Puppet();
  const other = new MessagePuppet();
  joinPipe({ client: other, target: plain }, { clock: new FakeClock() });
  expect(other.events.takesBatches).toBe(false);
});
