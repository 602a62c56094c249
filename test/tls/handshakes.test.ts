import type { Socket } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Handshakes } from "../../src/tls/handshakes.ts";
import { sourceOf, type Source } from "../../src/tls/source.ts";
import { FakeClock } from "../support/fake-clock.ts";

const from = (last: number): Source => sourceOf({ remoteAddress: `192.0.2.${last}`, remotePort: 1 }, "tcp")!;
const socket = (): Socket => ({}) as Socket; // only who it is matters
const nothing = (): void => {};

describe("the handshakes under way", () => {
  test("answer at once whoever is refused while 256 wait already, and later again when those have gone", () => {
    const clock = new FakeClock();
    const handshakes = new Handshakes({ maxHandshakes: 512, maxHandshakesPerSource: 512 }, clock);
    let answers = 0;
    const refuse = (): void => handshakes.answerLater(socket(), { source: from(1), delayMs: 250, answer: () => answers++ });
    for (let n = 0; n < 256; n++) refuse();
    expect([answers, clock.waiting]).toEqual([0, 256]);
    refuse();
    expect([answers, clock.waiting]).toEqual([1, 256]);
    clock.advance(250);
    refuse();
    expect([answers, clock.waiting]).toEqual([257, 1]);
  });

  test("say once that one left, and nothing of one that is refused", () => {
    const handshakes = new Handshakes({ maxHandshakes: 2, maxHandshakesPerSource: 2 }, new FakeClock());
    const [one, other] = [socket(), socket()];
    handshakes.enter(one, { source: from(1), timeoutMs: 1_000, late: nothing });
    handshakes.answerLater(other, { source: from(2), delayMs: 250, answer: nothing });
    expect(handshakes.fullFor(from(3))).toBe("2 handshakes are under way");
    expect([handshakes.leave(one), handshakes.leave(one), handshakes.leave(other)]).toEqual([from(1), undefined, undefined]);
    expect(handshakes.fullFor(from(3))).toBeUndefined();
  });

  test("never count more than there are, nor fewer, and leave no timer behind", () => {
    const caps = { maxHandshakes: 12, maxHandshakesPerSource: 5 };
    const step = fc.tuple(fc.constantFrom("enter", "refuse", "leave", "wait"), fc.integer({ min: 1, max: 4 }), fc.nat(1_000));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const clock = new FakeClock();
        const handshakes = new Handshakes(caps, clock);
        const here = new Map<Socket, number>();
        for (const [what, last, number] of steps) {
          const bySource = [...here.values()].filter((one) => one === last).length;
          const isFull = here.size >= caps.maxHandshakes || bySource >= caps.maxHandshakesPerSource;
          expect(handshakes.fullFor(from(last)) !== undefined).toBe(isFull);
          if (what === "wait") clock.advance(number);
          else if (what === "leave") {
            const one = [...here.keys()][number % 12];
            if (one !== undefined) handshakes.leave(one);
            if (one !== undefined) here.delete(one);
          } else if (!isFull) {
            const one = socket();
            here.set(one, last);
            if (what === "refuse") handshakes.answerLater(one, { source: from(last), delayMs: 250, answer: () => here.delete(one) });
            else handshakes.enter(one, { source: from(last), timeoutMs: 900, late: () => (handshakes.leave(one), here.delete(one)) });
          }
          expect(clock.waiting).toBe(here.size);
        }
        expect(handshakes.clear().length).toBe(here.size);
        expect([clock.waiting, handshakes.fullFor(from(1))]).toEqual([0, undefined]);
      }),
      { numRuns: 200 },
    );
  });
});
